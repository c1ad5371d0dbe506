"""Measuring a version of any task in the engine's process: metrics, confusion, and the rows it answers worst."""

from dataclasses import dataclass, field
from typing import Any

from sft_magics.core import codec
from sft_magics.core.records import Metric, Prediction, Version
from sft_magics.core.tasks import CAUSAL_LM, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.evaluation import answers
from sft_magics.lifecycle.evaluation.row_selection import Rows
from sft_magics.lifecycle.jobs import client

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


def measure(ws: Workspace, version: Version, rows: Rows, worst: int) -> Measured:
    """Measure a version of any task on rows; the `worst` of them are shown with their answers."""
    from sft_magics.registry import ArtifactStore

    spec = {
        "kind": "evaluate",
        "task": version.task,
        "folder": str(ArtifactStore(ws.artifacts).checkout(version.artifact)),
        "texts": rows.texts,
        "targets": rows.truths,
        "worst": worst,
        "wrong": WRONG.get(version.task, 0.0),
    }
    found = client.ask(ws, f"evaluating {version.ref} on {rows.name}", spec)
    metrics = {key: codec.build(Metric, value) for key, value in found["metrics"].items()}
    return Measured(metrics, found["confusion"], found["n"], found["wrong"], *_worst(version, found["worst"]))


def _worst(version: Version, rows: list[dict[str, Any]]) -> tuple[tuple[Prediction, ...], list[float]]:
    said = [answers.answer(version, row["text"], row["answer"], row["target"]) for row in rows]
    shown = answers.pictured(said, version, [row["target"] for row in rows])
    return shown, [row["badness"] for row in rows]
