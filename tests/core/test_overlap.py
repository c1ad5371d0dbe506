"""What is said of rows that were trained on: counted, in words that do not depend on who reads them."""

import pytest

from sft_magics.core import codec
from sft_magics.core.records import Overlap


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Overlap(300), []),
        (
            Overlap(300, 247, {"m:2": 247}, 12),
            [
                "247 of 300 rows were trained on by m:2 and are left out.",
                "12 more are near-duplicates of rows that were trained on (but for case, spaces, punctuation).",
            ],
        ),
        (
            Overlap(30, 20, {"m:1": 15, "m:2": 20}),
            [
                "Only 10 rows are left: too few to judge by.",
                "20 of 30 rows were trained on by m:1 (15) or m:2 (20) and are left out.",
            ],
        ),
        (
            Overlap(1, 1, {"m:1": 1}),
            [
                "No rows are left: too few to judge by.",
                "1 of 1 row was trained on by m:1 and is left out.",
            ],
        ),
        (
            Overlap(300, 247, {"m:2": 247}, included=True),
            ["This includes rows that were trained on: 247 of 300 rows were trained on by m:2. The figures flatter."],
        ),
        (Overlap(300, 0, {}, 1), ["1 of 300 rows is a near-duplicate of a row that was trained on (but for case, spa"]),
        (Overlap(300, unknown=("m:1", "m:2")), ["Not all rows that m:1 and m:2 were trained on are known here."]),
    ],
)
def test_what_is_said(found: Overlap, said: list[str]) -> None:
    assert [f.message[: len(text)] for f, text in zip(found.remarks, said, strict=True)] == said
    assert codec.build(Overlap, codec.plain(found)) == found


def test_only_what_is_let_in_is_red() -> None:
    assert [f.level for f in Overlap(30, 20, included=True).remarks] == ["error"]
    assert not any(f.level == "error" for f in Overlap(30, 20, {"a:1": 20}, 3, unknown=("a:1",)).remarks)
    assert Overlap(30, 20, included=True).measured == 30
