"""The error gallery: what a version gets wrong and is surest of, and which classes it takes for which."""

from collections import Counter
from typing import Annotated

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import ErrorGallery, Mistake
from sft_magics.core.signatures import Names
from sft_magics.lifecycle import evaluate
from sft_magics.lifecycle.data import WorkspaceOption

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
    name, part, answers = evaluate.answered(ws, registry, found, data)
    wrong = [a for a in answers if a.label != a.truth]
    pairs = Counter((str(a.truth), a.label) for a in wrong)
    chosen = [a for a in wrong if truth in (None, a.truth) and predicted in (None, a.label)]
    surest = sorted(chosen, key=lambda a: -a.confidence)[:count]
    return ErrorGallery(
        found.ref, name, part, len(answers), len(wrong), len(chosen), evaluate.pictured(surest, found),
        tuple(Mistake(t, p, n) for (t, p), n in pairs.most_common(8)),
    )  # fmt: skip
