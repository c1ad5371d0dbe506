"""What the numbers and colors of masks mean: `classes.txt`, CVAT's `labelmap.txt`, `class_dict.csv`."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sft_magics.core import errors
from sft_magics.datasets import naming

Color = tuple[int, int, int]
_HINT = "mend it: a line a class, such as sky in classes.txt, or sky:70,130,180:: in labelmap.txt."


@dataclass(frozen=True)
class Meaning:
    """The names of the classes by number, none where no file says them, and the number of each color if a file says it.

    `file` is where they were read.
    """

    names: tuple[str, ...] = ()
    colors: Mapping[Color, int] = field(default_factory=dict)
    file: str = ""


def read(root: Path) -> Meaning:
    """Return what files in a folder say of its masks; raises DataProblem for damaged ones and for two that disagree."""
    found = [reader(root / name) for name, reader in _READERS.items() if (root / name).is_file()]
    if not found:
        return Meaning()
    if any(one.names != found[0].names for one in found):
        files = " and ".join(one.file for one in found)
        raise errors.DataProblem(f"{files} in {root} name the classes otherwise.", "remove all of them but one.")
    colored = next((one for one in found if one.colors), found[0])
    names = found[0].names
    if len(set(names)) != len(names) or len(names) < 2:
        raise errors.DataProblem(f"{root / colored.file} has to name two classes or more, each once.", _HINT)
    return colored


def _names_alone(file: Path) -> Meaning:
    lines = _lines(file)
    if not all(line.strip() for line in lines):
        raise errors.DataProblem(
            f"{file} has an empty line between classes, and numbers count lines.", "remove it, or name that class."
        )
    return Meaning(tuple(naming.cleaned(line) for line in lines), {}, file.name)


def _labelmap(file: Path) -> Meaning:
    """Read `name:r,g,b:parts:actions`, a line a class, as CVAT writes it."""
    rows = [line.split(":") for line in _lines(file) if line.strip() and not line.startswith("#")]
    return _colored(file, [[row[0], *",".join(row[1:2]).split(",")] for row in rows])


def _class_dict(file: Path) -> Meaning:
    """Read a table with the columns name, r, g, b."""
    rows = [row for row in csv.reader(_lines(file)) if any(cell.strip() for cell in row)]
    return _colored(file, rows[1:] if rows and not rows[0][-1].strip().isdecimal() else rows)


def _colored(file: Path, rows: Sequence[Sequence[str]]) -> Meaning:
    names, colors = [], dict[Color, int]()
    for number, row in enumerate(rows):
        try:
            names.append(naming.cleaned(row[0]))
            red, green, blue = (int(cell) for cell in row[1:4])
        except (ValueError, IndexError) as error:
            raise errors.DataProblem(
                f"{file} cannot be read: {','.join(row)[:60]!r} is no name and color.", _HINT
            ) from error
        if colors.setdefault((red, green, blue), number) != number:
            raise errors.DataProblem(f"{file} gives two classes the color {red},{green},{blue}.", _HINT)
    return Meaning(tuple(names), colors, file.name)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise errors.DataProblem(f"{file} cannot be read: {error}.", _HINT) from error


_READERS: dict[str, Callable[[Path], Meaning]] = {
    "classes.txt": _names_alone,
    "labelmap.txt": _labelmap,
    "class_dict.csv": _class_dict,
}
