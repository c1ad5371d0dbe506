"""A table as a file that is whole or not there: CSV, TSV, JSON lines, Parquet."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors, workspace

if TYPE_CHECKING:
    from pandas import DataFrame


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a file of a kind that is not written, in no folder, or that is there already and may not be replaced."""
    if target.suffix.lower() not in _WRITERS:
        raise errors.UsageProblem(
            f"{target.name} is of no kind that can be written: {', '.join(_WRITERS)} are.",
            f"write --to {target.with_suffix('.csv').name}.",
        )
    if not target.parent.is_dir():
        raise errors.UsageProblem(f"There is no folder {target.parent}.", "make it first, or name another place.")
    if target.is_dir() or (target.exists() and not overwrite):
        raise errors.Refused(
            f"{target} is there already, and is not overwritten.", "add --overwrite, or name another file."
        )


def write_frame(frame: "DataFrame", target: Path) -> None:
    """Write a frame by the ending of `target`, durably; raises WorkspaceProblem, and DataProblem for mixed columns."""
    data = _WRITERS[target.suffix.lower()](frame)
    try:
        workspace.write_durably(target, data)
    except OSError as error:
        raise errors.from_os_error(error, f"writing {target}") from error


def _csv(frame: "DataFrame", separator: str = ",") -> bytes:
    text: str = frame.to_csv(index=False, sep=separator, lineterminator="\n")
    return text.encode("utf-8", "replace")


def _tsv(frame: "DataFrame") -> bytes:
    return _csv(frame, "\t")


def _jsonl(frame: "DataFrame") -> bytes:
    text: str = frame.to_json(
        orient="records", lines=True, force_ascii=False, date_format="iso", double_precision=15, default_handler=str
    )
    return text.encode("utf-8", "replace")


def _parquet(frame: "DataFrame") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise errors.DataProblem(
            f"These rows do not fit a Parquet file: {str(error).splitlines()[0]}", "write --to a .csv or .jsonl file."
        ) from error
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


_WRITERS: "dict[str, Callable[[DataFrame], bytes]]" = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
