"""Evaluate a version, for every stage, in the engine's process and never in the kernel."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sft_magics.core import answering, errors, measures
from sft_magics.core import workspace as places
from sft_magics.core.records import Dataset, Evaluation, Prediction, Version
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle import answers, measuring, work
from sft_magics.lifecycle.data import WorkspaceOption

if TYPE_CHECKING:
    from pandas import DataFrame

    from sft_magics.registry import Registry

_WORST = 8


def evaluate(
    version: Annotated[str, "a version: reviews:1, reviews@live, or reviews for the newest", Names("version")],
    *,
    data: Annotated[str | None, "a dataset; without it the one it was trained on", Names("dataset")] = None,
    split: Annotated[
        Literal["auto", "train", "validation", "test", "all"], "which rows; auto: never those it learned from"
    ] = "auto",
    gate: Annotated[str, 'what must hold, else it is an error (exit code 3): "f1 >= 0.9; recall[negative] > 0.8"'] = "",
    workspace: WorkspaceOption = None,
) -> Evaluation:
    """Measure a version: its task's metrics with 95 % intervals, per class, and the confusion matrix if there is one.

    Classifiers: accuracy, precision, recall, F1. Masks: IoU, precision and recall of pixels. Boxes: AP at an overlap of
    one half, COCO's AP, precision and recall. Language models: perplexity and the share of tokens that come first.

    With --split auto it takes the validation rows of data that it, or a version it came from, was trained on, and all
    rows of any other dataset. Raises CheckFailed where a gate does not hold.
    """
    from sft_magics.lifecycle import gates
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    found = registry.version(version)
    held = gates.for_evaluation(found, gate)
    began = time.monotonic()
    if found.task not in CLASSIFIERS:
        dataset, part = rows_for(registry, found, data, split)
        seen = measuring.measure(ws, found, dataset, part, _WORST)
        return held(Evaluation(
            found.ref, dataset.name, part, seen.n, found.labels, seen.metrics, seen.confusion, seen.worst,
            time.monotonic() - began, found.task,
        ))  # fmt: skip
    name, part, said = answered(ws, registry, found, data, split)
    return held(_evaluation(found, name, part, said, time.monotonic() - began))


def rows_for(registry: "Registry", version: Version, data: str | None, split: str = "auto") -> tuple[Dataset, str]:
    """Return the data set that is meant, and the split of it to take: never rows it learned from, unless asked."""
    dataset = registry.dataset(data or version.data)
    if split != "auto":
        return dataset, split
    return dataset, "validation" if dataset.name in learned_from(registry, version) else "all"


def answered(
    ws: Workspace, registry: "Registry", version: Version, data: str | None, split: str = "auto"
) -> tuple[str, str, list[Prediction]]:
    """Return the dataset's name, the split that was taken, and the answers to its rows, with their truths."""
    dataset, part = rows_for(registry, version, data, split)
    if dataset.task != version.task:
        measuring.check_same_task(version, dataset)
    rows = rows_of(ws, dataset, part)
    check_labels(version, dataset.name, list(rows["label"]))
    scores = score(ws, [version], list(rows["text"]), f"evaluating {version.ref} on {dataset.name}")[0]
    said = [
        answering.classified(text, version.labels, s, truth=label)
        for text, label, s in zip(rows["text"], rows["label"], scores, strict=True)
    ]
    return dataset.name, part, said


def score(ws: Workspace, versions: Sequence[Version], texts: list[str], title: str) -> list[list[Any]]:
    """Return what each version says of each text, from one process that loads the versions in turn."""
    from sft_magics.registry import ArtifactStore

    store = ArtifactStore(ws.artifacts)
    spec = {
        "kind": "predict",
        "task": versions[0].task,
        "folders": [str(store.checkout(v.artifact)) for v in versions],
        "texts": texts,
    }
    scores: list[list[Any]] = work.ask(ws, title, spec)["scores"]
    return scores


def rows_of(ws: Workspace, dataset: Dataset, split: str) -> "DataFrame":
    """Return the rows of one split, or of all; raises DataProblem when there are none."""
    from sft_magics.datasets import rows

    found = rows(ws, dataset, None if split == "all" else split)
    if found.empty:
        raise errors.DataProblem(f"Dataset {dataset.name} has no {split} rows.", "write --split all.")
    return found


def check_labels(version: Version, where: str, labels: Sequence[str]) -> None:
    """Refuse truths that the version cannot say."""
    unknown = sorted(set(labels) - set(version.labels))
    if unknown:
        raise errors.DataProblem(
            f"{where} has labels that {version.ref} does not know: {', '.join(unknown[:5])}.",
            f"{version.ref} knows {', '.join(version.labels[:10])}; rename the labels or take other data.",
        )


def learned_from(registry: "Registry", version: Version) -> set[str]:
    """Return the names of all datasets that this version or one it came from was trained on."""
    names: set[str] = set()
    queue = [version.ref]
    while queue:
        found = registry.version(queue.pop())
        queue += [found.ancestor] if found.ancestor else []
        data = [found.data, *(found.environment.get("cloned") or {}).get("data", ())]
        while data:
            name = data.pop()
            if name not in names:
                names.add(name)
                data += registry.dataset(name).parents
    return names


def _evaluation(version: Version, data: str, split: str, said: list[Prediction], seconds: float) -> Evaluation:
    counts = measures.confusion([str(a.truth) for a in said], [a.label for a in said], version.labels)
    wrong = sorted((a for a in said if a.label != a.truth), key=lambda a: -a.confidence)
    return Evaluation(
        version.ref, data, split, len(said), version.labels, measures.classification(counts, version.labels), counts,
        answers.pictured(wrong[:_WORST], version), seconds, version.task,
    )  # fmt: skip
