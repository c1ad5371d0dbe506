"""Which label of a model is meant by a name that came from outside: one rule for every way by which labels come."""

import unicodedata
from collections.abc import Iterable

_UNSEEN = "\ufeff\u200b\u2060"  # a mark of byte order, spaces of no width: what strip() leaves


def meant(given: str, labels: Iterable[str]) -> str | None:
    """Return the one of `labels` that `given` names, None where it names none, or more than one.

    Blanks around it, the way in which an accent is written, and then its case are passed over, in this order: a label
    that is spelled as given goes before one of another case.
    """
    known = tuple(labels)
    if given in known:
        return given
    for plain in (_plain, _folded):
        same = [label for label in known if plain(label) == plain(given)]
        if same:
            return same[0] if len(same) == 1 else None
    return None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().strip(_UNSEEN).strip()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", _plain(name).casefold())
