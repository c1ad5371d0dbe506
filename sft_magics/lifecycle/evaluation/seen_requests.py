"""Which labeled requests of an endpoint its version was trained on: they tell nothing of its quality."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sft_magics.core import errors
from sft_magics.core.records import Overlap, Version
from sft_magics.core.tasks import IMAGE_TASKS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import seen_rows

if TYPE_CHECKING:
    from pandas import DataFrame

    from sft_magics.serving.log.prediction_log import LabeledRow


def find(ws: Workspace, version: Version, labeled: "Sequence[LabeledRow]") -> tuple[set[str], Overlap]:
    """Return the ids of the requests that a version was trained on, and how many of the labeled ones they are.

    Requests whose input the log does not keep cannot be recognized; the version then counts as not wholly known.
    """
    readable = [row for row in labeled if _content(version, row)]
    if not readable:
        return set(), Overlap(len(labeled), unknown=(version.ref,) if labeled else ())
    try:
        found = seen_rows.marks(ws, [version], _frame(version, readable))
    except errors.ModelProblem:  # of a retired version the files may be gone, and its log is still of interest
        return set(), Overlap(len(labeled), unknown=(version.ref,))
    counted = found.overlap()
    unknown = counted.unknown if len(readable) == len(labeled) else (version.ref,)
    ids = {row.id for row, seen in zip(readable, found.seen, strict=True) if seen}
    return ids, replace(counted, rows=len(labeled), unknown=unknown)


def _content(version: Version, row: "LabeledRow") -> str:
    """Return what identifies a request: its text, or the hash of its picture; empty where the log has neither."""
    from sft_magics.serving.log.prediction_log import is_hashed, picture_hash

    if version.task in IMAGE_TASKS:
        return picture_hash(row.text)
    return "" if is_hashed(row.text) else row.text


def _frame(version: Version, rows: "Sequence[LabeledRow]") -> "DataFrame":
    from sft_magics.datasets import frame_of

    contents = [_content(version, row) for row in rows]
    return frame_of(contents, [row.truth for row in rows], contents if version.task in IMAGE_TASKS else ())
