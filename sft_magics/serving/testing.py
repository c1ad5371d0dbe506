"""A fake for tests of what stands around a model: an endpoint that starts in a moment and needs no torch.

folder = EchoPredictor.save(tmp_path / "v1", ["negative", "positive"], favorite="positive")
endpoint = control.start(workspace, name="demo", model="demo", ref="demo:1", version="demo:1",
                         folder=folder, labels=["negative", "positive"])
"""

import base64
import io
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sft_magics.core.errors import DataProblem, ModelProblem
from sft_magics.core.sampling import Piece, Sampling
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, OBJECT_DETECTION, SEMANTIC_SEGMENTATION, TEXT_CLASSIFICATION

FAILS_ON = "raise an error"
DIES_ON = "end the process"


class EchoPredictor:
    """Gives `favorite` 0.8 of the probability whatever the text; a label that is the whole text gets it instead.

    `seconds` is how long one call takes, `load_seconds` how long loading does; calls wait while the file `gate` exists.
    A text that is `FAILS_ON` makes the call fail, as a broken model would; one that `fails` does so after its first
    call, which is the warm-up. A text that is `DIES_ON` ends the process, as the system does where memory runs out.

    Of other tasks it finds one box in each picture, covers the left half of it with `favorite`, or writes a prompt's
    words again, one a token.
    """

    def __init__(self, folder: Path) -> None:
        settings = json.loads((folder / "echo.json").read_text())
        self.task: str = settings.get("task", TEXT_CLASSIFICATION)
        time.sleep(settings["load_seconds"])
        self.labels: tuple[str, ...] = tuple(settings["labels"])
        self._favorite: str = settings["favorite"]
        self._seconds: float = settings["seconds"]
        self._fails: bool = settings["fails"]
        self._gate = Path(settings["gate"]) if settings.get("gate") else None
        self._asked = False
        self.spent: dict[str, float] = {}
        self.unread: dict[int, int] = {}

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
        gate: Path | None = None,
        task: str = TEXT_CLASSIFICATION,
    ) -> Path:
        """Write a version folder that loads as this fake, and return it; `favorite` is the first label by default."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "labels": list(labels),
            "favorite": favorite or labels[0],
            "seconds": seconds,
            "load_seconds": load_seconds,
            "fails": fails,
            "gate": str(gate or ""),
            "task": task,
        }
        (folder / "echo.json").write_text(json.dumps(settings))
        return folder

    def scores(self, inputs: list[Any]) -> list[Any]:
        """Return 0.8 for one label and the rest shared, a row an input; raises RuntimeError for `FAILS_ON`."""
        if DIES_ON in inputs:
            os.kill(os.getpid(), signal.SIGKILL)
        if FAILS_ON in inputs or (self._fails and self._asked):
            raise RuntimeError("asked to fail")
        self._asked = True
        time.sleep(self._seconds)
        while self._gate and self._gate.exists():
            time.sleep(0.01)
        if self.task in IMAGE_TASKS:
            return [self._seen(data) for data in inputs]
        return [self._row(text if text in self.labels else self._favorite) for text in inputs]

    def stream(self, text: str, how: Sampling) -> Iterator[Piece]:
        """Write the words of the last message again; raises RuntimeError for `FAILS_ON`, ModelProblem for a task that
        writes no text.
        """
        if self.task != CAUSAL_LM:
            raise ModelProblem(f"A fake for {self.task} writes no text.", "ask it for a label.")
        said = json.loads(text)[-1]["content"] if text.startswith('[{"role":') else text
        if said == FAILS_ON:
            raise RuntimeError("asked to fail")
        words = said.split(" ")
        whole = " ".join(words[: how.max_new_tokens])
        places = [p for p in (whole.find(word) for word in how.stop) if p >= 0]
        ended = "stop" if places or len(words) <= how.max_new_tokens else "length"
        pieces = whole[: min(places)].split(" ") if places else words[: how.max_new_tokens]
        for i, word in enumerate(pieces):
            time.sleep(self._seconds)
            last = i + 1 == len(pieces)
            yield Piece(word if i == 0 else f" {word}", -0.1, len(words), ended if last else "")

    def _seen(self, data: bytes) -> Any:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                wide, high = image.size
        except (OSError, SyntaxError) as error:
            raise DataProblem("The image cannot be decoded.", "send another file.") from error
        place = self.labels.index(self._favorite)
        if self.task == OBJECT_DETECTION:
            return {"boxes": [[place, 0.8, 0.0, 0.0, wide / 2, float(high)], [place, 0.1, 0.0, 0.0, 1.0, 1.0]]}
        if self.task == SEMANTIC_SEGMENTATION:
            other = (place + 1) % len(self.labels)
            mask = Image.new("L", (wide, high), other)
            mask.paste(place, (0, 0, wide // 2, high))
            file = io.BytesIO()
            mask.save(file, "PNG")
            shares = {self._favorite: 0.5, self.labels[other]: 0.5}
            return {"shares": shares, "confidence": 0.8, "mask": base64.b64encode(file.getvalue()).decode()}
        return self._row(self._favorite)

    def _row(self, chosen: str) -> list[float]:
        rest = 0.2 / max(1, len(self.labels) - 1)
        return [0.8 if label == chosen else rest for label in self.labels]
