"""Alert rules: `recall[negative] < 0.8`. One small grammar, checked when the rule is made and never evaluated as code.

rule   = metric ["[" class "]"] ("<" | "<=" | ">" | ">=") number
metric = accuracy | precision | recall | f1 | share | confidence | drift | requests | labeled | errors
       | p50_ms | p95_ms | p99_ms | iou | miou | pixel_accuracy | ap50 | map | perplexity | token_accuracy
"""

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sft_magics.core import errors

PER_CLASS = ("precision", "recall", "f1", "share", "iou", "ap50")
WHOLE = (
    "accuracy", "confidence", "drift", "requests", "labeled", "errors", "p50_ms", "p95_ms", "p99_ms", "miou",
    "pixel_accuracy", "map", "perplexity", "token_accuracy",
)  # fmt: skip
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_RULE = re.compile(r"\s*([A-Za-z0-9_]+)\s*(?:\[(.+)\])?\s*(<=|>=|<|>)\s*([-+0-9.eE]+)\s*")


@dataclass(frozen=True)
class Rule:
    """A parsed rule; it fires when the comparison is true."""

    metric: str
    label: str | None
    comparison: str
    threshold: float

    @property
    def key(self) -> str:
        """The number it looks at, as reports key it."""
        return f"{self.metric}[{self.label}]" if self.label is not None else self.metric

    def __str__(self) -> str:
        # Shortest form that reads back as the same number: the text is what is kept.
        return f"{self.key} {self.comparison} {repr(self.threshold).removesuffix('.0')}"

    def state(self, numbers: Mapping[str, float]) -> tuple[str, float | None]:
        """Return "ok", "firing" or "no data", and the number it saw."""
        value = numbers.get(self.key, math.nan)
        if math.isnan(value):
            return "no data", None
        return ("firing" if _COMPARE[self.comparison](value, self.threshold) else "ok"), value


def parse(text: str, labels: Sequence[str]) -> Rule:
    """Parse `text` for a model with these `labels`; raises UsageProblem."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise errors.UsageProblem(
            f"'{text}' is not a rule: it reads metric[class] < number.", 'write for example "recall[negative] < 0.8".'
        )
    metric, label, comparison, number = found.groups()
    known = (*PER_CLASS, *WHOLE)
    if metric not in known:
        raise errors.UsageProblem(
            f"There is no number called '{metric}' to watch.{errors.did_you_mean(metric, known)}",
            f"watch one of {', '.join(known)}.",
        )
    _check_label(metric, label, labels)
    return Rule(metric, label, comparison, _threshold(number, text))


def _threshold(number: str, text: str) -> float:
    try:
        threshold = float(number)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise errors.UsageProblem(f"'{number}' in '{text}' is not a number.", "write for example 0.8.")
    return threshold


def _check_label(metric: str, label: str | None, labels: Sequence[str]) -> None:
    if label is not None and metric not in PER_CLASS:
        raise errors.UsageProblem(f"{metric} is one number for all classes.", f"write {metric} without [{label}].")
    if label is not None and label not in labels:
        raise errors.UsageProblem(
            f"There is no class '{label}'.{errors.did_you_mean(label, labels)}", f"the classes are {', '.join(labels)}."
        )
    if label is None and metric == "share":
        raise errors.UsageProblem("share is of a class.", f"write share[{labels[0] if labels else 'CLASS'}].")
