"""Names of classes as people write them: compared after Unicode's composition (NFC), without spaces around them."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sft_magics.core.records import Finding


def cleaned(name: Any) -> str:
    """Return a name in NFC without white space around it; raises ValueError for an empty one."""
    found = unicodedata.normalize("NFC", "" if name is None else str(name)).strip()
    if not found:
        raise ValueError("a box has no class")
    return found


def joined(names: Mapping[Any, str]) -> tuple[Finding, ...]:
    """Return a finding where several numbers stand for classes of one name, which makes them one class."""
    counts = Counter(names.values())
    twins = [name for name, count in counts.items() if count > 1]
    if not twins:
        return ()
    said = "; ".join(
        f"'{name}' is the name of {', '.join(str(key) for key, one in names.items() if one == name)}" for name in twins
    )
    return (Finding("warning", "joined_classes", f"Classes of the same name were joined: {said}."),)


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return each name once, in the order of the first time it is met."""
    return tuple(dict.fromkeys(names))


def counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many}"
