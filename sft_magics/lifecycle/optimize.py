"""Stage 5, optimize: act on what monitoring shows. Train a candidate from the live version and compare the two."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sft_magics.core import errors, metrics, paired_tests
from sft_magics.core import workspace as places
from sft_magics.core.records import Alert, Comparison, Dataset, EvaluationPair, Version
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import CLASSIFIERS, IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle import train
from sft_magics.lifecycle.evaluation import evaluate
from sft_magics.lifecycle.inputs import data_versions
from sft_magics.lifecycle.jobs import client, seen_rows
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.training import run_request
from sft_magics.lifecycle.training.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame

    from sft_magics.registry import Registry
    from sft_magics.serving.log.prediction_log import PredictionLog

_FEW_LABELS = 20
_SIGNIFICANT = 0.05
_TEXTS_LR = 3e-5
FEEDBACK = "feedback"


def retrain(
    model: Annotated[str, "the model to improve", Names("model")],
    *,
    from_: Annotated[
        str, "the version to start from and to compare with: an alias or a reference", Names("version")
    ] = "live",
    data: Annotated[
        str | None, "datasets joined by +; 'feedback' is what endpoints were told", Names("dataset")
    ] = None,
    epochs: Annotated[float | None, "passes over the training rows; without it as many as suit the data"] = None,
    lr: Annotated[float | None, "peak learning rate; 3e-5 for texts, else as the base recommends"] = None,
    batch: Annotated[int, "rows a step"] = 32,
    seed: Annotated[int, "order of rows and dropout"] = 0,
    workspace: WorkspaceOption = None,
) -> Comparison:
    """Train a candidate whose parent is the live version, and compare both on the same held-out rows.

    States its plan and reason first. The candidate gets the alias `candidate`; nothing goes live by itself. Rows that
    either was trained on are left out and counted. The difference on each dataset is tested with McNemar's exact test.
    Raises DataProblem for too little feedback.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    record = registry.model(model)
    live = registry.version(from_ if "@" in from_ or ":" in from_ else f"{model}@{from_}")
    run_request.check_parent(record, live)
    material = _material(ws, registry, live, data or f"{data_versions.own_data(ws, registry, record).ref}+{FEEDBACK}")
    usual = _TEXTS_LR if live.task == TEXT_CLASSIFICATION else None
    side = live.preprocessing.get("image_size")  # what is compared is what was learned, not another size
    recipe = Recipe(epochs=epochs, lr=usual if lr is None else lr, batch=batch, seed=seed, image_size=side)
    order = run_request.RunRequest(ws, record, material.dataset, recipe, live, ("candidate",))
    plan = _plan(live, firing(ws, registry, model), material.counts, order.options["epochs"])
    with client.telling(f"planning how to retrain {model}") as say:
        say(plan, 0, 0)
    run_request.check_fits(record, material.dataset)
    job = replace(order, note=plan).place()
    candidate = train.attend(ws, job)
    return _compare(ws, live, candidate, material, plan)


@dataclass(frozen=True)
class Material:
    """What the candidate learns from, and the held-out rows of each part, by name."""

    dataset: Dataset
    held_out: dict[str, "DataFrame"]
    counts: dict[str, int]


def _material(ws: Workspace, registry: "Registry", live: Version, wanted: str) -> Material:
    from sft_magics.datasets import combine, rows

    typed = [part.strip() for part in wanted.split("+") if part.strip()]
    names = [part if part == FEEDBACK else registry.dataset(part).ref for part in typed]
    if names == [n for n in names if n != FEEDBACK] and len(names) == 1:
        dataset = registry.dataset(names[0])
        held = rows(ws, dataset, "validation")
        return Material(dataset, {dataset.ref: held}, {dataset.ref: dataset.counts.get("train", 0)})
    parts = {name: _part(ws, registry, live, name) for name in names}
    dataset = combine(
        "-".join(part.partition(":")[0] for part in names),
        list(parts.values()),
        workspace=ws,
        source=" + ".join(names),
        parents=tuple(n for n in names if n != FEEDBACK),
        labels=live.labels,
        task=live.task,
    )
    dataset = registry.put_dataset(dataset)
    together = rows(ws, dataset, None)
    content = "sha256" if "sha256" in together.columns else "text"
    known = {name: set(part[content]) for name, part in parts.items()}
    held = together[together["split"] == "validation"]
    learned = together[together["split"] == "train"]
    return Material(
        dataset,
        {name: found for name in names if not (found := held[held[content].isin(known[name])]).empty},
        {name: int(learned[content].isin(known[name]).sum()) for name in names},
    )


def _part(ws: Workspace, registry: "Registry", live: Version, name: str) -> "DataFrame":
    from sft_magics.datasets import rows

    if name == FEEDBACK:
        return _feedback(ws, live)
    dataset = registry.dataset(name)
    run_request.check_fits(registry.model(live.model), dataset)
    return rows(ws, dataset, None)


