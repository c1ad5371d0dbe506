"""Bases one could begin with, and which of those that are here suits some data."""

from collections.abc import Sequence
from typing import Any

from sft_magics.core import errors
from sft_magics.core.records import Candidate, Table
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.inputs import base_sources
from sft_magics.lifecycle.jobs import client

_ROWS = 500
# parameters, and the pixels it was made for
_PACKAGED = {"minilm": (22_713_216, 0), "lite0": (4_652_008, 224), "smollm2": (134_515_008, 0)}


def listed(ws: Workspace, task: str | None, data: str | None) -> Table:
    """Return the bases for a task, those that are here first and by their probe on `data`, if it is given."""
    from sft_magics.registry import Registry

    dataset = Registry(ws).dataset(data) if data is not None else None
    if dataset is not None and task is not None and dataset.task != task:
        raise errors.DataProblem(f"Dataset {dataset.name} is for {dataset.task}, not for {task}.", "leave --task out.")
    kind = dataset.task if dataset is not None else str(task)
    if dataset is not None and kind not in CLASSIFIERS:
        raise errors.DataProblem(
            f"Bases are ranked by classes of rows, and {dataset.name} is for {kind}.", f"%sft_models --task {kind}"
        )
    facts, steps = _known(ws, kind)
    here = [base for base, fact in facts.items() if fact["here"]] or list(base_sources.packaged_for(kind))
    timed = {base: facts[base]["pixels"] for base in here if facts[base]["here"] and base not in steps}
    probed: dict[str, Any] = {}
    if dataset is not None or timed:
        order = {**_order(ws, kind), "timed": timed}
        order["starts"] = {base: base_sources.resolve(base, kind) for base in (here if dataset is not None else timed)}
        if dataset is not None:
            order |= {"data": str(ws.root / dataset.file), "labels": list(dataset.labels)}
        what = f"comparing bases for {dataset.ref}" if dataset is not None else "measuring what a step takes"
        found = client.ask(ws, what, order)
        probed, steps = found["probed"], found["steps"]
    rows = [_candidate(kind, fact, probed.get(base, {}), steps.get(base)) for base, fact in facts.items()]
    rows.sort(key=lambda c: (not c.here, -(c.score or 0.0), c.parameters))
    name = dataset.ref if dataset is not None else "DATASET"
    return Table(
        "bases", tuple(rows), f"%sft_create NAME --data {name} --base {rows[0].base}", quality_against_cost(rows)
    )


def _order(ws: Workspace, task: str) -> dict[str, Any]:
    spec = {"kind": "candidates", "workspace": str(ws.root), "task": task}
    return {**spec, "starts": {}, "timed": {}, "labels": [], "rows": _ROWS}


def _known(ws: Workspace, task: str) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Return what is known of each base for a task, and the seconds a step of those that were measured takes."""
    from sft_magics.core.runtime import fetching

    found = client.ask(ws, f"looking for bases for {task}", _order(ws, task))
    facts = {k["base"]: k for k in found["known"]}
    for base in base_sources.packaged_for(task):
        parameters, pixels = _PACKAGED[base]
        facts[base] = {"base": base, "here": fetching.is_here(base), "pixels": pixels, "parameters": parameters,
                       "license": fetching.CATALOG[base].license}  # fmt: skip
    return facts, found["steps"]


def quality_against_cost(bases: Sequence[Candidate]) -> str:
    """Say in a sentence which bases are on the Pareto front: none is both quicker and better by its probe."""
    known = [(b.step_seconds, -b.score, b) for b in bases if b.step_seconds is not None and b.score is not None]
    front = [
        b for cost, bad, b in sorted(known, key=lambda k: k[:2])
        if not any((c, d) != (cost, bad) and c <= cost and d <= bad for c, d, _ in known)
    ]  # fmt: skip
    if len(known) < 2:
        return ""
    shown = ", ".join(f"{b.base} ({b.score:.3f} at {b.step_seconds:.2g} s a step)" for b in front)
    if len(front) == 1:
        return f"Quality against cost: {shown} is the best and the quickest."
    rest = "; any other is slower and no better than one of these" if len(front) < len(known) else ""
    return f"Quality against cost, from the quickest to the best: {shown}{rest}."


def _candidate(task: str, fact: dict[str, Any], probe: dict[str, Any], step: float | None) -> Candidate:
    return Candidate(
        fact["base"], task, int(probe.get("parameters") or fact["parameters"]), fact["license"], fact["here"],
        fact["pixels"], probe.get("score"), probe.get("spread"), probe.get("seconds"),
        step,
    )  # fmt: skip
