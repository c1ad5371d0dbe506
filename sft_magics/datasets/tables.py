"""The Parquet file of a data set: columns id, text, label, split, all strings, in the order of their ids.

Of images `text` is the path of the file and a fifth column, sha256, what it held when it was loaded. `label` is a
class; of boxes their JSON (see `boxes`); of a mask the classes in it, with the mask's path in a sixth column; of a
dialogue the answer, and `text` what comes before it.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors, workspace
from sft_magics.core.records import Dataset
from sft_magics.core.workspace import Workspace
from sft_magics.datasets.fingerprints import fingerprint

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("id", "text", "label", "split", "sha256", "mask")
NAME_DIGITS = 12


def write(path: Path, columns: Sequence[Sequence[str]]) -> None:
    """Replace `path` by a table of the first four columns, or five, or six, durably; raises WorkspaceProblem."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(dict(zip(COLUMNS, (pa.array(c, pa.string()) for c in columns), strict=False)))
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
    content = "sha256" if "sha256" in table.column_names else "text"
    if not {content, *COLUMNS[:4]} <= set(table.column_names):
        raise _damaged(name, path)
    columns = [table.column(c).to_pylist() for c in (content, "label", "split")]
    if not fingerprint(zip(*columns, strict=True)).startswith(path.stem):
        raise _damaged(name, path)
    frame: DataFrame = table.to_pandas()
    return frame if split is None else frame[frame["split"] == split].reset_index(drop=True)


def _damaged(name: str, path: Path) -> errors.DataProblem:
    return errors.DataProblem(
        f"The rows of dataset {name} are damaged: {path} is not what was fingerprinted.",
        f"%sft_data {name} SOURCE loads them again from where they came.",
    )
