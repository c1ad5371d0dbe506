"""Row by row, what differs between two tables of the same task."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sft_magics.core.records import Dataset, DatasetDiff, RowChange

if TYPE_CHECKING:
    from pandas import DataFrame

EXAMPLES = 5  # of each kind of change
_LONGEST = 600
_Place = tuple[str, str]  # label, split


def compare(before: Dataset, old: "DataFrame", after: Dataset, new: "DataFrame") -> DatasetDiff:
    """Return how the rows `new` of the dataset `after` differ from the rows `old` of `before`.

    Rows with the same content are paired: first those that agree in label and split, then in label, then in split,
    then the rest. So a row that is there twice and once in the other is one row added or removed.
    """
    counts: Counter[str] = Counter()
    moves: Counter[str] = Counter()
    examples: dict[str, list[RowChange]] = defaultdict(list)
    was, now = _by_content(old), _by_content(new)
    texts = dict(zip(_contents(old), old["text"], strict=True)) | dict(zip(_contents(new), new["text"], strict=True))
    for content in dict.fromkeys((*now, *was)):
        for one, other in _paired(was.get(content, []), now.get(content, [])):
            for change in _changes(one, other):
                counts[change] += 1
                if change != "same" and len(examples[change]) < EXAMPLES:
                    examples[change].append(_row(change, texts[content], one, other))
                if change == "moved" and one and other:
                    moves[f"{one[1]} to {other[1]}"] += 1
    return DatasetDiff(
        before.ref, after.ref, len(old), len(new), counts["same"], counts["added"], counts["removed"],
        counts["relabeled"], counts["moved"], dict(moves.most_common()),
        tuple(label for label in after.labels if label not in before.labels),
        tuple(label for label in before.labels if label not in after.labels),
        tuple(row for kind in ("added", "removed", "relabeled", "moved") for row in examples[kind]),
    )  # fmt: skip


def _contents(frame: "DataFrame") -> list[str]:
    return list(frame["sha256" if "sha256" in frame.columns else "text"])


def _by_content(frame: "DataFrame") -> dict[str, list[_Place]]:
    found: dict[str, list[_Place]] = defaultdict(list)
    for content, label, split in zip(_contents(frame), frame["label"], frame["split"], strict=True):
        found[content].append((label, split))
    return found


def _paired(old: list[_Place], new: list[_Place]) -> Iterator[tuple[_Place | None, _Place | None]]:
    """Pair the rows of one content, the likest first; None stands for a row that only the other side has."""
    both = Counter(old) & Counter(new)
    yield from ((one, one) for one in both.elements())
    old, new = sorted((Counter(old) - both).elements()), sorted((Counter(new) - both).elements())
    for agrees in (_same_label, _same_split, _any):
        for one in list(old):
            other = next((o for o in new if agrees(one, o)), None)
            if other is not None:
                old.remove(one)
                new.remove(other)
                yield one, other
    yield from ((one, None) for one in old)
    yield from ((None, other) for other in new)


def _same_label(a: _Place, b: _Place) -> bool:
    return a[0] == b[0]


def _same_split(a: _Place, b: _Place) -> bool:
    return a[1] == b[1]


def _any(_: _Place, __: _Place) -> bool:
    return True


def _changes(old: _Place | None, new: _Place | None) -> list[str]:
    if old is None or new is None:
        return ["added" if old is None else "removed"]
    changed = ["relabeled"] * (old[0] != new[0]) + ["moved"] * (old[1] != new[1])
    return changed or ["same"]


def _row(change: str, text: str, old: _Place | None, new: _Place | None) -> RowChange:
    before, after = old or ("", ""), new or ("", "")
    return RowChange(change, text[:_LONGEST], before[0][:_LONGEST], after[0][:_LONGEST], before[1], after[1])
