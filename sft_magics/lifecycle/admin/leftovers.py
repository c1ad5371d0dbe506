"""What lies in a workspace and nothing needs: unfinished runs, versions of datasets, and what work left behind."""

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors, references
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import CollectableItem, Dataset, Run
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.inputs import data_versions
from sft_magics.lifecycle.jobs import client, run_folders

if TYPE_CHECKING:
    from sft_magics.registry import Registry

STATES = ("interrupted", "failed", "lost", "paused")
_GRACE = 3600.0  # seconds; what is younger may belong to work that goes on
_AT_WORK = ("running", "queued")
Paths = tuple[Path, ...]


def _nothing() -> None:
    """Change no record."""


@dataclass(frozen=True)
class Leftover:
    """Something that can go: files and folders, why, and what the registry notes; `subject` is its name there."""

    what: str
    why: str
    paths: tuple[Path, ...]
    subject: str
    note: Callable[[], object] = field(default=_nothing)
    job: JobFolder | None = None

    def shown(self) -> CollectableItem:
        """Return it with the bytes that its removal frees."""
        return CollectableItem(self.what, freed(self.paths), self.why)

    def remove(self) -> bool:
        """Note it and remove its files; False where a process has taken it up meanwhile."""
        if self.job is not None and self.job.alive():
            return False
        self.note()
        for path in self.paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return True


