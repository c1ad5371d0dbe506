"""What a version says of a few rows when it is made: whoever serves it later can see whether it still says so."""

import base64
import math
from pathlib import Path
from typing import Any

from sft_magics.core.sampling import Sampling
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS
from sft_magics.datasets import read_rows
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.runtime import free_memory

COUNT = 16
WRITTEN = 2  # of a language model, which takes its time
TOKENS = 16
_LARGEST = 1 << 20  # bytes of an image's file
_FP32 = 4  # bytes of a weight
_ROOM = 3  # times the weights that shall be free: a version must not be lost for want of examples


def of(folder: Path, data: Path) -> list[dict[str, Any]]:
    """Return `{"input", "said", "also"}` for validation rows of a data set's file, or training rows where it has none.

    An input is a text, of images the file in base 64. `said` is as `Predictor.scores` has it, in fp32 on the CPU: what
    any other machine and engine can come close to. `also` holds what was said in this machine's number format where
    that is another. A language model answers in this machine's format alone, and so does a model that is too large to
    be loaded once more.
    """
    predictor = Predictor(folder)
    rows = read_rows(data, "validation")
    if rows.empty:
        rows = read_rows(data, "train")
    texts = list(rows["text"])
    count = WRITTEN if predictor.task == CAUSAL_LM else COUNT
    chosen = [texts[i * len(texts) // count] for i in range(count)] if len(texts) > count else texts
    if predictor.task == CAUSAL_LM:
        chosen = [text for text in chosen if predictor.answerable([text], [0], 1, TOKENS)]
        return [{"input": text, "said": _written(predictor, text)} for text in chosen]
    if predictor.task not in IMAGE_TASKS:
        return _said(folder, predictor, chosen, chosen)
    files = [file for path in chosen if len(file := Path(path).read_bytes()) <= _LARGEST]
    return _said(folder, predictor, files, [base64.b64encode(file).decode() for file in files])


def _said(folder: Path, predictor: Predictor, inputs: list[Any], shown: list[str]) -> list[dict[str, Any]]:
    """Return what is said of inputs, which are kept as `shown`, in fp32 and in this machine's number format."""
    here = predictor.scores(inputs)
    plain = not predictor.hardware.bf16 and predictor.hardware.device.type == "cpu"
    if plain or free_memory.free_memory() < _ROOM * _FP32 * predictor.parameters:
        return [{"input": one, "said": said} for one, said in zip(shown, here, strict=True)]
    exact = Predictor(folder, precision="fp32", device="cpu").scores(inputs)
    return [{"input": i, "said": e, "also": [h]} for i, e, h in zip(shown, exact, here, strict=True)]


def _written(predictor: Predictor, text: str) -> dict[str, Any]:
    pieces = list(predictor.stream(text, Sampling(max_new_tokens=TOKENS)))
    sure = math.exp(sum(piece.sure for piece in pieces) / len(pieces))
    return {"text": "".join(piece.text for piece in pieces), "tokens": TOKENS, "confidence": sure}
