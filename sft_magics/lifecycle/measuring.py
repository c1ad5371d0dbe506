"""Measuring a version of any task in the engine's process: metrics, confusion, and the rows it answers worst."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sft_magics.core import codec, errors
from sft_magics.core.records import Metric, Prediction, Version
from sft_magics.core.tasks import CAUSAL_LM, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle import answers, work

if TYPE_CHECKING:
    from sft_magics.core.records import Dataset

# From how bad an answer is wrong: any box too many or too few, a picture of which less than half overlaps.
WRONG = {OBJECT_DETECTION: 0.0, SEMANTIC_SEGMENTATION: 0.5, CAUSAL_LM: 1e300}


@dataclass(frozen=True)
class Measured:
    """What was found on `n` rows; `wrong` of them are beyond the task's bound, `worst` are answered worst."""

    metrics: dict[str, Metric]
    confusion: list[list[int]]
    n: int
    wrong: int
    worst: tuple[Prediction, ...]
    badness: list[float] = field(default_factory=list)


def measure(ws: Workspace, version: Version, dataset: "Dataset", split: str, worst: int) -> Measured:
    """Measure a version on one split of a data set, or all of it; raises DataProblem for rows of another task."""
    from sft_magics.registry import ArtifactStore

    check_same_task(version, dataset)
    if not (dataset.counts.get(split) if split != "all" else sum(dataset.counts.values())):
        raise errors.DataProblem(f"Dataset {dataset.name} has no {split} rows.", "write --split all.")
    spec = {
        "kind": "evaluate",
        "task": version.task,
        "folder": str(ArtifactStore(ws.artifacts).checkout(version.artifact)),
        "data": str(ws.root / dataset.file),
        "split": None if split == "all" else split,
        "worst": worst,
        "wrong": WRONG.get(version.task, 0.0),
    }
    found = work.ask(ws, f"evaluating {version.ref} on {dataset.name}", spec)
    metrics = {key: codec.build(Metric, value) for key, value in found["metrics"].items()}
    return Measured(metrics, found["confusion"], found["n"], found["wrong"], *_worst(version, found["worst"]))


def _worst(version: Version, rows: list[dict[str, Any]]) -> tuple[tuple[Prediction, ...], list[float]]:
    said = [answers.answer(version, row["text"], row["answer"], row["target"]) for row in rows]
    shown = answers.pictured(said, version, [row["target"] for row in rows])
    return shown, [row["badness"] for row in rows]


def check_same_task(version: Version, dataset: "Dataset") -> None:
    """Refuse data of another task, or whose classes have other numbers."""
    if dataset.task != version.task:
        raise errors.DataProblem(
            f"Dataset {dataset.name} is for {dataset.task}, and {version.ref} for {version.task}.",
            "%sft_data lists the datasets and what they are for.",
        )
    same = set(dataset.labels) <= set(version.labels)
    if not same or (version.task == SEMANTIC_SEGMENTATION and dataset.labels != version.labels[: len(dataset.labels)]):
        raise errors.DataProblem(
            f"{dataset.name} has the classes {', '.join(dataset.labels[:10])}, and {version.ref} knows "
            f"{', '.join(version.labels[:10])}.",
            "rename the classes, or take other data.",
        )