def _feedback(ws: Workspace, live: Version) -> "DataFrame":
    """Return what this model's endpoints were asked and whose truth came back, as rows still to be split."""
    if live.task not in CLASSIFIERS:
        raise errors.Refused(
            f"Feedback is a label for each answer, and answers of {live.task} have none: there is nothing to learn.",
            f"%sft_data NEW FOLDER loads corrected rows, and %sft_finetune {live.model} --data NEW learns from them.",
        )
    from sft_magics.datasets import frame_of
    from sft_magics.datasets.pictures import image_files
    from sft_magics.serving.client import lifecycle as serving

    truths: dict[str, str] = {}
    files: dict[str, tuple[str, str]] = {}  # of pictures: what the log says of one -> path, SHA-256
    names = [e.name for e in serving.endpoints(ws) if e.model == live.model]
    for name in names:
        with serving.prediction_log(ws, name) as log:
            told = _told(log, live)
            if live.task == IMAGE_CLASSIFICATION:
                files |= _files(log, told, ws.root / "pictures")
                told = {text: told[text] for text in told if text in files}
            truths |= told
    if len(truths) < _FEW_LABELS:
        where = f"endpoint {names[0]}" if names else f"an endpoint of {live.model}"
        raise errors.DataProblem(
            f"There are {len(truths)} labeled answers of {live.model} to learn from; {_FEW_LABELS} are the least.",
            f"%sft_feedback {names[0] if names else 'ENDPOINT'} LABELS tells {where} the right labels.",
        )
    if live.task != IMAGE_CLASSIFICATION:
        return frame_of(list(truths), list(truths.values()))
    kept = [files[text] for text in truths]
    shown = [image_files.look(path).pixels for path, _ in kept]
    return frame_of([path for path, _ in kept], list(truths.values()), [sha for _, sha in kept], shown)


def _told(log: "PredictionLog", live: Version) -> dict[str, str]:
    """Return the truth of each input that the log has whole."""
    from sft_magics.serving.log.prediction_log import is_hashed

    return {row.text: row.truth for row in log.labeled() if row.truth in live.labels and not is_hashed(row.text)}


def _files(log: "PredictionLog", told: Iterable[str], folder: Path) -> dict[str, tuple[str, str]]:
    """Write the pictures that the log has below `folder`, one after the other; return path and SHA-256 of each."""
    from sft_magics.datasets import keep

    return {text: keep(found, folder) for text in told if (found := log.picture(text))}


def firing(ws: Workspace, registry: "Registry", model: str) -> list[Alert]:
    """Return the alerts that fire on the endpoints of `model`."""
    from sft_magics.serving.client import lifecycle as serving

    names = {e.name for e in serving.endpoints(ws) if e.model == model}
    return [a for a in registry.alerts() if a.endpoint in names and a.state == "firing"]


def _plan(live: Version, alerts: list[Alert], counts: dict[str, int], epochs: float) -> str:
    reason = "; ".join(f"{a.rule} fires at {a.value:.3f}" for a in alerts if a.value is not None)
    rows = " + ".join(f"{n:,} {name}" for name, n in counts.items())
    because = f"because {reason}" if reason else "as you asked; no alert is firing"
    return f"Fine-tune {live.ref} for {epochs:g} epoch{'' if epochs == 1 else 's'} on {rows} rows, {because}."


def _compare(ws: Workspace, live: Version, candidate: Version, material: Material, plan: str) -> Comparison:
    """Compare the two on the held-out rows of each part that neither was trained on."""
    began = time.monotonic()
    found = {name: seen_rows.unseen(ws, [live, candidate], part) for name, part in material.held_out.items()}
    held_out = {name: rows for name, (rows, _) in found.items() if not rows.empty}
    overlaps = {name: overlap for name, (_, overlap) in found.items()}
    texts = [t for part in held_out.values() for t in part["text"]]
    made = _pairs(held_out, _guesses(ws, live, candidate, texts)) if texts else []
    verdict, step = _verdict(live, candidate, made)
    return Comparison(
        candidate.ref, live.ref, plan, tuple(made), f"{verdict} ({time.monotonic() - began:.0f} s to compare)", step,
        overlaps,
    )  # fmt: skip


def _guesses(ws: Workspace, live: Version, candidate: Version, texts: list[str]) -> list[list[str]]:
    scored = evaluate.score(ws, [live, candidate], texts, f"comparing {live.ref} with {candidate.ref}")
    return [
        [v.labels[max(range(len(s)), key=s.__getitem__)] for s in rows]
        for v, rows in zip((live, candidate), scored, strict=True)
    ]


def _pairs(held_out: "dict[str, DataFrame]", guesses: list[list[str]]) -> list[EvaluationPair]:
    made, start = [], 0
    for name, part in held_out.items():
        here = slice(start, start := start + len(part))
        made.append(_pair(name, list(part["label"]), guesses[0][here], guesses[1][here]))
    return made


def _pair(name: str, truths: list[str], live: list[str], candidate: list[str]) -> EvaluationPair:
    fixed, broke = (len(rows) for rows in paired_tests.flipped(truths, live, candidate))
    hits = [sum(t == g for t, g in zip(truths, of, strict=True)) for of in (live, candidate)]
    before, after = (metrics.proportion("accuracy", right, len(truths)) for right in hits)
    return EvaluationPair(name, len(truths), before, after, fixed, broke, metrics.mcnemar(fixed, broke))


def _verdict(live: Version, candidate: Version, made: list[EvaluationPair]) -> tuple[str, str]:
    if not made:
        verdict = (
            f"No held-out row is left that neither {live.ref} nor {candidate.ref} was trained on: nothing is compared."
        )
        return verdict, f"%sft_diff {live.ref} {candidate.ref} --data DATASET compares them on other rows."
    better = [p.data for p in made if p.p_value < _SIGNIFICANT and p.fixed > p.broke]
    worse = [p.data for p in made if p.p_value < _SIGNIFICANT and p.broke > p.fixed]
    take = f'%sft_retire {live.ref} --successor {candidate.ref} --reason "better on {", ".join(better)}"'
    if better and not worse:
        return f"{candidate.ref} is better on {', '.join(better)} and not worse elsewhere.", take
    if worse:
        elsewhere = f", though better on {', '.join(better)}" if better else ""
        return (
            f"{candidate.ref} is worse on {', '.join(worse)}{elsewhere}.",
            f"leave {live.ref} live, or gather feedback.",
        )
    return f"{candidate.ref} and {live.ref} do not differ measurably.", f"leave {live.ref} live, or gather feedback."
