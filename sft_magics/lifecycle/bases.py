"""Bases one could begin with, and which of those that are here suits some data."""

from typing import Any

from sft_magics.core import errors
from sft_magics.core.records import Candidate, Table
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle import create, work

_ROWS = 500
# parameters, and the pixels it was made for
_PACKAGED = {"minilm": (22_713_216, 0), "lite0": (4_652_008, 224), "smollm2": (134_515_008, 0)}


def listed(ws: Workspace, task: str | None, data: str | None) -> Table:
    """Return the bases for a task, those that are here first and by their probe on `data`, if it is given."""
    from sft_magics.core import fetching
    from sft_magics.registry import Registry

    dataset = Registry(ws).dataset(data) if data is not None else None
    if dataset is not None and task is not None and dataset.task != task:
        raise errors.DataProblem(f"Dataset {dataset.name} is for {dataset.task}, not for {task}.", "leave --task out.")
    kind = dataset.task if dataset is not None else str(task)
    if dataset is not None and kind not in CLASSIFIERS:
        raise errors.DataProblem(
            f"Bases are ranked by classes of rows, and {dataset.name} is for {kind}.", f"%sft_models --task {kind}"
        )
    packaged = create.packaged_for(kind)
    order: dict[str, Any] = {"kind": "candidates", "task": kind, "starts": {}, "labels": [], "rows": _ROWS}
    known = work.ask(ws, f"looking for bases for {kind}", order)["known"]
    facts = {k["base"]: k for k in known}
    for base in packaged:
        parameters, pixels = _PACKAGED[base]
        facts[base] = {"base": base, "here": fetching.is_here(base), "pixels": pixels, "parameters": parameters,
                       "license": fetching.CATALOG[base].license}  # fmt: skip
    probed: dict[str, Any] = {}
    if dataset is not None:
        here = [base for base, fact in facts.items() if fact["here"]] or list(packaged)
        order["starts"] = {base: create.resolve_base(base, kind) for base in here}
        order |= {"data": str(ws.root / dataset.file), "labels": list(dataset.labels)}
        probed = work.ask(ws, f"comparing bases for {dataset.name}", order)["probed"]
    rows = [_candidate(kind, fact, probed.get(base, {})) for base, fact in facts.items()]
    rows.sort(key=lambda c: (not c.here, -(c.score or 0.0), c.parameters))
    name = dataset.name if dataset is not None else "DATASET"
    return Table("bases", tuple(rows), f"%sft_create NAME --data {name} --base {rows[0].base}")


def _candidate(task: str, fact: dict[str, Any], probe: dict[str, Any]) -> Candidate:
    return Candidate(
        fact["base"], task, int(probe.get("parameters") or fact["parameters"]), fact["license"], fact["here"],
        fact["pixels"], probe.get("score"), probe.get("spread"), probe.get("seconds"),
    )  # fmt: skip
