"""Which rows go into which step. Rows of like length share a batch, so little is spent on padding.

The order is a function of (seed, epoch) alone: a run that resumes at step k sees the batches it would have seen. Every
batch has `batch` rows (the last of an epoch may have fewer), so the number of steps is the classic recipe's.
"""

from collections.abc import Sequence

import torch

_ROUNDS = 7_368_787  # keeps the draws of `balanced` apart from the shuffles of `epoch_batches`
_POOL = 50  # batches that are sorted together: enough to even out lengths, few enough to keep epochs different


def epoch_batches(
    lengths: Sequence[int],
    batch: int,
    seed: int,
    epoch: int,
    rows: Sequence[int] | None = None,
    *,
    least: int = 1,
) -> list[list[int]]:
    """Return the row indices of each batch of one epoch; `lengths` are tokens a row, `rows` which to take.

    No batch has fewer than `least` rows, 1 or 2: BatchNorm needs two. A last row that is left alone gets one of the
    batch before it, which keeps it too where it would be alone then. The number of batches stays the same.
    """
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + epoch)
    order = torch.randperm(len(lengths) if rows is None else len(rows), generator=generator).tolist()
    if rows is not None:
        order = [rows[place] for place in order]
    batches: list[list[int]] = []
    for start in range(0, len(order), _POOL * batch):
        pool = sorted(order[start : start + _POOL * batch], key=lambda i: lengths[i])
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    if len(batches) > 1 and len(batches[-1]) < least:
        whole = batches[-2]
        batches[-1] = [whole[-1], *batches[-1]]
        batches[-2] = whole[:-1] if len(whole) > least else whole
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in shuffled]


def balanced(classes: Sequence[int], seed: int, epoch: int) -> list[int]:
    """Return as many row indices as there are rows, of every class that is there as many as of any other.

    A class's rows come in whole rounds, each shuffled anew, so that none comes twice more often than another of its
    class; of a common class an epoch sees a part. `classes` has the class of each row. What is left over where the
    classes do not divide the rows goes to classes drawn by chance.
    """
    generator = torch.Generator().manual_seed((seed + 1) * _ROUNDS + epoch)
    members: dict[int, list[int]] = {}
    for row, owner in enumerate(classes):
        members.setdefault(owner, []).append(row)
    share, over = divmod(len(classes), max(1, len(members)))
    lucky = set(torch.randperm(len(members), generator=generator)[:over].tolist())
    found: list[int] = []
    for place, owner in enumerate(sorted(members)):
        rows, wanted = members[owner], share + (place in lucky)
        drawn: list[int] = []
        while len(drawn) < wanted:
            drawn += [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
        found += drawn[:wanted]
    return found


def scoring_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return batches of at most about `tokens` padded tokens, longest rows first, for reading without learning."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def padding_waste(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Return the fraction of the padded tokens that is padding."""
    padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
    return 1.0 - sum(lengths[i] for b in batches for i in b) / padded if padded else 0.0
