"""Rows of tokens laid end to end, so that nothing is computed for padding; each row sees itself alone.

Positions begin anew with each row, by which transformers' attention knows where one ends: the mask is block-diagonal.
Rows of about one length lie below one another instead: that costs less attention, and next to no padding.
"""

from collections.abc import Sequence

import torch

IGNORED = -100
_ROUND = 8
WIDTH = 512  # of a pack; one row may be longer
_WASTE = 0.06  # of the tokens, that may be padding where rows lie below one another


def packs(lengths: Sequence[int], width: int = WIDTH) -> list[list[int]]:
    """Return which rows share a pack: the longest first, each where it still fits."""
    widest = max(width, *lengths)
    made: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((k for k, free in enumerate(room) if free >= lengths[i]), None)
        if place is None:
            made.append([])
            room.append(widest)
            place = len(made) - 1
        made[place].append(i)
        room[place] -= lengths[i]
    return made


def packed(
    rows: Sequence[Sequence[int]], starts: Sequence[int], earlier: Sequence[Sequence[tuple[int, int]]] = ()
) -> dict[str, torch.Tensor]:
    """Return input_ids, position_ids, labels and rows (packs x width, int64).

    What comes before a row's start is not learned, but for the (start, end) of its `earlier` answers.
    `rows` says which row a token is of, -1 for what fills up. Rows of about one length have a pack each.
    """
    lengths = [len(row) for row in rows]
    alike = sum(lengths) >= (1 - _WASTE) * len(rows) * max(lengths)
    made = [[i] for i in range(len(rows))] if alike else packs(lengths)
    width = max(sum(lengths[i] for i in pack) for pack in made)
    width = width if alike else -(-width // _ROUND) * _ROUND
    ids = torch.zeros(len(made), width, dtype=torch.long)
    positions = torch.zeros(len(made), width, dtype=torch.long)
    labels = torch.full((len(made), width), IGNORED, dtype=torch.long)
    owners = torch.full((len(made), width), -1, dtype=torch.long)
    for k, pack in enumerate(made):
        at = 0
        for i in pack:
            row = torch.tensor(rows[i], dtype=torch.long)
            end = at + len(row)
            ids[k, at:end], positions[k, at:end], owners[k, at:end] = row, torch.arange(len(row)), i
            labels[k, at + starts[i] : end] = row[starts[i] :]
            for first, last in earlier[i] if earlier else ():
                labels[k, at + first : at + last] = row[first:last]
            at = end
        positions[k, at:] = torch.arange(width - at)
    return {"input_ids": ids, "position_ids": positions, "labels": labels, "rows": owners}


def padded(
    rows: Sequence[Sequence[int]], starts: Sequence[int], earlier: Sequence[Sequence[tuple[int, int]]] = ()
) -> dict[str, torch.Tensor]:
    """Return input_ids, attention_mask, labels and rows (rows x width) as `packed` does, each row filled up on its
    right: for models that would let a row of a pack see the one before it.
    """
    width = -(-max(len(row) for row in rows) // _ROUND) * _ROUND
    shape = (len(rows), width)
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels, owners = torch.full(shape, IGNORED, dtype=torch.long), torch.full(shape, -1, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)], owners[i, : len(row)] = torch.tensor(row, dtype=torch.long), 1, i
        for first, last in (*(earlier[i] if earlier else ()), (starts[i], len(row))):
            labels[i, first:last] = ids[i, first:last]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "rows": owners}
