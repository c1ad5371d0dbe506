"""A record as the JSON object that the command line writes: its kind, its reference, its fields.

Next steps are in the command line's words; what a user wrote or a model answered stays as it is.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sft_magics.core import codec, errors
from sft_magics.core.records import benched, control, dataset_diff, monitored, rehearsed, results, served, stored

# Fields whose sentences are ours and may name a verb. A version's note is the user's.
_OURS = frozenset({"next_step", "why", "engine_why", "verdict", "ended", "plan", "price", "message", "note"})
_THEIRS = frozenset({(stored.Version, "note")})
_REFERENCES: dict[type, str] = {
    stored.Run: "id",
    stored.Model: "name",
    stored.Alert: "id",
    results.Evaluation: "version",
    results.ErrorGallery: "version",
    results.Predictions: "version",
    monitored.Report: "endpoint",
    monitored.Feedback: "endpoint",
    results.Comparison: "candidate",
    results.Retirement: "version",
    served.Traffic: "endpoint",
    control.Diff: "after",
    dataset_diff.DatasetDiff: "after",
    control.Promotion: "after",
    control.ModelCard: "version",
    control.Exported: "version",
    control.Reproduction: "version",
    benched.Bench: "model",
    rehearsed.RunPlan: "model",
    rehearsed.LrRangeTest: "model",
}


def reference(record: Any) -> str | None:
    """Return what names the thing that a record is about, as a line takes it; None where nothing does."""
    found = getattr(record, "ref", None)
    if found is None and type(record) in _REFERENCES:
        found = getattr(record, _REFERENCES[type(record)])
    return getattr(found, "ref", found)


def document(record: Any) -> dict[str, Any]:
    """Return a record as JSON-ready data with its `kind` and, where it has one, its `ref`; so are those inside it."""
    return {"kind": type(record).__name__, **_plain(record)}


def failure(error: errors.TwoLines) -> dict[str, Any]:
    """Return an error as the same kind of object: `what`, `next`, the exit `code`, and a failed check's `result`."""
    what, step = error.lines
    found = {
        "kind": "Error", "error": type(error).__name__, "what": what, "next": step.removeprefix("Next: "),
        "code": error.code,
    }  # fmt: skip
    result = getattr(error, "result", None)
    return found if result is None else {**found, "result": document(result)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _field(value, f.name) for f in dataclasses.fields(value)}
        ref = reference(value)
        return fields if ref is None else {"ref": ref, **fields}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return codec.plain(value)


def _field(record: Any, name: str) -> Any:
    value = getattr(record, name)
    ours = name in _OURS and (type(record), name) not in _THEIRS
    return codec.plain(errors.headless(value)) if ours and isinstance(value, str) else _plain(value)
