"""A trained folder that answers: the same preprocessing and number format as when it was measured."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sft_magics.core import errors
from sft_magics.engine import hardware, scoring, tasks


class Predictor:
    """Answers with the weights in `folder`; use it from one thread only (torch is slower in a second one)."""

    def __init__(
        self, folder: Path, *, threads: int | None = None, precision: str = "auto", device: str = "auto"
    ) -> None:
        self.hardware = hardware.choose(device, precision, threads)
        card = _card(folder)
        self.labels: tuple[str, ...] = tuple(card["labels"])
        start = {"kind": "folder", "path": str(folder)}
        self._task = tasks.find(card["task"]).load(start, list(self.labels), card["preprocessing"])
        if self._task.fresh:
            raise errors.ModelProblem(
                f"The weights in {folder} are not whole: {', '.join(self._task.fresh[:4])} would start fresh.",
                "%sft_versions lists versions that can answer.",
            )
        self._task.model.to(self.hardware.device)
        self._task.model.eval()

    def scores(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> list[list[float]]:
        """Return the class probabilities of each text, in the order given; a row's floats follow `labels`."""
        if not texts:
            return []
        return scoring.score(self._task, self._task.encode(texts, None), self.hardware, progress)


def _card(folder: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((folder / "sft.json").read_text())
    except (OSError, ValueError) as error:
        raise errors.ModelProblem(f"{folder} holds no trained version ({error}).", "%sft_versions lists them.") from error
    return card
