"""Run a version's recipe again and say whether the weights and metrics come out the same, and what differs if not."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sft_magics.core import codec, errors, portable
from sft_magics.core import workspace as places
from sft_magics.core.records import Change, Dataset, Metric, Reproduction, Version
from sft_magics.core.signatures import Names
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.versions import diff

if TYPE_CHECKING:
    from sft_magics.registry import Registry

_NOT_COMPARED = ("host", "start", "fresh")


def reproduce(
    version: Annotated[str, "the version to make again: reviews:3", Names("version")],
    *,
    workspace: WorkspaceOption = None,
) -> Reproduction:
    """Train again from the same start, on the same data, with the same options, and compare; nothing is committed.

    On the same CPU and libraries the weights agree to the bit. Raises Refused when the data has changed since, or the
    version came from elsewhere.
    """
    from sft_magics.registry import ArtifactStore, Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    found = registry.version(version)
    spec = _spec(ws, registry, found)
    spec["stored"] = str(ArtifactStore(ws.artifacts).checkout(found.artifact))
    began = time.monotonic()
    made = client.ask(ws, f"making {found.ref} again", spec)
    metrics = {k: codec.build(Metric, m) for k, m in made["metrics"].items()}
    return _compared(found, made, metrics, time.monotonic() - began)


def _spec(ws: Workspace, registry: "Registry", version: Version) -> dict[str, Any]:
    model, dataset = registry.model(version.model), _dataset(registry, version)
    start: dict[str, Any] = portable.unpacked(version.environment.get("start") or model.weights["start"], ws.root)
    if version.parent != version.ancestor and not Path(start["path"]).is_dir():
        raise errors.Refused(
            f"{version.ref} cannot be made again: the weights of {version.parent}, with which it began, are gone.",
            f"%sft_show {version.ref} has what is known of it.",
        )
    if version.parent is not None and version.parent == version.ancestor:
        from sft_magics.registry import ArtifactStore

        folder = ArtifactStore(ws.artifacts).checkout(registry.version(version.parent).artifact)
        start = {"kind": "folder", "path": str(folder), "source": f"version {version.parent}"}
    return {
        "kind": "reproduce",
        "workspace": str(ws.root),
        "model": version.model,
        "task": version.task,
        "data_file": str(ws.root / dataset.file),
        "labels": list(version.labels),
        "start": start,
        "options": version.options,
        "created_at": time.time(),
    }


def _dataset(registry: "Registry", version: Version) -> Dataset:
    try:
        return registry.data_of(version)
    except errors.NotFound:
        raise errors.Refused(
            f"{version.ref} cannot be made again: its data {version.data} is not in this workspace.",
            f"%sft_data {version.data.partition(':')[0]} FILE loads it.",
        ) from None


def _compared(version: Version, made: dict[str, Any], metrics: dict[str, Metric], seconds: float) -> Reproduction:
    before = {k: v for k, v in version.environment.items() if k not in _NOT_COMPARED}
    environment = diff.changes(before, {k: v for k, v in made["environment"].items() if k not in _NOT_COMPARED})
    changed = tuple(
        Change(key, f"{old.value:.6g}", f"{metrics[key].value:.6g}" if key in metrics else "")
        for key, old in version.metrics.items()
        if key not in metrics or not _agree(old, metrics[key], 0.0)
    )
    inside = all(key in metrics and _agree(old, metrics[key], 1.0) for key, old in version.metrics.items())
    same = bool(made["same"])
    return Reproduction(
        version.ref, same, float(made["largest"]), changed, not changed, environment, seconds,
        _verdict(version.ref, same, float(made["largest"]), changed, inside, environment),
    )  # fmt: skip


def _agree(old: Metric, new: Metric, slack: float) -> bool:
    """Say whether two metrics are equal, or with `slack` whether the new one is within the old one's interval."""
    if old.value == new.value or (old.value != old.value and new.value != new.value):
        return True
    return bool(slack) and old.low is not None and old.high is not None and old.low <= new.value <= old.high


def _verdict(
    ref: str, same: bool, largest: float, changed: tuple[Change, ...], inside: bool, environment: tuple[Change, ...]
) -> str:
    if same:
        return f"{ref} came out the same: every weight agrees to the bit."
    why = f"; the environment differs in {', '.join(c.name for c in environment[:4])}" if environment else ""
    moved = f"the weights differ by up to {largest:.2g}"
    if not changed:
        return f"{ref} came out with the same metrics; {moved}{why}."
    if inside:
        return f"{ref} came out with metrics within their intervals; {moved}{why}."
    return f"{ref} did not come out the same: {', '.join(c.name for c in changed[:4])} differ; {moved}{why}."
