"""Evaluate a version, for every stage, in the engine's process and never in the kernel."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from sft_magics.core import errors, metrics, postprocessing
from sft_magics.core import workspace as places
from sft_magics.core.records import Dataset, Evaluation, Prediction, Version
from sft_magics.core.signatures import FromNamespace, Names
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.evaluation import answers, evaluation_job, row_selection
from sft_magics.lifecycle.evaluation.row_selection import Rows, Split, Wanted
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.jobs.seen_rows import LEAVE_OUT, Seen
from sft_magics.lifecycle.options import WorkspaceOption

if TYPE_CHECKING:
    from pandas import DataFrame

_WORST = 8


def evaluate(
    version: Annotated[str, "a version: reviews:1, reviews@live, or reviews for the newest", Names("version")],
    *,
    data: Annotated[
        Any, "a dataset, file or DataFrame; without it the dataset it was trained on", Names("dataset"), FromNamespace()
    ] = None,
    split: Annotated[Split, "which rows; auto: all that it was not trained on, but no test rows"] = "auto",
    seen: Annotated[Seen, "what becomes of rows that it, or a version it comes from, was trained on"] = LEAVE_OUT,
    text: Annotated[str | None, "the file's column of texts, of names of images, or of prompts"] = None,
    label: Annotated[str | None, "the file's column of truths"] = None,
    gate: Annotated[str, 'what must hold, else it is an error (exit code 3): "f1 >= 0.9; recall[negative] > 0.8"'] = "",
    workspace: WorkspaceOption = None,
) -> Evaluation:
    """Measure a version: its task's metrics with 95 % intervals, per class, and the confusion matrix if there is one.

    Classifiers: accuracy, precision, recall, F1. Masks: IoU, precision and recall of pixels. Boxes: AP at an overlap of
    one half, COCO's AP, precision and recall. Language models: perplexity and the share of tokens that come first.

    Rows are recognized by their content, under whatever name and in whatever split they come. Those that the version or
    one it comes from was trained on are left out and counted, unless --seen include. --split test is for the last look:
    each is written into the history. A file may be one that %sft_predict --to wrote. Raises DataProblem where no row is
    left, and CheckFailed where a gate does not hold.
    """
    from sft_magics.lifecycle.evaluation import gates
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    found = registry.version(version)
    held = gates.for_evaluation(found, gate)
    began = time.monotonic()
    chosen = row_selection.choose(ws, registry, [found], Wanted(data, split, seen, text, label))
    measured = (
        _classified(ws, found, chosen)
        if found.task in CLASSIFIERS
        else evaluation_job.measure(ws, found, chosen, _WORST)
    )
    row_selection.log_test(registry, found, chosen, "evaluate")
    return held(Evaluation(
        found.ref, chosen.name, chosen.split, measured.n, found.labels, measured.metrics, measured.confusion,
        measured.worst, time.monotonic() - began, found.task, overlap=chosen.overlap, findings=chosen.findings,
    ))  # fmt: skip


def _classified(ws: Workspace, version: Version, chosen: Rows) -> evaluation_job.Measured:
    said = answered(ws, version, chosen)
    counts = metrics.confusion([str(a.truth) for a in said], [a.label for a in said], version.labels)
    wrong = sorted((a for a in said if a.label != a.truth), key=lambda a: -a.confidence)
    worst = answers.pictured(wrong[:_WORST], version)
    return evaluation_job.Measured(metrics.classification(counts, version.labels), counts, len(said), len(wrong), worst)


def answered(ws: Workspace, version: Version, chosen: Rows) -> list[Prediction]:
    """Return a classifier's answers to rows, with their truths."""
    scores = score(ws, [version], chosen.texts, f"evaluating {version.ref} on {chosen.name}")[0]
    return [
        postprocessing.classified(text, version.labels, s, truth=label)
        for text, label, s in zip(chosen.texts, chosen.truths, scores, strict=True)
    ]


def score(ws: Workspace, versions: Sequence[Version], texts: list[str], title: str) -> list[list[Any]]:
    """Return what each version says of each text, from one process that loads the versions in turn."""
    return asked(ws, versions, texts, title, remarks=True)[0]


def asked(
    ws: Workspace, versions: Sequence[Version], texts: list[str], title: str, *, remarks: bool = False
) -> tuple[list[list[Any]], list[dict[int, int]]]:
    """Return what `score` does, and for each version the tokens that it did not read, by the place of the text."""
    from sft_magics.registry import ArtifactStore

    store = ArtifactStore(ws.artifacts)
    spec = {
        "kind": "predict",
        "task": versions[0].task,
        "folders": [str(store.checkout(v.artifact)) for v in versions],
        "texts": texts,
        "remarks": remarks,
    }
    found = client.ask(ws, title, spec)
    return found["scores"], [dict(unread) for unread in found["unread"]]


def rows_of(ws: Workspace, dataset: Dataset, split: str) -> "DataFrame":
    """Return the rows of one split, or of all; raises DataProblem when there are none."""
    from sft_magics.datasets import rows, unchanged

    found = rows(ws, dataset, None if split == "all" else split)
    if found.empty:
        raise errors.DataProblem(f"Dataset {dataset.name} has no {split} rows.", "write --split all.")
    unchanged.check(found, dataset.name)
    return found
