"""Which label is meant by a name from outside."""

import pytest

from sft_magics.core.label_names import meant


@pytest.mark.parametrize(
    ("given", "labels", "found"),
    [
        ("positive", ("negative", "positive"), "positive"),
        ("  positive\n", ("negative", "positive"), "positive"),
        ("\ufeffpositive\u00a0", ("negative", "positive"), "positive"),
        ("POSITIVE", ("negative", "positive"), "positive"),
        ("Cafe\u0301", ("Caf\u00e9", "Bar"), "Caf\u00e9"),
        ("Caf\u00e9", ("Cafe\u0301", "Bar"), "Cafe\u0301"),
        ("STRASSE", ("stra\u00dfe", "Weg"), "stra\u00dfe"),
        ("Us", ("us", "US"), None),  # two are as near
        ("us", ("us", "US"), "us"),
        (" US ", ("us", "US"), "US"),
        ("positiv", ("negative", "positive"), None),
        ("1", ("negative", "positive"), None),
        ("1.0", ("1", "2"), None),
        ("", ("negative", "positive"), None),
        ("", ("negative", ""), ""),
        (" x", (" x", "x"), " x"),
        ("x ", (" x", "x"), None),
        ("a  b", ("a b",), None),
    ],
)
def test_a_name_means_the_label_that_is_spelled_like_it(given: str, labels: tuple[str, ...], found: str | None) -> None:
    assert meant(given, labels) == found
