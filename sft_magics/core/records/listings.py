"""What tells the rows of a table of runs or versions apart: the settings that differ, and what each was measured on."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from sft_magics.core import codec
from sft_magics.core.records.stored import Run, Version
from sft_magics.core.tasks import headlines

if TYPE_CHECKING:
    from sft_magics.core.records.results import Table

Row = Run | Version
_FIRST = ("start", "method", "epochs", "lr", "batch", "optimizer", "schedule", "seed")
_MARKS = ("*", "†", "‡", "§", "¶")
_UNCOMPARED = frozenset({"threads", "workers", "checkpoint_seconds"})  # they do not change what is trained


def compared(rows: Sequence[Row]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return what a table of rows needs: a footnote, the settings that differ, and a mark for each row, if any."""
    marks = _marks(rows)
    return _footnote(rows, marks), _differing(rows), marks if any(marks) else ()


def settings(row: Row) -> dict[str, Any]:
    """Return the options of a run or version, and what it began with as `start`."""
    start = row.parent or (row.start if isinstance(row, Run) else _start(row))
    return {"start": start, **{k: v for k, v in row.options.items() if k not in _UNCOMPARED}}


def text(row: Row, found: "Table", number: int) -> str:
    """Return a row as text: itself, the settings in which the rows differ, and what it was measured on."""
    own = settings(row)
    told = ", ".join(f"{name} {shown(own.get(name))}" for name in found.differing)
    mark = found.marks[number] if found.marks else ""
    on = measured_on(row)
    measured = f"{mark}measured on {on}" if on else ""
    return "; ".join(part for part in (str(row), _quality(row), told, measured) if part)


def shown(value: Any) -> str:
    """Return the value of a setting as one would type it; a dash where it was not set."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    return value if isinstance(value, str) else codec.dumps(value)


def measured_on(row: Row) -> str:
    """Return the data and how many of its rows the metrics are of; nothing where there are no metrics."""
    if _key(row) is None:
        return ""
    count = measured_rows(row)
    return f"{row.data} ({count:,} rows)" if count else row.data


def measured_rows(row: Row) -> int:
    """Return how many rows the headline metric is of; 0 where that is not known."""
    if isinstance(row, Run):
        return row.measured_rows if row.metric is not None else 0
    return next((row.metrics[m].n for m in headlines(row.task) if m in row.metrics), 0)


def _quality(row: Row) -> str:
    if isinstance(row, Version) or row.metric is None:
        return ""
    return f"{row.metric_name or 'metric'} {row.metric:.3f}"


def _start(version: Version) -> str:
    start = version.environment.get("start")
    return str(start.get("source", "")) if isinstance(start, dict) else ""


def _differing(rows: Sequence[Row]) -> tuple[str, ...]:
    found = [settings(row) for row in rows]
    names = [*_FIRST, *sorted({name for one in found for name in one} - set(_FIRST))]
    return tuple(name for name in names if len({codec.dumps(one.get(name)) for one in found}) > 1)


def _key(row: Row) -> Hashable | None:
    """Return what a row's metrics were measured on, or None where it has none."""
    if not (row.metrics if isinstance(row, Version) else row.metric is not None):
        return None
    return row.model, row.data, row.data_fingerprint


def _marks(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a footnote mark for each row that was measured on other data than most rows of its model."""
    keys = [_key(row) for row in rows]
    usual = {}
    for key, _ in reversed(Counter(key for key in keys if key is not None).most_common()):
        usual[key[0]] = key  # type: ignore[index]
    others = list(dict.fromkeys(k for k in keys if k is not None and usual[k[0]] != k))  # type: ignore[index]
    signs = {key: _MARKS[i] if i < len(_MARKS) else f"[{i + 1}]" for i, key in enumerate(others)}
    return tuple(signs.get(key, "") for key in keys)


def _footnote(rows: Sequence[Row], marks: Sequence[str]) -> str:
    if not any(marks):
        return ""
    named = {mark: row for row, mark in zip(reversed(rows), reversed(marks), strict=True) if mark}
    told = [
        f"{mark} {measured_on(named[mark])}, fingerprint {named[mark].data_fingerprint[:7]}"
        for mark in dict.fromkeys(marks)
        if mark
    ]
    return f"Measured on other data than the rest, so these numbers do not compare: {'; '.join(told)}."
