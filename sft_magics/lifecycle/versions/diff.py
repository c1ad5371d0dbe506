"""What changed between two versions: how they were made, how far the weights moved, and which answers flipped."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from sft_magics.core import errors, paired_tests, postprocessing
from sft_magics.core import metrics as measures
from sft_magics.core import workspace as places
from sft_magics.core.codec import plain
from sft_magics.core.records import Change, ChangedPrediction, Diff, LayerChange, MetricChange, Version
from sft_magics.core.signatures import FromNamespace, Names
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.evaluation import answers, row_selection
from sft_magics.lifecycle.evaluation.row_selection import Rows, Wanted
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.jobs.seen_rows import LEAVE_OUT, Seen
from sft_magics.lifecycle.options import WorkspaceOption

if TYPE_CHECKING:
    from sft_magics.registry import Registry

_SHOWN = 20


def diff(
    before: Annotated[str, "a version: reviews:1, reviews@live", Names("version")],
    after: Annotated[str, "the version to compare with it", Names("version")],
    *,
    data: Annotated[
        Any, "a dataset, file or DataFrame; without it the first one's dataset", Names("dataset"), FromNamespace()
    ] = None,
    seen: Annotated[Seen, "what becomes of rows that one of them was trained on"] = LEAVE_OUT,
    workspace: WorkspaceOption = None,
) -> Diff:
    """Show what differs between two versions: options, data, environment, layers, metrics, and which answers flipped.

    Both answer the same rows. Those that either, or a version it comes from, was trained on are left out and counted,
    unless --seen include; test rows are never taken. Accuracy is tested by McNemar's exact test, F1, precision and
    recall by a paired bootstrap.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    return compare(ws, registry, registry.version(before), registry.version(after), data, seen)


def compare(
    ws: Workspace, registry: "Registry", before: Version, after: Version, data: Any = None, seen: Seen = LEAVE_OUT
) -> Diff:
    """Return the difference of two versions; without predictions where their answers mean other things.

    Raises DataProblem where no row of the `data` that was named can be taken.
    """
    if before.ref == after.ref:
        raise errors.UsageProblem(
            f"Both are {before.ref}.", f"%sft_versions {before.model} lists others to compare it with."
        )
    rows, why_not = _rows(ws, registry, before, after, Wanted(data, seen=seen))
    found = _ask(ws, before, after, rows)
    made = Diff(
        before.ref, after.ref, changes(before.options, after.options), _data_changes(before, after),
        changes(_environment(before), _environment(after)), tuple(LayerChange(**layer) for layer in found["layers"]),
    )  # fmt: skip
    if rows is None:
        return replace(made, verdict=f"only the making and the weights are compared; {why_not}.")
    return _with_answers(made, before, after, rows, found["scores"])


def changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[Change, ...]:
    """Return what differs between two dictionaries."""
    names = [*before, *(name for name in after if name not in before)]
    pairs_ = ((name, _text(before.get(name)), _text(after.get(name))) for name in names)
    return tuple(Change(name, old, new) for name, old, new in pairs_ if old != new)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(plain(value), sort_keys=True)


def _environment(version: Version) -> dict[str, Any]:
    """Return what a version was computed with; of where it started from only the name, not the folder of that day."""
    found = {k: v for k, v in version.environment.items() if k not in ("start", "fresh")}
    start = version.environment.get("start")
    return {**found, "start": start.get("source")} if isinstance(start, dict) else found


def _data_changes(before: Version, after: Version) -> tuple[Change, ...]:
    return changes(
        {"dataset": before.data, "fingerprint": before.data_fingerprint[:12], "fine-tuned from": before.parent},
        {"dataset": after.data, "fingerprint": after.data_fingerprint[:12], "fine-tuned from": after.parent},
    )


