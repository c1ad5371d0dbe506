"""The Parquet file of a data set: columns id, text, label, split, all strings, in the order of their ids.

Of images `text` is the path of the file, and two more columns are sha256, what it held when it was loaded, and pixels,
a hash of what it shows (see `image_files.ImageProbe`). Paths inside the workspace, such as those of pictures it keeps,
are relative to its root, so that it may be moved; readers get them whole. `label` is a class; of boxes their JSON (see
`boxes`); of a mask the classes in it, with the mask's path in a seventh column; of a dialogue the answer, and `text`
what comes before it.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors, portable, workspace
from sft_magics.core.records import Dataset
from sft_magics.core.workspace import Workspace
from sft_magics.datasets.fingerprints import fingerprint

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("id", "text", "label", "split", "sha256", "pixels", "mask")
NAME_DIGITS = 12


def write(path: Path, columns: Sequence[Sequence[str]]) -> None:
    """Replace `path` by a table of the first four columns, or six, or seven, durably; raises WorkspaceProblem."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = dict(zip(COLUMNS, columns, strict=False))
    for name in _paths(named):
        named[name] = [portable.relative(place, _root(path)) for place in named[name]]
    table = pa.table({name: pa.array(column, pa.string()) for name, column in named.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        workspace.write_durably(path, buffer.getvalue())
    except OSError as error:
        raise errors.from_os_error(error, f"writing {path.name}") from error


def rows(ws: Workspace, dataset: Dataset, split: str | None = None) -> "DataFrame":
    """Return the rows of `dataset` (of one `split`, or all) with the columns id, text, label, split.

    Raises DataProblem when the file is gone or is not what was fingerprinted.
    """
    return read_rows(ws.root / dataset.file, split)


def read_rows(path: Path, split: str | None = None) -> "DataFrame":
    """Return the rows of a data set's file (of one `split`, or all); the file's name is checked against its content."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = path.parent.name
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
    except FileNotFoundError as error:
        raise errors.DataProblem(
            f"The rows of dataset {name} are gone: there is no {path}.", f"%sft_data {name} SOURCE loads them again."
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, path) from error
    images = "sha256" in table.column_names
    content = "sha256" if images else "text"
    if not {*COLUMNS[: 6 if images else 4]} <= set(table.column_names):
        raise _damaged(name, path)
    columns = [table.column(c).to_pylist() for c in (content, "label", "split")]
    if not fingerprint(zip(*columns, strict=True)).startswith(path.stem):
        raise _damaged(name, path)
    frame: DataFrame = table.to_pandas()
    for column in _paths(frame.columns):
        frame[column] = [portable.resolved(place, _root(path)) for place in frame[column]]
    return frame if split is None else frame[frame["split"] == split].reset_index(drop=True)


def _paths(columns: Iterable[str]) -> tuple[str, ...]:
    """Return which columns of a table hold paths: none, where its rows are texts."""
    return tuple(name for name in ("text", "mask") if name in columns) if "sha256" in columns else ()


def _root(path: Path) -> Path:
    """Return the workspace of a table: `datasets/NAME/FINGERPRINT.parquet` lies three levels below it."""
    return path.parent.parent.parent


def _damaged(name: str, path: Path) -> errors.DataProblem:
    return errors.DataProblem(
        f"The rows of dataset {name} are damaged: {path} is not what was fingerprinted.",
        f"%sft_data {name} SOURCE loads them again from where they came.",
    )
