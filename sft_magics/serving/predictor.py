"""What an endpoint needs from a model: labels in order, and scores for texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Predictor(Protocol):
    """A loaded version; it is made, warmed up and used in one thread."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels, in the order of the scores."""

    def scores(self, texts: list[str]) -> list[list[float]]:
        """Return one probability a label, for each text."""


def load(folder: Path, threads: int | None = None) -> Predictor:
    """Load the version that lies in `folder`; raises ModelProblem, or what the engine raises.

    A folder with an `echo.json` holds the fake of `sft_magics.serving.testing`, which needs no torch.
    """
    if (folder / "echo.json").is_file():
        from sft_magics.serving.testing import EchoPredictor

        return EchoPredictor(folder)
    from sft_magics.engine.predictor import Predictor as TorchPredictor

    predictor: Predictor = TorchPredictor(folder, threads=threads)
    return predictor
