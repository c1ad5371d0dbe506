"""A fake for tests of what stands around a model: an endpoint that starts in a moment and needs no torch.

folder = EchoPredictor.save(tmp_path / "v1", ["negative", "positive"], favorite="positive")
endpoint = control.start(workspace, name="demo", model="demo", ref="demo:1", version="demo:1",
                         folder=folder, labels=["negative", "positive"])
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sft_magics.core.errors import ModelProblem

FAILS_ON = "raise an error"


class EchoPredictor:
    """Gives `favorite` 0.8 of the probability whatever the text; a label that is the whole text gets it instead.

    `seconds` is how long one call takes, `load_seconds` how long loading does. A text that is `FAILS_ON` makes the call
    fail, as a broken model would; one that `fails` does so after its first call, which is the warm-up.
    """

    task = "text-classification"

    def __init__(self, folder: Path) -> None:
        settings = json.loads((folder / "echo.json").read_text())
        time.sleep(settings["load_seconds"])
        self.labels: tuple[str, ...] = tuple(settings["labels"])
        self._favorite: str = settings["favorite"]
        self._seconds: float = settings["seconds"]
        self._fails: bool = settings["fails"]
        self._asked = False

    @classmethod
    def save(
        cls,
        folder: Path,
        labels: Sequence[str],
        *,
        favorite: str | None = None,
        seconds: float = 0.0,
        load_seconds: float = 0.0,
        fails: bool = False,
    ) -> Path:
        """Write a version folder that loads as this fake, and return it; `favorite` is the first label by default."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "labels": list(labels),
            "favorite": favorite or labels[0],
            "seconds": seconds,
            "load_seconds": load_seconds,
            "fails": fails,
        }
        (folder / "echo.json").write_text(json.dumps(settings))
        return folder

    def scores(self, texts: list[str]) -> list[list[float]]:
        """Return 0.8 for one label and the rest shared, a row a text; raises RuntimeError for `FAILS_ON`."""
        if FAILS_ON in texts or (self._fails and self._asked):
            raise RuntimeError("asked to fail")
        self._asked = True
        time.sleep(self._seconds)
        return [self._row(text if text in self.labels else self._favorite) for text in texts]

    def stream(self, text: str, how: object) -> Iterator[Any]:  # noqa: ARG002
        """Refuse: it writes no text."""
        raise ModelProblem("A fake for text-classification writes no text.", "ask it for a label.")

    def _row(self, chosen: str) -> list[float]:
        rest = 0.2 / max(1, len(self.labels) - 1)
        return [0.8 if label == chosen else rest for label in self.labels]
