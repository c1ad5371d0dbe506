"""Versions of datasets: which one a run takes, how two differ, what became of each, and what needs one."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sft_magics.core import errors, references
from sft_magics.core.records import Dataset, DatasetDiff, DatasetEvent, Finding, Model, Table, Version
from sft_magics.core.tasks import SEMANTIC_SEGMENTATION
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import client, run_folders

if TYPE_CHECKING:
    from sft_magics.registry import Registry


def remembered(registry: "Registry", draft: Dataset) -> Dataset:
    """Put a dataset into the registry and return it, with a finding where its rows are those of a version before."""
    before = {d.number for d in registry.dataset_versions(draft.name, dropped=True)}
    found = registry.put_dataset(draft)
    if found.number not in before:
        return found
    newest = registry.dataset(found.name)
    bare = "" if newest.number == found.number else f"; {found.name} alone still means {newest.ref}"
    what = f"These are the rows, labels and split of {found.ref}, so no new version was made{bare}."
    return replace(found, findings=(Finding("info", "same_version", what), *found.findings))


def difference(ws: Workspace, registry: "Registry", after: str, before: str) -> DatasetDiff:
    """Return how the rows of one version differ from those of another; raises NotFound, Refused for another task."""
    from sft_magics.datasets import compare, rows, thumbnail

    new, old = registry.dataset(after), registry.dataset(before)
    if new.ref == old.ref:
        raise errors.UsageProblem(f"Both are {new.ref}.", f"%sft_history --dataset {new.name} lists its versions.")
    if new.task != old.task:
        raise errors.Refused(
            f"{new.ref} is for {new.task} and {old.ref} for {old.task}: their rows cannot be compared.",
            f"%sft_data {new.ref}",
        )
    found = compare(old, rows(ws, old), new, rows(ws, new))
    if not new.of_images:
        return found
    return replace(found, examples=tuple(replace(r, picture=thumbnail(r.text)) for r in found.examples))


def own_data(ws: Workspace, registry: "Registry", model: Model) -> Dataset:
    """Return the newest version of a model's own dataset whose labels fit, and say so where the last run had another.

    Raises NotFound where the model has no dataset, DataProblem where no version fits.
    """
    if model.data is None:
        raise errors.NotFound(
            f"The model {model.name} was imported and has no dataset of its own.",
            f"%sft_finetune {model.name} --data DATASET",
        )
    made_for = references.dataset(model.data)
    known = registry.dataset_versions(made_for.name)[::-1]
    if not known:
        registry.dataset(made_for.name)  # raises: there is none, or its versions were dropped
    misfits = {d.ref: why for d in known if (why := misfit(model, d))}
    fitting = [d for d in known if d.ref not in misfits]
    if not fitting:
        raise misfits[known[0].ref]
    found, last = fitting[0], _last(ws, model)
    if found.ref != last:
        other = "" if found is known[0] else f" ({known[0].ref} does not fit the model's labels)"
        with client.telling("data") as say:
            say(f"This takes {found.ref}, the newest version of {found.name}; before it was {last}{other}.", 0, 0)
    return found


def misfit(model: Model, dataset: Dataset) -> errors.DataProblem | None:
    """Return what keeps a model from learning from a dataset, with the way out; None where it fits."""
    if dataset.task != model.task:
        return errors.DataProblem(
            f"Dataset {dataset.ref} is for {dataset.task}, and model {model.name} for {model.task}.",
            f"%sft_create {model.name}-2 --data {dataset.ref} makes a model for it.",
        )
    if model.task == SEMANTIC_SEGMENTATION and dataset.labels != model.labels[: len(dataset.labels)]:
        return errors.DataProblem(
            f"The masks of {dataset.ref} number their classes {', '.join(dataset.labels[:8])}, and model {model.name} "
            f"{', '.join(model.labels[:8])}.",
            "write classes.txt and the masks in the model's order.",
        )
    unknown = [label for label in dataset.labels if label not in model.labels]
    if unknown:
        return errors.DataProblem(
            f"Dataset {dataset.ref} has labels that model {model.name} does not know: {', '.join(unknown[:5])}.",
            f"%sft_create {model.name}-2 --base {model.base} --data {dataset.ref} makes a model for them.",
        )
    return None


def _last(ws: Workspace, model: Model) -> str:
    """Return the data of the model's last run, or what it was created with."""
    for job in run_folders.all_jobs(ws):
        spec = job.spec()
        if spec.get("model") == model.name:
            return str(spec["data"])
    return str(model.data)


