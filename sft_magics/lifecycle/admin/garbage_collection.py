"""Garbage collection: find what no version needs, say how much it takes, and remove it when told to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import CollectableItem, Collection, Version
from sft_magics.core.runtime import usage
from sft_magics.core.signatures import Names
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.admin import leftovers
from sft_magics.lifecycle.endpoints import engine_choice, rollout
from sft_magics.lifecycle.jobs import client, run_folders
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.versions import timestamps

if TYPE_CHECKING:
    from sft_magics.registry import Registry


def gc(
    what: Annotated[
        str | None, "drop this alone: a run (run-7f3a), or a version of a dataset (NAME:1)", Names("droppable")
    ] = None,
    *,
    runs: Annotated[
        Literal["interrupted", "failed", "lost", "paused", "all"] | None,
        "also runs that ended so and made no version; all: in any of these states",
    ] = None,
    datasets: Annotated[bool, "also versions of datasets that no model, version or run needs"] = False,
    older: Annotated[str, "of runs and datasets only those older than this: 7d, 12h, 2026-11-17"] = "",
    retired: Annotated[bool, "also the weights of retired versions that nothing needs; their records stay"] = False,
    yes: Annotated[bool, "really remove it; without this it is only shown"] = False,
    workspace: WorkspaceOption = None,
) -> Collection:
    """Show what nothing needs and the bytes it takes; with --yes remove it. The history keeps what was removed.

    That is weights no version has and what was exported of such, checkpoints of runs whose version is committed, older
    checkpoints of runs that rest, folders of failed jobs, and pictures that no dataset names. With --retired also the
    weights of retired versions, except those that an endpoint, `previous`, or a version made from them needs. What was
    written within the last hour stays: it may belong to work that goes on.

    Raises Refused for a run at work, or a run or dataset that something needs.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    before = _before(older, of_some=runs is not None or datasets or what is not None)
    if what is not None:
        _check_alone(what, runs=runs is not None, datasets=datasets, older=bool(older), retired=retired)
        named = leftovers.run_called if what.startswith("run-") else leftovers.dataset_called
        found, kept = _Found([named(ws, registry, what)]), list[CollectableItem]()
    else:
        found, kept = _everything(ws, registry, runs, datasets=datasets, before=before, retired=retired)
    garbage = found.shown()
    if yes:
        found.remove(registry)
        usage.measure(ws)
    line = [what or "", f"--runs {runs}" * bool(runs), "--datasets" * datasets, f"--older {older}" * bool(older),
            "--retired" * retired, "--yes"]  # fmt: skip
    step = "" if yes or not garbage else " ".join(["%sft_gc", *filter(None, line)])
    return Collection(tuple(garbage), tuple(kept), sum(g.bytes for g in garbage), yes, step)


def _before(older: str, *, of_some: bool) -> float:
    """Return the moment that --older means; infinity without it."""
    if older and not of_some:
        raise errors.UsageProblem(
            "--older is about runs and datasets, and neither is named.", f"%sft_gc --runs interrupted --older {older}"
        )
    return timestamps.parse(older) if older else math.inf


def _check_alone(what: str, **options: bool) -> None:
    beside = next((name for name, given in options.items() if given), None)
    if beside is not None:
        raise errors.UsageProblem(f"{what} is dropped alone, and --{beside} is about others.", f"%sft_gc {what}")


@dataclass
class _Found:
    """What can go: leftovers, and the weights in the artifact store that nothing keeps, with what was exported."""

    left: list[leftovers.Leftover]
    ws: Workspace | None = None
    keep: frozenset[str] = frozenset()
    going: Sequence[Version] = ()

    def shown(self) -> list[CollectableItem]:
        """Return each with the bytes it takes."""
        found = []
        if self.ws is not None:
            from sft_magics.registry import ArtifactStore

            unkept = ArtifactStore(self.ws.artifacts).collect(self.keep, dry_run=True)
            if unkept.artifacts or unkept.bytes:
                found.append(_weights(unkept.artifacts, unkept.bytes, self.going))
            exported = engine_choice.unneeded(self.ws, self.keep)
            if exported and (size := sum(client.size_of(path) for path in exported)):
                found.append(CollectableItem("exported networks", size, "no version needs them"))
        return [*found, *(one.shown() for one in self.left)]

    def remove(self, registry: "Registry") -> None:
        """Remove all of it, and note it in the history."""
        for one in self.left:
            one.remove()
        if self.ws is None:
            return
        from sft_magics.registry import ArtifactStore

        store = ArtifactStore(self.ws.artifacts)
        gone = store.collect(self.keep, dry_run=True).artifacts
        _record(registry, [v for v in self.going if v.artifact in gone])
        store.collect(self.keep)
        engine_choice.remove(engine_choice.unneeded(self.ws, self.keep))


def _everything(
    ws: Workspace, registry: "Registry", states: str | None, *, datasets: bool, before: float, retired: bool
) -> tuple[_Found, list[CollectableItem]]:
    """Return all that can go, and what is kept although it is old, with why."""
    going, kept = _retired(ws, registry) if retired else ([], [])
    keep = {v.artifact for v in registry.versions()} - {v.artifact for v in going}
    keep |= {v.artifact for v in registry.versions() if v.status != "retired"}
    with client.telling("looking for what nobody needs") as say:
        say("reading", 0, 0)
        folders = leftovers.unfinished(ws, registry, states, before) if states else []
        dropped = {one.subject for one in folders}
        data, needed = leftovers.unneeded_datasets(ws, registry, before, dropped) if datasets else ([], [])
        leaving = {one.subject.removeprefix("dataset ") for one in data}
        left = list(leftovers.of_work(ws, registry, leaving, dropped))
    return _Found([*folders, *data, *left], ws, frozenset(keep), going), [*kept, *needed]


def _weights(artifacts: tuple[str, ...], size: int, going: Sequence[Version]) -> CollectableItem:
    refs = [v.ref for v in going if v.artifact in artifacts]
    count = f"{len(artifacts)} artifact{'s' * (len(artifacts) != 1)}"
    if not artifacts:
        return CollectableItem("parts of unfinished saves", size, "what wrote them was ended")
    why = f"of the retired {', '.join(refs[:5])}" if refs else "no version has them"
    return CollectableItem(count, size, why)


def _retired(ws: Workspace, registry: "Registry") -> tuple[list[Version], list[CollectableItem]]:
    """Return the retired versions whose weights may go, and those whose weights are needed, with by what."""
    endpoints = rollout.running(ws)
    versions = registry.versions()
    parents = {v.parent: v.ref for v in versions if v.status != "retired" and v.parent}
    working = [job for job in run_folders.all_jobs(ws) if job.alive() and not run_folders.describe(job).version]
    going, kept = [], []
    for version in (v for v in versions if v.status == "retired"):
        needs = [f"endpoint {e.name}" for e in endpoints if e.version == version.ref]
        needs += [f"alias {a}" for a in version.aliases]
        needs += [f"{job.id}, which is at work" for job in working if job.spec().get("parent") == version.ref]
        needs += [f"{parents[version.ref]}, which was made from it"] if version.ref in parents else []
        if needs:
            kept.append(CollectableItem(f"weights of {version.ref}", version.size, f"needed by {', '.join(needs)}"))
        else:
            going.append(version)
    return going, kept


def _record(registry: "Registry", going: list[Version]) -> None:
    for version in going:
        registry.note_upkeep("collect", f"the weights of {version.ref}")
