"""The error gallery: what a version gets wrong and is surest of, and which classes it takes for which."""

from collections import Counter
from typing import Annotated, Any

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import ErrorGallery, Mistake, Prediction, Version
from sft_magics.core.signatures import FromNamespace, Names
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.evaluation import answers, evaluate, evaluation_job, row_selection
from sft_magics.lifecycle.evaluation.row_selection import Rows, Split, Wanted
from sft_magics.lifecycle.jobs.seen_rows import LEAVE_OUT, Seen
from sft_magics.lifecycle.options import WorkspaceOption

_MOST = 50


def errors_(
    version: Annotated[str, "a version: reviews:1, reviews@live, or reviews for the newest", Names("version")],
    *,
    data: Annotated[
        Any, "a dataset, file or DataFrame; without it the dataset it was trained on", Names("dataset"), FromNamespace()
    ] = None,
    split: Annotated[Split, "which rows; auto: all that it was not trained on, but no test rows"] = "auto",
    seen: Annotated[Seen, "what becomes of rows that it, or a version it comes from, was trained on"] = LEAVE_OUT,
    truth: Annotated[str | None, "only rows of this class"] = None,
    predicted: Annotated[str | None, "only rows that were taken for this class"] = None,
    count: Annotated[int, "how many are shown, the surest first"] = 12,
    workspace: WorkspaceOption = None,
) -> ErrorGallery:
    """Show what a version gets wrong, the surest first: texts, or pictures; and which classes it takes for which.

    Of boxes and masks it shows the pictures that overlap least with the truth, of a language model the rows that
    surprise it most.

    Rows that it or a version it comes from was trained on are left out and counted, unless --seen include; see
    %sft_evaluate. Raises NotFound for a class that there is not.
    """
    from sft_magics.registry import Registry

    if not 1 <= count <= _MOST:
        raise errors.UsageProblem(f"--count cannot be {count}: 1 to {_MOST} fit a page.", "write --count 12.")
    ws = places.find(workspace)
    registry = Registry(ws)
    found = registry.version(version)
    for label in (truth, predicted):
        if label is not None and label not in found.labels:
            raise errors.not_found("class", label, found.labels, f"%sft_errors {found.ref}")
    if found.task not in CLASSIFIERS and (truth or predicted):
        raise errors.UsageProblem(
            f"--truth and --predicted are for classifiers, and {found.ref} is for {found.task}.",
            f"%sft_errors {found.ref}",
        )
    rows = row_selection.choose(ws, registry, [found], Wanted(data, split, seen))
    if found.task in CLASSIFIERS:
        made = _wrong(found, rows, evaluate.answered(ws, found, rows), (truth, predicted), count)
    else:
        made = _worst(ws, found, rows, count)
    row_selection.log_test(registry, found, rows, "errors")
    return made


def _wrong(
    version: Version, rows: Rows, said: list[Prediction], classes: tuple[str | None, str | None], count: int
) -> ErrorGallery:
    """Return what a classifier answers wrongly, of the classes asked for, the surest first."""
    truth, predicted = classes
    wrong = [a for a in said if a.label != a.truth]
    pairs = Counter((str(a.truth), a.label) for a in wrong)
    chosen = [a for a in wrong if truth in (None, a.truth) and predicted in (None, a.label)]
    surest = sorted(chosen, key=lambda a: -a.confidence)[:count]
    return ErrorGallery(
        version.ref, rows.name, rows.split, len(said), len(wrong), len(chosen), answers.pictured(surest, version),
        tuple(Mistake(t, p, n) for (t, p), n in pairs.most_common(8)), version.task, version.labels, rows.overlap,
        rows.findings,
    )  # fmt: skip


def _worst(ws: Workspace, version: Version, rows: Rows, count: int) -> ErrorGallery:
    """Return the rows that a version of another task than classification answers worst."""
    found = evaluation_job.measure(ws, version, rows, count)
    pairs = [
        Mistake(version.labels[i], version.labels[j], n)
        for i, row in enumerate(found.confusion)
        for j, n in enumerate(row)
        if i != j and n
    ]
    pairs.sort(key=lambda pair: -pair.n)
    return ErrorGallery(
        version.ref, rows.name, rows.split, found.n, found.wrong, found.n, found.worst, tuple(pairs[:8]), version.task,
        version.labels, rows.overlap, rows.findings,
    )  # fmt: skip
