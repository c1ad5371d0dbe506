"""Stored examples asked again: a version goes live only if it answers them as it did when it was made.

What is compared: of a classifier the probabilities, of masks the shares, of boxes the sure ones, of a text its
beginning, or how sure the model is of it. Labels are not compared: near a tie they turn while the scores agree.

A version keeps its answers in fp32 and in the number format of the machine that made it; to agree with either is
enough. Numbers may differ by `CLOSE`, for a batch's shape changes how they are rounded, and with 8-bit weights by
`CLOSE_INT8`, which is what is let pass when such an engine is compared with torch.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors, postprocessing
from sft_magics.core.records import Prediction
from sft_magics.core.runtime import exports
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, OBJECT_DETECTION

if TYPE_CHECKING:
    from sft_magics.serving.scheduling.loading import LoadedVersion

CLOSE, CLOSE_INT8 = 0.02, 0.2
_SURE = 0.5  # from this confidence on a box has to be there again
_NAMED = 3
_ALIKE = 12  # characters
_AS_LIKELY = 0.05


@dataclass(frozen=True)
class Example:
    """An input, what a client sends of it (`asked`), what was said of it, and what was said in other number formats."""

    reads: str | bytes
    asked: str
    said: Any
    also: Sequence[Any] = ()


def load(file: str | None, task: str) -> list[Example]:
    """Return the examples that a file holds; none where there is no such file, or it cannot be read."""
    if not file:
        return []
    try:
        rows = json.loads(Path(file).read_text())
        return [Example(_read(r["input"], task), r["input"], r["said"], tuple(r.get("also", ()))) for r in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _read(given: str, task: str) -> str | bytes:
    return base64.b64decode(given) if task in IMAGE_TASKS else given


def before(task: str, labels: Sequence[str], said: Any) -> Prediction:
    """Return what was said of an example as an answer."""
    if task == CAUSAL_LM:
        return Prediction("", str(said["text"]), float(said["confidence"]), {})
    return postprocessing.answer(task, labels, "", said)


def differs(task: str, then: Prediction, now: Prediction, close: float = CLOSE) -> str:
    """Return how two answers to one input differ, or nothing where they agree; scores may be `close` apart."""
    if task == CAUSAL_LM:
        return _reworded(then, now)
    if task == OBJECT_DETECTION:
        missing = [
            b for b in then.boxes if b["confidence"] >= _SURE and not any(_same(b, other) for other in now.boxes)
        ]
        return f"a {missing[0]['label']} is not found any more" if missing else ""
    off = max((abs(p - now.scores.get(name, 0.0)) for name, p in then.scores.items()), default=0.0)
    if off <= close:
        return ""
    moved = f"; a score moved by {off:.2f}, and {close:g} is allowed"
    return f"was {then.label} at {then.confidence:.2f}, is {now.label} at {now.confidence:.2f}{moved}"


def _reworded(then: Prediction, now: Prediction) -> str:
    """Return how a text differs, or nothing: where two words are almost as likely, rounding may choose the other, and
    from there on all is different. So a text that begins alike is the same, and one that is as likely.
    """
    known, said = then.label.strip(), now.label.strip()
    alike = min(_ALIKE, len(known), len(said))
    if known[:alike] == said[:alike] or abs(then.confidence - now.confidence) <= _AS_LIKELY:
        return ""
    return f"'{known[:40]}' is now '{said[:40]}'"


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether two boxes of a class overlap by more than four fifths of what they cover together."""
    wide = min(one["right"], other["right"]) - max(one["left"], other["left"])
    high = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    if one["label"] != other["label"] or wide <= 0 or high <= 0:
        return False
    areas = [(b["right"] - b["left"]) * (b["bottom"] - b["top"]) for b in (one, other)]
    return bool(wide * high > 0.8 * (sum(areas) - wide * high))


def judge(live: "LoadedVersion", examples: Sequence[Example], now: Sequence[Prediction]) -> None:
    """Raise ModelProblem if a version answers examples otherwise than when it was made."""
    close = CLOSE_INT8 if live.engine == exports.INT8 else CLOSE
    wrong = [f"{_named(e)}: {how}" for e, n in zip(examples, now, strict=True) if (how := _changed(live, e, n, close))]
    if wrong:
        count = f"{len(wrong)} of {len(examples)} stored examples"
        raise errors.ModelProblem(
            f"{live.version} answers {count} otherwise than when it was trained ({'; '.join(wrong[:_NAMED])}).",
            f"%sft_evaluate {live.version} measures it anew; %sft_deploy REF --unchecked serves it all the same.",
        )


def _changed(live: "LoadedVersion", example: Example, now: Prediction, close: float) -> str:
    """Return how an answer differs from the one that was kept, or nothing where it agrees with one of any format."""
    then = [before(live.task, live.labels, said) for said in (example.said, *example.also)]
    how = [differs(live.task, one, now, close) for one in then]
    return how[0] if all(how) else ""


def _named(example: Example) -> str:
    return "an image" if isinstance(example.reads, bytes) else f"'{example.reads[:40]}'"
