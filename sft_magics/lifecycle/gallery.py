"""The error gallery: what a version gets wrong and is surest of, and which classes it takes for which."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import ErrorGallery, Mistake, Version
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle import answers, evaluate, measuring
from sft_magics.lifecycle.data import WorkspaceOption

if TYPE_CHECKING:
    from sft_magics.registry import Registry

_MOST = 50


def errors_(
    version: Annotated[str, "a version: reviews:1, reviews@live, or reviews for the newest", Names("version")],
    *,
    data: Annotated[str | None, "a dataset; without it the one it was trained on", Names("dataset")] = None,
    truth: Annotated[str | None, "only rows of this class"] = None,
    predicted: Annotated[str | None, "only rows that were taken for this class"] = None,
    count: Annotated[int, "how many are shown, the surest first"] = 12,
    workspace: WorkspaceOption = None,
) -> ErrorGallery:
    """Show what a version gets wrong, the surest first: texts, or pictures; and which classes it takes for which.

    Of boxes and masks it shows the pictures that overlap least with the truth, of a language model the rows that
    surprise it most.

    It looks at the validation rows of data it was trained on, and at all rows of any other dataset. Raises NotFound for
    a class that there is not.
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
    if found.task not in CLASSIFIERS:
        return _worst(ws, registry, found, data, count, chosen=truth or predicted)
    name, part, said = evaluate.answered(ws, registry, found, data)
    wrong = [a for a in said if a.label != a.truth]
    pairs = Counter((str(a.truth), a.label) for a in wrong)
    chosen = [a for a in wrong if truth in (None, a.truth) and predicted in (None, a.label)]
    surest = sorted(chosen, key=lambda a: -a.confidence)[:count]
    return ErrorGallery(
        found.ref, name, part, len(said), len(wrong), len(chosen), answers.pictured(surest, found),
        tuple(Mistake(t, p, n) for (t, p), n in pairs.most_common(8)), found.task, found.labels,
    )  # fmt: skip


def _worst(
    ws: Workspace, registry: "Registry", version: Version, data: str | None, count: int, *, chosen: str | None
) -> ErrorGallery:
    """Return the rows that a version of another task than classification answers worst."""
    if chosen is not None:
        raise errors.UsageProblem(
            f"--truth and --predicted are for classifiers, and {version.ref} is for {version.task}.",
            f"%sft_errors {version.ref}",
        )
    dataset, part = evaluate.rows_for(registry, version, data)
    found = measuring.measure(ws, version, dataset, part, count)
    pairs = [
        Mistake(version.labels[i], version.labels[j], n)
        for i, row in enumerate(found.confusion)
        for j, n in enumerate(row)
        if i != j and n
    ]
    pairs.sort(key=lambda pair: -pair.n)
    return ErrorGallery(
        version.ref,
        dataset.ref,
        part,
        found.n,
        found.wrong,
        found.n,
        found.worst,
        tuple(pairs[:8]),
        version.task,
        version.labels,
    )
