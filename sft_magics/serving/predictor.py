"""What an endpoint needs from a model: its task, labels in order, and answers to what it reads."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sft_magics.core.runtime import exports

if TYPE_CHECKING:
    from sft_magics.core.sampling import Piece, Sampling


class Predictor(Protocol):
    """A loaded version; it is warmed up and used in one thread."""

    task: str
    spent: dict[str, float]  # milliseconds of the parts of the last answer, but for the model's
    unread: dict[int, int]  # of the last answer: tokens beyond what the version reads, by the input's place

    @property
    def labels(self) -> Sequence[str]:
        """The labels, in the order of the scores."""

    def scores(self, inputs: list[Any]) -> list[Any]:
        """Return the output for each input, of a classifier one probability a label; see `core.postprocessing`."""

    def stream(self, text: str, how: "Sampling") -> "Iterator[Piece]":
        """Answer a prompt or a chat piece by piece; raises ModelProblem where the model writes no text."""


def load(folder: Path, threads: int | None = None, engine: str = exports.TORCH) -> Predictor:
    """Load the version that lies in `folder`; raises ModelProblem, or what the engine raises.

    `engine` is one of `core.runtime.exports.ENGINES` or `PRECISIONS`; `folder` is that of a checked-out version for
    torch, for others that of an export (`lifecycle.endpoints.engine_choice.choose` says both). With those others no
    torch is imported.

    A folder with an `echo.json` holds the fake of `sft_magics.serving.testing`, which needs no torch.
    """
    if _is_fake(folder):
        from sft_magics.serving.testing import EchoPredictor

        return EchoPredictor(folder)
    if engine not in exports.PRECISIONS:
        from sft_magics.serving import engines

        return engines.load(folder, engine, threads)
    from sft_magics.engine.inference.predictor import Predictor as TorchPredictor

    predictor: Predictor = TorchPredictor(folder, threads=threads, precision=exports.PRECISIONS[engine])
    return predictor


def needs_torch(folder: Path, engine: str) -> bool:
    """Say whether torch is imported to load the version in `folder` for `engine`."""
    return engine in exports.PRECISIONS and not _is_fake(folder)


def _is_fake(folder: Path) -> bool:
    return (folder / "echo.json").is_file()
