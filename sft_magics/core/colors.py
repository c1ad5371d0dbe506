"""The colors that stand for classes, in pictures and in the legends beside them."""

import re
from collections.abc import Mapping, Sequence

# Okabe and Ito's colors without black, which pass on white and on dark and are told apart by the color-blind.
CLASS_COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")

_WATER, _PLANTS, _EARTH = ("#0072b2", "#56b4e9"), ("#009e73",), ("#e69f00", "#d55e00")
_BACKGROUND, _SKY = ("#b8b8b8",), ("#56b4e9",)
_WORDS: Mapping[tuple[str, ...], str] = {
    _WATER: "water ocean sea lake river pond pool flood reservoir stream",
    _PLANTS: "vegetation tree grass forest plant crop bush leaf meadow wood weed",
    _EARTH: "land ground soil earth sand desert bare beach field rock",
    _BACKGROUND: "background void other unlabeled unlabelled nothing none",
    _SKY: "sky",
}
_KINDS = {word: colors for colors, words in _WORDS.items() for word in words.split()}


def class_colors(labels: Sequence[str]) -> tuple[str, ...]:
    """Return a color for each class, as `#rrggbb`.

    A class whose name says what it looks like gets a color of that kind: water blue, plants green, land ocher, the
    background gray. The others get those that are left, in their order, again from the first where there are more.
    """
    found: dict[int, str] = {}
    for i, label in enumerate(labels):
        free = [color for color in _wished(label) if color not in found.values()]
        if free:
            found[i] = free[0]
    left = [color for color in CLASS_COLORS if color not in found.values()] or list(CLASS_COLORS)
    others = [i for i in range(len(labels)) if i not in found]
    found |= {i: left[place % len(left)] for place, i in enumerate(others)}
    return tuple(found[i] for i in range(len(labels)))


def _wished(label: str) -> tuple[str, ...]:
    for word in re.findall(r"[a-z]+", label.lower()):
        for form in (word, word.removesuffix("s")):
            if form in _KINDS:
                return _KINDS[form]
    return ()
