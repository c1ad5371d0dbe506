"""Garbage collection: find what no version needs, say how much it takes, and remove it when told to."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sft_magics.core import workspace as places
from sft_magics.core.records import Collection, Garbage, Version
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle import engines, runs, serve, work
from sft_magics.lifecycle.data import WorkspaceOption

if TYPE_CHECKING:
    from sft_magics.registry import Registry


def gc(
    *,
    retired: Annotated[bool, "also the weights of retired versions that nothing needs; their records stay"] = False,
    yes: Annotated[bool, "really remove it; without this it is only shown"] = False,
    workspace: WorkspaceOption = None,
) -> Collection:
    """Show what no version needs and what it takes; with --yes remove it.

    That is weights no version has, what was exported of such, and checkpoints of runs whose version is committed. With
    --retired also the weights of retired versions, except those that an endpoint, `previous`, or a version made from
    them needs. Weights saved within the last hour stay: their run may be about to commit them.
    """
    from sft_magics.registry import ArtifactStore, Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    going, kept = _retired(ws, registry) if retired else ([], [])
    leaving = {v.artifact for v in going}
    keep = {v.artifact for v in registry.versions()} - leaving
    keep |= {v.artifact for v in registry.versions() if v.status != "retired"}
    store = ArtifactStore(ws.artifacts)
    with work.telling("looking for what nobody needs") as say:
        say("reading", 0, 0)
        found = store.collect(keep, dry_run=True)
        folders = _folders(ws)
        exported = engines.unneeded(ws, keep)
        garbage = [_weights(found.artifacts, found.bytes, going)] if found.artifacts or found.bytes else []
        garbage += [Garbage(f"checkpoints of {run}", size, why) for run, size, why, _ in folders]
        if exported and (size := sum(work.size_of(path) for path in exported)):
            garbage.append(Garbage("exported networks", size, "no version needs them"))
        if yes:
            _record(registry, [v for v in going if v.artifact in found.artifacts])
            store.collect(keep)
            engines.remove(exported)
            for *_, paths in folders:
                for path in paths:
                    shutil.rmtree(path, ignore_errors=True)
    total = sum(g.bytes for g in garbage)
    step = "" if yes or not garbage else f"%sft_gc{' --retired' * retired} --yes"
    return Collection(tuple(garbage), tuple(kept), total, yes, step)


def _weights(artifacts: tuple[str, ...], size: int, going: list[Version]) -> Garbage:
    refs = [v.ref for v in going if v.artifact in artifacts]
    count = f"{len(artifacts)} artifact{'s' * (len(artifacts) != 1)}"
    if not artifacts:
        return Garbage("parts of unfinished saves", size, "what wrote them was ended")
    why = f"of the retired {', '.join(refs[:5])}" if refs else "no version has them"
    return Garbage(count, size, why)


def _retired(ws: Workspace, registry: "Registry") -> tuple[list[Version], list[Garbage]]:
    """Return the retired versions whose weights may go, and those whose weights are needed, with by what."""
    endpoints = serve.running(ws)
    versions = registry.versions()
    parents = {v.parent: v.ref for v in versions if v.status != "retired" and v.parent}
    working = [job for job in runs.all_jobs(ws) if job.alive() and not runs.describe(job).version]
    going, kept = [], []
    for version in (v for v in versions if v.status == "retired"):
        needs = [f"endpoint {e.name}" for e in endpoints if e.version == version.ref]
        needs += [f"alias {a}" for a in version.aliases]
        needs += [f"{job.id}, which is at work" for job in working if job.spec().get("parent") == version.ref]
        needs += [f"{parents[version.ref]}, which was made from it"] if version.ref in parents else []
        if needs:
            kept.append(Garbage(f"weights of {version.ref}", version.size, f"needed by {', '.join(needs)}"))
        else:
            going.append(version)
    return going, kept


def _record(registry: "Registry", going: list[Version]) -> None:
    for version in going:
        registry.note_upkeep("collect", f"the weights of {version.ref}")


def _folders(ws: Workspace) -> list[tuple[str, int, str, list[Path]]]:
    """Return run, bytes, why and folders of what runs left behind that have a version already."""
    found = []
    for job in runs.all_jobs(ws):
        seen = runs.describe(job)
        paths = [path for name in work.LEFTOVERS if (path := job.path / name).is_dir()]
        if seen.version and not job.alive() and paths:
            size = sum(work.size_of(path) for path in paths)
            found.append((job.id, size, f"its version {seen.version} is committed", paths))
    return found
