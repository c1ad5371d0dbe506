"""Files to columns: CSV, TSV, JSON and Parquet, read whole, with every fault named by its line or byte.

Text cells of CSV are taken verbatim; nothing but an empty cell means "missing" (the words NA, None and null are text).
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sft_magics.core import errors
from sft_magics.datasets.tables.table import Columns

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_SNIFF_CHARACTERS = 1 << 17
_SNIFF_ROWS = 200
_LONGEST_CELL = 1 << 24


def read_file(path: Path, shown: str) -> Columns:
    """Read `path` by its ending; `shown` is how the user spelled it. Raises DataProblem, NotFound."""
    reader = _READERS.get(path.suffix.lower())
    if path.is_dir():
        raise errors.DataProblem(
            f"{shown} is a folder, not a file.",
            "name one file in it that ends in .csv, .tsv, .json, .jsonl or .parquet.",
        )
    if not path.exists():
        raise _missing(path, shown)
    if reader is None:
        raise errors.DataProblem(
            f"{shown} is not of a kind that can be read: .csv, .tsv, .json, .jsonl and .parquet are.",
            "save it as one of these (a spreadsheet: as CSV UTF-8), or read it with pandas and give the DataFrame.",
        )
    try:
        return reader(path, shown)
    except OSError as error:
        raise errors.DataProblem(
            f"{shown} cannot be read: {error.strerror or error}.", "make it readable for you, then type the line again."
        ) from error


def _missing(path: Path, shown: str) -> errors.NotFound:
    folder = path.parent
    names = [p.name for p in folder.iterdir() if p.suffix.lower() in _READERS] if folder.is_dir() else []
    hint = errors.did_you_mean(path.name, names)
    if not hint and names:
        hint = " In that folder are: " + ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else ".")
    gone = "" if folder.is_dir() else f" There is no folder {folder} either."
    return errors.NotFound(
        f"There is no file {shown}.{hint or gone}",
        "give the path of a .csv, .tsv, .jsonl or .parquet file, a DataFrame by its name, or sample:reviews.",
    )


def _text(path: Path, shown: str) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + 3 * data.startswith(b"\xef\xbb\xbf")
        line = data.count(b"\n", 0, at) + 1
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        guess = "UTF-16" if wide else "WINDOWS-1252"
        raise errors.DataProblem(
            f"{shown} is not UTF-8: byte {at:,} (line {line:,}) is 0x{data[at]:02x}; it may be {guess}.",
            f"save it as UTF-8, or in a terminal: iconv -f {guess} -t UTF-8 {shown} > {path.stem}-utf8{path.suffix}",
        ) from error


def _read_csv(path: Path, shown: str) -> Columns:
    text = _text(path, shown)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else sniff(text)
    return _parse(text, delimiter, shown)


def sniff(text: str) -> str:
    """Return the delimiter that parts the header and keeps the most rows at the header's number of cells."""
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            widths = _widths(text, delimiter)
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            score = (sum(w == widths[0] for w in widths) / len(widths), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _widths(text: str, delimiter: str) -> list[int]:
    widths = []
    for row in csv.reader(io.StringIO(text[:_SNIFF_CHARACTERS], newline=""), delimiter=delimiter):
        if row:
            widths.append(len(row))
        if len(widths) == _SNIFF_ROWS:
            break
    # The last row may be cut where the sample ends.
    return widths[:-1] if len(text) > _SNIFF_CHARACTERS and len(widths) > 1 else widths


def _parse(text: str, delimiter: str, shown: str) -> Columns:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        header, rows = _records(text, delimiter, shown, csv.QUOTE_MINIMAL)
    except _BadQuote as error:
        if delimiter != "\t":
            raise errors.DataProblem(
                f"{shown} has a quote that does not fit, in the row that begins at line {error.line:,} ({error}).",
                'write a quote inside a quoted cell twice (""), and close every quote, then type the line again.',
            ) from error
        header, rows = _records(text, delimiter, shown, csv.QUOTE_NONE)  # tab-separated files often quote nothing
    if not header or not rows:
        raise errors.DataProblem(f"{shown} has no rows.", "give a file with a line of column names and rows below it.")
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise errors.DataProblem(f"{shown} has two columns called '{twice}'.", "rename one of them in its first line.")
    cells = list(zip(*rows, strict=True))
    return Columns(shown, {name: [c or None for c in cells[i]] for i, name in enumerate(header)}, headed=True)


class _BadQuote(Exception):
    def __init__(self, error: csv.Error, line: int) -> None:
        super().__init__(str(error))
        self.line = line


def _records(text: str, delimiter: str, shown: str, quoting: Literal[0, 3]) -> tuple[list[str], list[list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    line = 1
    rows: list[list[str]] = []
    try:
        header = [name.strip() or f"column {i}" for i, name in enumerate(next(reader, []), 1)]
        while True:
            line = reader.line_num + 1
            if (row := next(reader, None)) is None:
                return header, rows
            if row:
                rows.append(_fitted(row, header, delimiter, line, shown))
    except csv.Error as error:
        raise _BadQuote(error, line) from error


def _fitted(row: list[str], header: list[str], delimiter: str, line: int, shown: str) -> list[str]:
    if len(row) > len(header):
        if not any(row[len(header) :]):  # delimiters at the end of a line hold nothing
            return row[: len(header)]
        raise errors.DataProblem(
            f"Line {line:,} of {shown} has {len(row)} cells where the header has {len(header)} "
            f"(cells are parted by {DELIMITERS[delimiter]}).",
            f'put quotes around a text that holds {DELIMITERS[delimiter]}: "so, like this".',
        )
    return row + [""] * (len(header) - len(row))


_OBJECT = 'one JSON object a line, such as {"text": "...", "label": "..."}'
_SCENES = ("images", "annotations", "categories")


def is_table(source: Any) -> bool:
    """Say whether `source` is a .json file with rows of a table: anything but the three lists of a COCO file."""
    if not isinstance(source, str | Path) or Path(source).suffix.lower() != ".json":
        return False
    path = Path(source).expanduser()
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = _first_line(path)
    if isinstance(found, list):
        return bool(found) and isinstance(found[0], dict)
    return isinstance(found, dict) and bool(found) and not any(name in found for name in _SCENES)


def _first_line(path: Path) -> Any:
    """Return the JSON value of a file's first line, None where it is none."""
    try:
        with path.open("rb") as file:
            return json.loads(next((line for line in file if line.strip()), b""))
    except ValueError:
        return None


def _read_json(path: Path, shown: str) -> Columns:
    """Read rows of JSON: a line each, one array of objects, an object of columns, or one that wraps such an array."""
    text = _text(path, shown)
    try:
        found = json.loads(text)
    except ValueError:
        return _of_records(_lines(text, shown), shown)
    records = _wrapped(found) if isinstance(found, dict) else found
    if records is None and path.suffix.lower() == ".json":
        raise errors.DataProblem(
            f"{shown} is JSON, and no table: an object with {', '.join(list(found)[:5]) or 'nothing in it'}.",
            'write an array of rows: [{"text": "...", "label": "..."}, ...], or a row on each line.',
        )
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        records = _lines(text, shown)
    return _of_records(records, shown)


def _wrapped(found: dict[str, Any]) -> list[Any] | None:
    """Return the rows of an object that holds columns (lists, or dicts by row), or one list of rows; else None."""
    values = list(found.values())
    rows = [v for v in values if isinstance(v, list) and v and isinstance(v[0], dict)]
    if len(rows) == 1 and len(rows) == sum(isinstance(v, list) for v in values):
        return rows[0]
    if values and all(isinstance(v, list) for v in values) and len({len(v) for v in values}) == 1:
        return [dict(zip(found, row, strict=True)) for row in zip(*values, strict=True)]
    if values and all(isinstance(v, dict) for v in values) and len({tuple(v) for v in values}) == 1:
        return [{name: v[row] for name, v in found.items()} for row in values[0]]
    return None


def _lines(text: str, shown: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise errors.DataProblem(
                f"Line {number:,} of {shown} is not JSON: {error}.",
                f"write {_OBJECT}.",
            ) from error
        if not isinstance(record, dict):
            raise errors.DataProblem(
                f"Line {number:,} of {shown} is JSON, but not an object with names.",
                f"write {_OBJECT}.",
            )
        records.append(record)
    return records


def _of_records(records: list[dict[str, Any]], shown: str) -> Columns:
    if not records:
        raise errors.DataProblem(f"{shown} has no rows.", f"write {_OBJECT}.")
    names = list(dict.fromkeys(name for record in records for name in record))
    return Columns(shown, {name: [record.get(name) for record in records] for name in names})


def _read_parquet(path: Path, shown: str) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sft_magics.datasets.tables import arrow

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise errors.DataProblem(
            f"{shown} cannot be read as Parquet: {str(error).splitlines()[0][:200]}",
            "write the file again (pandas: frame.to_parquet), or give a .csv or .jsonl file.",
        ) from error
    if not table.num_rows:
        raise errors.DataProblem(f"{shown} has no rows.", "give a file that has rows.")
    return arrow.columns_of(table, shown)


_READERS: dict[str, Callable[[Path, str], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".parquet": _read_parquet,
}
