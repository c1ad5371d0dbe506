"""Whether an engine says what torch says, on real rows."""

import base64
import io
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sft_magics.core.runtime import exports
from sft_magics.core.runtime.exports import AgreementReport
from sft_magics.serving import engines

# By what an engine computes in: the largest difference of two probabilities that is let pass, and the largest share of
# rows with another label. Of masks the differences are those of shares and confidence, and a picture may have as large
# a share of other pixels as the first says.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.02, "int8": 0.2}
_CHANGED = {"fp32": 0.0, "bf16": 0.0, "int8": 0.05}
_TIMED = 15


def library_of(engine: str) -> str:
    """Return name and release of an engine's package, an empty string where it is not installed."""
    name = exports.PACKAGES[engine]
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return ""


def judge(folder: Path, engine: str, inputs: Sequence[Any], truths: Sequence[Any]) -> AgreementReport:
    """Compare the engine's answers with torch's in fp32, `truths`, and write the verdict beside the export.

    Of OpenVINO bfloat16 is tried first where the CPU has it, and taken if it agrees and is the faster one.
    """
    predictors = [engines.load(folder, engine, precision=precision) for precision in _precisions(engine)]
    said = [predictor.scores(inputs) for predictor in predictors]
    times = _in_turn([predictor.scores for predictor in predictors], inputs[:_TIMED])
    tried = [
        _verdict(engine, precision, list(zip(truths, answers, strict=True)), ms)
        for precision, answers, ms in zip(_precisions(engine), said, times, strict=True)
    ]
    agreeing = [verdict for verdict in tried if verdict.agrees]
    verdict = min(agreeing or tried, key=lambda v: v.ms if v.agrees else v.largest)
    for other in (v.precision for v in tried if v is not verdict):
        shutil.rmtree(folder / exports.COMPILED / other, ignore_errors=True)
    exports.write_verdict(folder, verdict)
    return verdict


def _precisions(engine: str) -> tuple[str, ...]:
    if engine == exports.INT8:
        return ("int8",)
    if engine == exports.OPENVINO:
        from sft_magics.serving.engines.openvino import has_bf16

        return ("bf16", "fp32") if has_bf16() else ("fp32",)
    return ("fp32",)


def _verdict(engine: str, precision: str, pairs: Sequence[tuple[Any, Any]], ms: float) -> AgreementReport:
    """Say how an engine's answers stand to torch's, by pairs of torch's and its own."""
    tolerance = TOLERANCES[precision]
    masks = bool(pairs) and isinstance(pairs[0][0], dict)
    compared = [(_masks if masks else _rows)(truth, answer, tolerance) for truth, answer in pairs]
    largest = max((difference for difference, _ in compared), default=0.0)
    changes = [change for _, change in compared]
    changed = (max if masks else statistics.fmean)(changes) if changes else 0.0
    agrees = largest <= tolerance and changed <= (tolerance if masks else _CHANGED[precision])
    name = library_of(engine)
    return AgreementReport(engine, agrees, largest, changed, len(pairs), tolerance, precision, ms, name)


def _rows(truth: Sequence[float], answer: Sequence[float], tolerance: float) -> tuple[float, float]:
    """Return the largest difference of two rows of probabilities, and 1 where they name other labels."""
    largest = float(_apart(truth, answer).max())
    mine, yours = exports.best(truth), exports.best(answer)
    return largest, float(mine != yours and truth[mine] - truth[yours] > tolerance)


def _masks(truth: dict[str, Any], answer: dict[str, Any], tolerance: float) -> tuple[float, float]:  # noqa: ARG001
    """Return the largest difference of shares and confidence, and the share of pixels with another class."""
    pairs = [(share, answer["shares"][label]) for label, share in truth["shares"].items()]
    pairs.append((truth["confidence"], answer["confidence"]))
    one, other = (np.asarray(Image.open(io.BytesIO(base64.b64decode(said["mask"])))) for said in (truth, answer))
    return float(_apart(*zip(*pairs, strict=True)).max()), float((one != other).mean())


def _apart(truth: Sequence[float], answer: Sequence[float]) -> NDArray[np.float64]:
    """Return absolute differences; what is not a number is as far away as two probabilities can be."""
    return np.nan_to_num(np.abs(np.subtract(truth, answer)), nan=1.0)


def _in_turn(ways: Sequence[Callable[[Sequence[Any]], list[Any]]], inputs: Sequence[Any]) -> list[float]:
    """Return the median milliseconds of an input for each way to answer it; what disturbs one disturbs the next too.

    Each is answered once before: an engine prepares its kernels for a length that it has not seen.
    """
    times: list[list[float]] = [[] for _ in ways]
    for one in inputs:
        for answer, found in zip(ways, times, strict=True):
            answer([one])
            began = time.perf_counter()
            answer([one])
            found.append((time.perf_counter() - began) * 1e3)
    return [statistics.median(found) if found else 0.0 for found in times]