def history(ws: Workspace, registry: "Registry", name: str) -> Table:
    """Return what became of each version of a dataset, newest first; raises NotFound."""
    wanted = references.dataset(name)
    known = registry.dataset_versions(wanted.name, dropped=True)
    if not known:
        registry.dataset(wanted.name)  # raises NotFound with what there is
    chosen = {d.ref: d.fingerprint for d in known if wanted.number in (None, d.number)}
    if not chosen:
        registry.dataset(wanted)
    events = [*_changes(registry, chosen), *_uses(ws, registry, chosen)]
    step = f"%sft_data {known[-1].ref} --diff {known[-2].ref}" if len(known) > 1 else f"%sft_data {known[-1].ref}"
    return Table("dataset history", tuple(sorted(events, key=lambda e: -e.at)), step)


_WHAT = {"data": "made", "data, loaded again": "loaded again", "drop dataset": "dropped"}


def _changes(registry: "Registry", chosen: Mapping[str, str]) -> list[DatasetEvent]:
    found = []
    for entry in registry.history():
        kind, _, ref = entry.subject.partition(" ")
        if kind == "dataset" and ref in chosen:
            mark = entry.after or entry.before or ""
            what = _WHAT.get(entry.action, entry.action)
            found.append(DatasetEvent(entry.at, ref, what, entry.reason, mark, f"{entry.who}@{entry.host}"))
    return found


def _uses(ws: Workspace, registry: "Registry", chosen: Mapping[str, str]) -> list[DatasetEvent]:
    """Return who learned from the versions: runs with the version they made, and versions whose run is gone.

    `chosen` has their fingerprints: the data of an imported version may have the same name and other rows.
    """
    versions = {v.run: v for v in registry.versions() if v.run.startswith("run-")}
    found, met = [], set()
    for job in run_folders.all_jobs(ws):
        spec = job.spec()
        if spec.get("data") in chosen:
            met.add(job.id)
            made = f", which made {versions[job.id].ref}" if job.id in versions else ""
            found.append(_use(float(spec["created_at"]), spec["data"], f"{job.id} of {spec['model']}{made}"))
    found += [
        _use(v.created_at, v.data, f"{v.ref}, made by {v.run}")
        for v in registry.versions()
        if chosen.get(v.data) == v.data_fingerprint and v.run not in met
    ]
    found += [
        _use(d.created_at, parent, f"{d.ref}, which was made from it", "joined")
        for d in registry.datasets()
        for parent in d.parents
        if parent in chosen
    ]
    return found


def _use(at: float, ref: str, detail: str, what: str = "trained") -> DatasetEvent:
    return DatasetEvent(at, ref, what, detail)


def needs(ws: Workspace, registry: "Registry", leaving: Collection[str] = ()) -> dict[str, list[str]]:
    """Return what needs each version of a dataset, by its reference; what nothing needs is not there.

    A model needs the newest version of its own dataset that fits, a version its data unless its weights are gone, a run
    without a version its data (it may go on), and a dataset that is needed what it was made from. `leaving` are runs
    that are about to go.
    """

    found: dict[str, list[str]] = defaultdict(list)
    for ref, who in (*_models(registry), *_trained(ws, registry, leaving)):
        found[ref].append(who)
    for dataset in sorted(registry.datasets(), key=lambda d: -d.created_at):
        for parent in dataset.parents if dataset.ref in found else ():
            found[parent].append(f"dataset {dataset.ref}")
    return dict(found)


def _models(registry: "Registry") -> Iterator[tuple[str, str]]:
    for model in registry.models():
        known = registry.dataset_versions(references.dataset(model.data).name) if model.data else []
        fitting = [d for d in known if misfit(model, d) is None] or known
        if fitting:
            yield fitting[-1].ref, f"model {model.name}"


def _of_rows(marks: Mapping[str, str], version: Version) -> list[str]:
    """Return the dataset that a version was trained on, as `Registry.data_of` finds it; none where it is not here."""
    alike = [ref for ref, mark in marks.items() if mark == version.data_fingerprint]
    return [version.data] if version.data in alike else alike[:1]


def _trained(ws: Workspace, registry: "Registry", leaving: Collection[str]) -> Iterator[tuple[str, str]]:
    from sft_magics.registry import ArtifactStore

    stored = set(ArtifactStore(ws.artifacts).ids())
    versions = registry.versions()
    marks = {d.ref: d.fingerprint for d in registry.datasets()}
    for version in versions:
        if version.status != "retired" or version.artifact in stored:
            before = (version.environment.get("cloned") or {}).get("data", ())
            learned = dict.fromkeys((*_of_rows(marks, version), *before))
            yield from ((ref, f"version {version.ref}") for ref in learned)
    done = {*leaving, *(v.run for v in versions)}
    for job in run_folders.all_jobs(ws):
        if job.id not in done:
            yield str(job.spec().get("data", "")), f"{job.id}, which may go on"
