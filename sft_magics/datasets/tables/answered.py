"""Tables of answers as `predict` writes them: the rows' own columns, and beside them what was said of each.

A name that the rows had already got a stroke below behind it, so of several the longest is the newest.
"""

from sft_magics.datasets.tables.table import Columns

_ID = "request_id"
_WRITTEN = ("prediction", "confidence", "version", "boxes", "mask", _ID)
_BY_CLASS = ("score_", "share_")


def id_column(table: Columns) -> str | None:
    """Return the column with the ids of an endpoint's newest answers, if there is one."""
    found = [name for name in table.values if name.rstrip("_") == _ID]
    return max(found, key=len, default=None)


def written(table: Columns) -> set[str]:
    """Return the columns that are no column of the rows' own."""
    return {name for name in table.values if name.rstrip("_") in _WRITTEN or name.startswith(_BY_CLASS)}
