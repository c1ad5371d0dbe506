"""Stored examples asked again: a version goes live only if it answers them as it did when it was made.

What is compared: of a classifier the probabilities, of masks the shares, of boxes the sure ones, of a text its
beginning, or how sure the model is of it. Numbers may differ by `CLOSE`: bfloat16 rounds, and a batch's shape changes
the rounding.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_magics.core import answering, errors
from sft_magics.core.records import Prediction
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, OBJECT_DETECTION

CLOSE = 0.02
_SURE = 0.5  # from this confidence on a box has to be there again
_NAMED = 3
_ALIKE = 12  # characters
_AS_LIKELY = 0.05


@dataclass(frozen=True)
class Example:
    """An input, what a client sends of it (`asked`), and what was said of it."""

    reads: str | bytes
    asked: str
    said: Any


def load(file: str | None, task: str) -> list[Example]:
    """Return the examples that a file holds; none where there is no such file, or it cannot be read."""
    if not file:
        return []
    try:
        rows = json.loads(Path(file).read_text())
        return [
            Example(base64.b64decode(r["input"]) if task in IMAGE_TASKS else r["input"], r["input"], r["said"])
            for r in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def before(task: str, labels: Sequence[str], example: Example) -> Prediction:
    """Return what was said of an example as an answer."""
    if task == CAUSAL_LM:
        return Prediction("", str(example.said["text"]), float(example.said["confidence"]), {})
    return answering.answer(task, labels, "", example.said)


def differs(task: str, then: Prediction, now: Prediction) -> str:
    """Return how two answers to one input differ, or nothing where they agree."""
    if task == CAUSAL_LM:
        return _reworded(then, now)
    if task == OBJECT_DETECTION:
        missing = [
            b for b in then.boxes if b["confidence"] >= _SURE and not any(_same(b, other) for other in now.boxes)
        ]
        return f"a {missing[0]['label']} is not found any more" if missing else ""
    off = max((abs(p - now.scores.get(name, 0.0)) for name, p in then.scores.items()), default=0.0)
    if off <= CLOSE:
        return ""
    return f"was {then.label} at {then.confidence:.2f}, is {now.label} at {now.confidence:.2f}"


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


def judge(
    version: str, task: str, examples: Sequence[Example], then: Sequence[Prediction], now: Sequence[Prediction]
) -> None:
    """Raise ModelProblem if a version answers examples otherwise than when it was made."""
    wrong = [
        f"{_named(example)}: {how}"
        for example, a, b in zip(examples, then, now, strict=True)
        if (how := differs(task, a, b))
    ]
    if wrong:
        count = f"{len(wrong)} of {len(examples)} stored examples"
        raise errors.ModelProblem(
            f"{version} answers {count} otherwise than when it was trained ({'; '.join(wrong[:_NAMED])}).",
            f"%sft_evaluate {version} measures it anew; %sft_deploy REF --unchecked serves it all the same.",
        )


def _named(example: Example) -> str:
    return "an image" if isinstance(example.reads, bytes) else f"'{example.reads[:40]}'"
