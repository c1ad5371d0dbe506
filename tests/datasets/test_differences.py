"""What differs between two tables, row by row."""

import pandas as pd
import pytest

from sft_magics.core.records import DatasetDiff
from sft_magics.datasets import compare
from sft_magics.registry.testing import a_dataset

Rows = list[tuple[str, str, str]]
OLD: Rows = [("a", "x", "train"), ("b", "x", "train"), ("c", "y", "train"), ("d", "y", "validation")]


def frame(rows: Rows, *, hashed: bool = False) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=["text", "label", "split"])
    return found.assign(sha256=found["text"].str[-1]) if hashed else found


def difference(old: Rows, new: Rows, *, hashed: bool = False) -> DatasetDiff:
    return compare(a_dataset(), frame(old, hashed=hashed), a_dataset(number=2), frame(new, hashed=hashed))


@pytest.mark.parametrize(
    ("new", "counts"),  # same, added, removed, relabeled, moved
    [
        (OLD, (4, 0, 0, 0, 0)),
        (OLD[::-1], (4, 0, 0, 0, 0)),
        (OLD[:2], (2, 0, 2, 0, 0)),
        ([*OLD, ("e", "x", "train")], (4, 1, 0, 0, 0)),
        ([*OLD[:3], ("d", "x", "validation")], (3, 0, 0, 1, 0)),
        ([*OLD[:3], ("d", "y", "train")], (3, 0, 0, 0, 1)),
        ([*OLD[:3], ("d", "x", "train")], (3, 0, 0, 1, 1)),
        ([*OLD, ("a", "x", "train")], (4, 1, 0, 0, 0)),  # twice now
        ([*OLD, ("a", "y", "train")], (4, 1, 0, 0, 0)),
        ([("A", "x", "train"), *OLD[1:]], (3, 1, 1, 0, 0)),
    ],
)
def test_each_kind_of_change_is_counted(new: Rows, counts: tuple[int, ...]) -> None:
    found = difference(OLD, new)
    assert (found.same, found.added, found.removed, found.relabeled, found.moved) == counts
    back = difference(new, OLD)
    assert (back.same, back.removed, back.added, back.relabeled, back.moved) == counts


def test_doubles_are_paired_the_likest_first() -> None:
    found = difference([("a", "x", "train"), ("a", "y", "validation")], [("a", "y", "train"), ("a", "x", "train")])
    assert (found.same, found.relabeled, found.moved) == (1, 0, 1)
    assert found.moves == {"validation to train": 1}


def test_pictures_are_matched_by_what_their_files_hold() -> None:
    found = difference([("old/a", "x", "train")], [("new/a", "y", "train")], hashed=True)
    assert (found.added, found.removed, found.relabeled) == (0, 0, 1)
    assert found.examples[0].text == "new/a"


def test_the_text_says_what_changed_and_shows_a_few_rows() -> None:
    new = [*OLD[1:], ("d", "x", "train"), *((f"n{i}", "z", "train") for i in range(30))]
    found = compare(a_dataset(), frame(OLD), a_dataset(number=2, labels=("z",)), frame(new))
    assert "films:2 has 31 rows that films:1 lacks and lacks 1" in str(found)
    assert "removed: a (x; train)" in str(found)
    assert len(found.examples) == 6
    assert (found.labels_added, found.labels_removed) == (("z",), ("negative", "positive"))
