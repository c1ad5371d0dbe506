"""Arrow tables to columns: Parquet files, and what the Hugging Face `datasets` library keeps on the disk.

That library writes what its columns mean into the schema, so numbers of classes come out as their names.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.datasets.tables.table import Columns

if TYPE_CHECKING:
    import pyarrow as pa

Naming = Callable[[Any], Any]
STATE, PARTS = "state.json", "dataset_dict.json"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell whose picture stays in its table until it is asked for: all of them at once might not fit."""

    column: Any
    row: int

    def read(self) -> Any:
        """Return the cell: a dict with bytes and path, or None."""
        return self.column[self.row].as_py()


def columns_of(table: "pa.Table", where: str) -> Columns:
    """Return a table as columns; classes are named where its schema knows their names."""
    import pyarrow as pa

    features = _features(table.schema.metadata)
    values: dict[str, list[Any]] = {}
    declared: dict[str, list[Any]] = {}
    for name in table.column_names:
        column = table.column(name)
        feature = features.get(name)
        if _holds_pictures(column.type):
            values[name] = [Cell(column, i) for i in range(len(column))]
            continue
        rename = _naming(feature)
        cells = column.to_pylist()
        values[name] = cells if rename is None else [rename(cell) for cell in cells]
        if pa.types.is_dictionary(column.type):
            declared[name] = list(dict.fromkeys(v for chunk in column.chunks for v in chunk.dictionary.to_pylist()))
        elif isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            declared[name] = list(feature["names"])
    return Columns(where, values, declared)


def _holds_pictures(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind)) and {field.name for field in kind} == {"bytes", "path"}


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    try:
        found = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _naming(feature: Any) -> Naming | None:
    """Return what names the classes within a cell of this feature, or None where there are none."""
    if isinstance(feature, list) and feature:
        return _each(_naming(feature[0]))
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        names = [str(name) for name in feature.get("names") or ()]
        return lambda cell: names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else None
    if "_type" in feature:
        return _each(_naming(feature.get("feature")))
    known = {key: rename for key, part in feature.items() if (rename := _naming(part)) is not None}
    return (lambda cell: _renamed(cell, known)) if known else None


def _each(rename: Naming | None) -> Naming | None:
    return (
        None if rename is None else lambda cell: [rename(c) for c in cell] if isinstance(cell, list) else rename(cell)
    )


def _renamed(cell: Any, known: Mapping[str, Naming]) -> Any:
    if not isinstance(cell, dict):
        return cell
    return {key: known[key](value) if key in known else value for key, value in cell.items()}


# What `save_to_disk` wrote


def is_saved(folder: Path) -> bool:
    """Say whether a folder was written by `save_to_disk` of a data set, or of several splits."""
    return any((folder / name).is_file() for name in (STATE, PARTS))


def read_saved(folder: Path, where: str) -> dict[str, "pa.Table"]:
    """Return the tables of such a folder by split, "" for a data set without; raises DataProblem for a damaged one."""
    import pyarrow as pa

    try:
        if (folder / PARTS).is_file():
            names = json.loads((folder / PARTS).read_text())["splits"]
            return {str(name): _saved(folder / str(name)) for name in names}
        return {"": _saved(folder)}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise errors.DataProblem(
            f"{where} was written by save_to_disk, and cannot be read: {type(error).__name__} {error}.",
            "write it again, or give a .parquet file (to_parquet).",
        ) from error


def _saved(folder: Path) -> "pa.Table":
    import pyarrow as pa

    files: Sequence[Mapping[str, str]] = json.loads((folder / STATE).read_text())["_data_files"]
    parts = [pa.ipc.open_stream(pa.memory_map(str(folder / Path(f["filename"]).name))).read_all() for f in files]
    return pa.concat_tables(parts)