def freed(paths: Iterable[Path]) -> int:
    """Return the bytes that removing files and folders frees: what has another name elsewhere stays on the disk."""
    met: dict[tuple[int, int], list[int]] = {}
    for path in paths:
        files = (f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
        for file in files:
            try:
                seen = file.lstat()
            except OSError:
                continue
            found = met.setdefault((seen.st_dev, seen.st_ino), [seen.st_size, seen.st_nlink, 0])
            found[2] += 1
    return sum(size for size, links, names in met.values() if names >= links)


# Runs


def unfinished(ws: Workspace, registry: "Registry", which: str, before: float) -> list[Leftover]:
    """Return the runs without a version that are in the state `which` ("all": any) and ended before a moment."""
    wanted = STATES if which == "all" else (which,)
    found = [(job, run_folders.describe(job)) for job in run_folders.all_jobs(ws)]
    return [
        _run(registry, job, run)
        for job, run in found
        if run.state in wanted and not run.version and (run.ended_at or run.created_at) < before
    ]


def run_called(ws: Workspace, registry: "Registry", name: str) -> Leftover:
    """Return a run to be dropped; raises NotFound, and Refused where it is at work or its version needs it."""
    job = run_folders.find(ws, name)
    run = run_folders.describe(job)
    if run.state in _AT_WORK or job.alive():
        raise errors.Refused(f"{run.id} is {run.state}.", f"%sft_stop {run.id} first.")
    made = [v for v in registry.versions() if v.run == run.id and v.status != "retired"]
    if made:
        raise errors.Refused(
            f"{run.id} made {made[0].ref}, which is in use: endpoints of it are checked by the examples kept here.",
            f"%sft_retire {made[0].ref} first.",
        )
    return _run(registry, job, run)


def _run(registry: "Registry", job: JobFolder, run: Run) -> Leftover:
    far = f" at step {run.step:,} of {run.steps:,}" if run.steps else ""
    made = f"its version {run.version} is retired" if run.version else f"{run.state}{far}, without a version"
    return Leftover(
        f"{run.id} of {run.model}", made, (job.path,), run.id,
        lambda: registry.note_removed(run.id, run.state, model=run.model), job,
    )  # fmt: skip


# Datasets


def unneeded_datasets(
    ws: Workspace, registry: "Registry", before: float, leaving: Collection[str]
) -> tuple[list[Leftover], list[CollectableItem]]:
    """Return the versions of datasets that nothing needs and were made before a moment, and those kept, with why.

    `leaving` are runs that go, and so need nothing any more.
    """
    needed = data_versions.needs(ws, registry, leaving)
    known = registry.datasets()
    newest = {d.name: d for d in known}  # they come in the order of their numbers
    for dataset in newest.values():
        if dataset.ref not in needed and time.time() - dataset.created_at < _GRACE:
            needed[dataset.ref] = ["what you do next: it was made within the last hour"]
    going, kept = [], []
    for dataset in known:
        if dataset.ref in needed:
            kept.append(
                CollectableItem(f"dataset {dataset.ref}", _size(ws, dataset), f"needed by {_few(needed[dataset.ref])}")
            )
        elif dataset.created_at < before:
            going.append(dataset)
    return [_dataset(ws, registry, dataset, going) for dataset in going], kept


def dataset_called(ws: Workspace, registry: "Registry", name: str) -> Leftover:
    """Return a version of a dataset to be dropped; raises NotFound, and Refused where something needs it."""
    wanted = references.dataset(name)
    if wanted.number is None:
        known = [d.ref for d in registry.dataset_versions(wanted.name)] or [registry.dataset(name).ref]
        raise errors.UsageProblem(
            f"{name} names {len(known)} version{'s' * (len(known) != 1)} of a dataset, and one is dropped at a time.",
            f"%sft_gc {known[0]}",
        )
    dataset = registry.dataset(wanted)
    needed = data_versions.needs(ws, registry, ()).get(dataset.ref)
    if needed:
        raise errors.Refused(
            f"The dataset {dataset.ref} is needed by {_few(needed)}.", f"%sft_history --dataset {dataset.ref}"
        )
    return _dataset(ws, registry, dataset, [dataset])


def _dataset(ws: Workspace, registry: "Registry", dataset: Dataset, going: Collection[Dataset]) -> Leftover:
    gone = {d.ref for d in going}
    shared = any(d.file == dataset.file and d.ref not in gone for d in registry.datasets())
    return Leftover(
        f"dataset {dataset.ref}", f"no model, version or run needs it; it came from {dataset.source}",
        () if shared else (ws.root / dataset.file,), f"dataset {dataset.ref}",
        lambda: registry.drop_dataset(dataset.ref, reason="gc"),
    )  # fmt: skip


def _size(ws: Workspace, dataset: Dataset) -> int:
    return freed([ws.root / dataset.file])


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# What work left behind


def of_work(
    ws: Workspace, registry: "Registry", leaving: Collection[str], dropped: Collection[str]
) -> Iterator[Leftover]:
    """Yield what work left behind; `leaving` are the versions of datasets that go as well, `dropped` the runs."""
    retired = {v.run for v in registry.versions() if v.status == "retired"}
    for job in run_folders.all_jobs(ws):
        if job.id not in dropped and not job.alive():
            yield from _of_run(registry, job, retired)
    jobs = [JobFolder(path) for path in sorted(ws.jobs.iterdir()) if path.is_dir()]
    dead = tuple(job.path for job in jobs if not job.alive() and _old(job.path))
    if dead:
        yield _group(registry, f"{len(dead)} folder{'s' * (len(dead) > 1)} of jobs", "they failed or were ended", dead)
    tables, pictures = _unnamed(ws, registry, leaving)
    if tables:
        yield _group(registry, "tables", "no dataset has them", tables)
    if pictures:
        yield _group(
            registry, f"{len(pictures):,} picture{'s' * (len(pictures) > 1)}", "no dataset names them", pictures
        )


def _of_run(registry: "Registry", job: JobFolder, retired: Collection[str]) -> Iterator[Leftover]:
    made = run_folders.describe(job).version
    if made:
        paths = tuple(path for name in client.LEFTOVERS if (path := job.path / name).is_dir())
        if paths:
            yield _group(registry, f"checkpoints of {job.id}", f"its version {made} is committed", paths)
        start = job.path / run_folders.START
        if start.is_dir() and job.id in retired:
            yield _group(registry, f"the start of {job.id}", f"its version {made} is retired", (start,))
        return
    older = tuple(sorted((job.path / "checkpoints").glob("step-*"))[:-1])
    staged = tuple((job.path / "checkpoints").glob(".*"))
    if (older or staged) and _newest_is_whole(job):
        why = "its newest checkpoint is whole, and a run goes on from there"
        yield _group(registry, f"older checkpoints of {job.id}", why, (*older, *staged))


def _newest_is_whole(job: JobFolder) -> bool:
    from sft_magics.engine.training import checkpoints

    return next((whole for _, whole in checkpoints.newest(job.path / "checkpoints")), False)


def _unnamed(ws: Workspace, registry: "Registry", leaving: Collection[str]) -> tuple[Paths, Paths]:
    """Return the tables that no record has, and the pictures that no table which stays names.

    Where a table is damaged its pictures cannot be told from others, and none is returned.
    """
    known = registry.datasets()
    files = {ws.root / d.file for d in known}
    tables = tuple(p for p in sorted(ws.datasets.rglob("*.parquet")) if p not in files and _old(p))
    folder = ws.root / "pictures"
    if not folder.is_dir():
        return tables, ()
    try:
        named = _named(ws, [d for d in known if d.of_images and d.ref not in leaving])
    except errors.DataProblem:
        return tables, ()
    pictures = (path for path in sorted(folder.rglob("*")) if path.is_file() and str(path) not in named)
    return tables, tuple(path for path in pictures if _old(path))


def _named(ws: Workspace, datasets: Iterable[Dataset]) -> set[str]:
    """Return the paths of all pictures and masks of some datasets; raises DataProblem."""
    from sft_magics.datasets import rows

    named: set[str] = set()
    for dataset in datasets:
        found = rows(ws, dataset)
        named.update(*(found[column] for column in ("text", "mask") if column in found))
    return named


def _group(registry: "Registry", what: str, why: str, paths: tuple[Path, ...]) -> Leftover:
    return Leftover(what, why, paths, what, lambda: registry.note_removed(what, why))


def _old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _GRACE
    except OSError:
        return False
