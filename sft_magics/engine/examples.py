"""What a version says of a few rows when it is made: whoever serves it later can see whether it still says so."""

import base64
import math
from pathlib import Path
from typing import Any

from sft_magics.core.sampling import Sampling
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS
from sft_magics.datasets import read_rows
from sft_magics.engine.predictor import Predictor

COUNT = 16
WRITTEN = 2  # of a language model, which takes its time
TOKENS = 16
_LARGEST = 1 << 20  # bytes of an image's file


def of(folder: Path, data: Path) -> list[dict[str, Any]]:
    """Return `{"input", "said"}` for validation rows of a data set's file, or training rows where there are none.

    An input is a text, of images the file in base 64; what is said is as `Predictor.scores` has it.
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
        return [{"input": t, "said": s} for t, s in zip(chosen, predictor.scores(chosen), strict=True)]
    files = [file for path in chosen if len(file := Path(path).read_bytes()) <= _LARGEST]
    said = predictor.scores(files)
    return [{"input": base64.b64encode(f).decode(), "said": s} for f, s in zip(files, said, strict=True)]


def _written(predictor: Predictor, text: str) -> dict[str, Any]:
    pieces = list(predictor.stream(text, Sampling(max_new_tokens=TOKENS)))
    sure = math.exp(sum(piece.sure for piece in pieces) / len(pieces))
    return {"text": "".join(piece.text for piece in pieces), "tokens": TOKENS, "confidence": sure}