def _rows(
    ws: Workspace, registry: "Registry", before: Version, after: Version, wanted: Wanted
) -> tuple[Rows | None, str]:
    """Return the rows that both versions answer, or None and why there are none."""
    if before.labels != after.labels or before.task != after.task:
        return None, "their answers are not comparable"
    if before.task not in CLASSIFIERS:
        why = f"row by row is for classifiers, and %sft_evaluate measures each of the two for {before.task}"
        return None, why
    try:
        return row_selection.choose(ws, registry, [before, after], wanted), ""
    except errors.DataProblem as problem:
        if wanted.data is not None:
            raise
        return None, f"{problem.what[0].lower()}{problem.what[1:].rstrip('.')}"


def _ask(ws: Workspace, before: Version, after: Version, rows: Rows | None) -> dict[str, Any]:
    from sft_magics.registry import ArtifactStore

    store = ArtifactStore(ws.artifacts)
    spec = {
        "kind": "compare",
        "task": before.task,
        "folders": [str(store.checkout(v.artifact)) for v in (before, after)],
        "texts": rows.texts if rows else [],
    }
    return client.ask(ws, f"comparing {before.ref} with {after.ref}", spec)


def _with_answers(made: Diff, before: Version, after: Version, rows: Rows, scores: list[list[list[float]]]) -> Diff:
    texts, truths = rows.texts, rows.truths
    said = [
        [postprocessing.classified(text, v.labels, s, t) for text, s, t in zip(texts, of, truths, strict=True)]
        for v, of in zip((before, after), scores, strict=True)
    ]
    guesses = [[one.label for one in of] for of in said]
    fixed, broke = paired_tests.flipped(truths, guesses[0], guesses[1])
    p_value = measures.mcnemar(len(fixed), len(broke))

    def flips(numbers: list[int]) -> tuple[ChangedPrediction, ...]:
        surest = sorted(numbers, key=lambda i: -said[1][i].confidence)[:_SHOWN]
        shown = answers.pictured([said[0][i] for i in surest], before)
        return tuple(ChangedPrediction(texts[i], truths[i], b, said[1][i]) for i, b in zip(surest, shown, strict=True))

    verdict, step = _verdict(before, after, len(fixed), len(broke), p_value)
    metrics = _metrics(before.labels, truths, guesses, p_value)
    return replace(
        made, rows=f"{rows.name} ({rows.split})", n=len(texts), metrics=metrics, fixed=len(fixed), broke=len(broke),
        p_value=p_value, broken=flips(broke), mended=flips(fixed), verdict=verdict, next_step=step,
        overlap=rows.overlap,
    )  # fmt: skip


def _metrics(
    labels: tuple[str, ...], truths: list[str], guesses: list[list[str]], p_value: float
) -> tuple[MetricChange, ...]:
    measured = [measures.classification(measures.confusion(truths, of, labels), labels) for of in guesses]
    found = []
    for name in ("accuracy", "precision", "recall", "f1"):
        gap = paired_tests.bootstrap(truths, guesses[0], guesses[1], labels, name)
        exact = name == "accuracy"
        test = "McNemar, exact" if exact else "paired bootstrap"
        found.append(
            MetricChange(
                name, measured[0][name], measured[1][name], gap.low, gap.high, p_value if exact else gap.p_value, test
            )
        )
    return tuple(found)


def _verdict(before: Version, after: Version, fixed: int, broke: int, p_value: float) -> tuple[str, str]:
    counts = f"{after.ref} fixed {fixed:,} and broke {broke:,}"
    if p_value >= paired_tests.SIGNIFICANT:
        return (
            f"{counts}; that may be chance (McNemar p = {p_value:.2g}).",
            f"keep {before.ref}, or compare on more rows.",
        )
    if fixed > broke:
        step = f'%sft_promote {after.ref} --to live --gate "not-worse live" --reason "fixed {fixed}, broke {broke}"'
        return f"{counts}: it is better (McNemar p = {p_value:.2g}).", step
    return f"{counts}: it is worse (McNemar p = {p_value:.2g}).", f"keep {before.ref}."
