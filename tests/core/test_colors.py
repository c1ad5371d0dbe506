import pytest

from sft_magics.core.colors import CLASS_COLORS, class_colors


@pytest.mark.parametrize(
    ("labels", "colors"),
    [
        (("ocean", "land", "lake"), ("#0072b2", "#e69f00", "#56b4e9")),
        (("a", "b"), CLASS_COLORS[:2]),
        (("background", "Trees", "car"), ("#b8b8b8", "#009e73", "#d55e00")),
        (("sea water", "car"), ("#0072b2", "#d55e00")),
        (("island", "seat"), CLASS_COLORS[:2]),  # a word within a word says nothing
        ((), ()),
    ],
)
def test_a_class_that_says_what_it_looks_like_has_such_a_color(
    labels: tuple[str, ...], colors: tuple[str, ...]
) -> None:
    assert class_colors(labels) == colors


def test_up_to_seven_classes_are_told_apart_and_more_still_have_a_color() -> None:
    many = ["water", "road", *(f"class {k}" for k in range(253))]
    assert len(set(class_colors(many[:7]))) == 7
    assert len(class_colors(many)) == 255
    assert class_colors(["lake", "river", "sea", "pond"])[:2] == ("#0072b2", "#56b4e9")
    assert len(set(class_colors(["lake", "river", "sea", "pond"]))) == 4
