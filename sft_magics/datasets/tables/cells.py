"""Cells of a table as text and labels: what is missing, what becomes a string, and what is refused.

A list, a dict or an array in a cell has no single text, so its Python form is never taken for one.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sft_magics.core import errors
from sft_magics.datasets.tables.table import Columns

_WHOLE = re.compile(r"[+-]?\d+(\.0+)?")
_LISTED = re.compile(r"\s*\[.*\]\s*", re.DOTALL)
_SAMPLE = 2000


def is_missing(value: Any) -> bool:
    """Say whether a cell is empty: None, NaN, or a string of white space."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_nested(value: Any) -> bool:
    """Say whether a cell holds several values: a list, a tuple, a set, a dict or an array with at least one axis."""
    return isinstance(value, list | tuple | set | frozenset | Mapping) or bool(getattr(value, "shape", ()))


def string_of(value: Any, where: str) -> str:
    """Return one cell as a string; raises DataProblem for bytes that are not UTF-8."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise errors.DataProblem(
                f"A text in {where} is bytes that are not UTF-8 (byte {error.start:,}).",
                "decode the column first: frame['text'] = frame['text'].str.decode('latin-1').",
            ) from error
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # half a surrogate pair becomes "?"


def texts_of(table: Columns, name: str) -> list[str]:
    """Return the texts of a column, "" for a missing cell; raises DataProblem for cells that are lists or dicts."""
    cells = table.values[name]
    row = next((i for i, v in enumerate(cells) if is_nested(v)), None)
    if row is not None:
        raise _no_text(table, name, row, cells[row])
    if _all(cells, _is_numbers):
        raise errors.DataProblem(
            f"The column '{name}' of {table.where} holds lists of numbers, such as {cells[0]}, and no texts.",
            "name the column of texts with --text; boxes need the columns image, xmin, ymin, xmax, ymax and label.",
        )
    return ["" if is_missing(v) else string_of(v, table.where) for v in cells]


def labels_of(table: Columns, name: str) -> list[str | None]:
    """Return the labels as strings, None where a cell is missing; raises DataProblem for cells that are lists or dicts.

    Whole numbers lose a decimal point, which only a missing neighbor gave them.
    """
    cells = table.values[name]
    row = next((i for i, v in enumerate(cells) if is_nested(v)), None)
    if row is None and _all(cells, _is_list):
        row = next(i for i, v in enumerate(cells) if not is_missing(v))
    if row is not None:
        raise errors.DataProblem(
            f"The column '{name}' of {table.where} holds several labels a row (row {row + 1:,}: {_shown(cells[row])}); "
            "a classifier learns one class for each row.",
            f"keep one: frame['{name}'] = frame['{name}'].str[0]; or make a column for each class and name one "
            "with --label.",
        )
    found = [None if is_missing(v) else string_of(v, table.where).strip() for v in cells]
    if all(_WHOLE.fullmatch(v) for v in set(found) if v is not None):
        return [v if v is None else v.partition(".")[0] for v in found]
    return found


def _no_text(table: Columns, name: str, row: int, cell: Any) -> errors.DataProblem:
    what = f"Row {row + 1:,} of the column '{name}' of {table.where} is no text: {_shown(cell)}."
    if not isinstance(cell, Mapping) and all(isinstance(part, str) for part in cell):
        return errors.DataProblem(what, f"join its parts: frame['{name}'] = frame['{name}'].str.join(' ').")
    return errors.DataProblem(what, "name a column of texts with --text, or write its text into a column of its own.")


def _shown(cell: Any) -> str:
    text = " ".join(str(cell).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _all(cells: Sequence[Any], fits: Any) -> bool:
    """Say whether the cells of the beginning that are not missing are all strings that fit."""
    known = [v for v in cells[:_SAMPLE] if not is_missing(v)]
    return bool(known) and all(isinstance(v, str) and fits(v) for v in known)


def _listed(text: str) -> list[Any] | None:
    """Return the list that a string is, as JSON or Python writes it, or None."""
    if not _LISTED.fullmatch(text):
        return None
    try:
        found = json.loads(text.replace("'", '"'))
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _is_list(text: str) -> bool:
    """Say whether a string is a list of names or numbers; boxes are a list of dicts and are no labels of this kind."""
    found = _listed(text)
    return found is not None and all(isinstance(v, str | int | float) for v in found)


def _is_numbers(text: str) -> bool:
    """Say whether a string is a list of two or more numbers."""
    found = _listed(text)
    return found is not None and len(found) > 1 and all(isinstance(v, int | float) for v in found)
