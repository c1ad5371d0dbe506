"""Gates of a promotion: `f1 >= 0.9; recall[negative] > 0.8; not-worse live`.

gates = gate (";" gate)*
gate  = metric ["[" class "]"] ("<" | "<=" | ">" | ">=") number     of the version's validation metrics
      | "not-worse" (alias | reference)                             McNemar's exact test on the same rows
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sft_magics.core import errors
from sft_magics.core.paired_tests import SIGNIFICANT
from sft_magics.core.records import Diff, Evaluation, GateResult, Metric, Version
from sft_magics.lifecycle.evaluation import metric_rules
from sft_magics.lifecycle.evaluation.metric_rules import Rule

_NOT_WORSE = re.compile(r"not[-_ ]worse\s+(?:than\s+)?(\S+)")


@dataclass(frozen=True)
class NotWorse:
    """The version may not be significantly worse than another one."""

    than: str

    def __str__(self) -> str:
        return f"not-worse {self.than}"


Gate = Rule | NotWorse


def parse(text: str, version: Version) -> list[Gate]:
    """Parse gates for a version; raises UsageProblem that names the part that is none."""
    return [_gate(part, version) for part in (p.strip() for p in text.split(";")) if part]


def _gate(part: str, version: Version) -> Gate:
    if found := _NOT_WORSE.fullmatch(part):
        return NotWorse(found[1])
    rule = _rule(part, version.labels, ", or not-worse ALIAS")
    if rule.key not in version.metrics:
        known = ", ".join(k for k, m in version.metrics.items() if not math.isnan(m.value))
        raise errors.UsageProblem(
            f"{version.ref} has no {rule.key} to hold against a gate.",
            f"take one of its metrics: {known}." if known else f"%sft_evaluate {version.ref} measures it.",
        )
    return rule


def _rule(part: str, labels: Sequence[str], others: str = "") -> Rule:
    try:
        return metric_rules.parse(part, labels)
    except errors.UsageProblem as problem:
        if "is not a rule" not in problem.what:
            raise
        example = "f1 >= 0.9; not-worse live" if others else "f1 >= 0.9"
        raise errors.UsageProblem(
            f"'{part}' is not a gate: it reads metric[class] >= number{others}.",
            f'write for example --gate "{example}".',
        ) from None


def check(gate: Gate, version: Version, beside: Callable[[str], Diff | None]) -> GateResult:
    """Hold a version against one gate; `beside` compares it with another, None where there is none to be worse than."""
    if isinstance(gate, NotWorse):
        return _not_worse(gate, beside(gate.than))
    return _check_value(gate, version.metrics.get(gate.key), _of_what(version))


def _check_value(gate: Rule, metric: Metric | None, of_what: str = "") -> GateResult:
    if metric is None or math.isnan(metric.value):
        return GateResult(str(gate), False, f"{gate.key} could not be measured")
    passed = gate.state({gate.key: metric.value})[0] == "firing"  # a rule fires when its comparison holds
    seen = f"{gate.key} is {metric.value:.4g}{of_what}"
    return GateResult(str(gate), passed, seen if passed else f"{seen}, {abs(metric.value - gate.threshold):.4g} off")


def _of_what(version: Version) -> str:
    """Return on how few rows the stored metrics rest, where rows were left out."""
    counted = version.overlap
    if counted is None or not counted.seen:
        return ""
    return f" on {counted.measured:,} validation rows ({counted.brief} and left out)"


def for_evaluation(version: Version, text: str) -> Callable[[Evaluation], Evaluation]:
    """Return what holds an evaluation of a version against gates, such as `f1 >= 0.9; recall[negative] > 0.8`.

    It returns the evaluation with the gates' results, and raises CheckFailed with that evaluation if one does not hold.
    Raises UsageProblem at once for a gate that cannot be read; `not-worse` is one of promotions alone.
    """
    wanted = [_rule(part, version.labels) for part in (p.strip() for p in text.split(";")) if part]

    def hold(found: Evaluation) -> Evaluation:
        seen = replace(found, gates=tuple(_check_value(rule, found.metrics.get(rule.key)) for rule in wanted))
        failed = [gate for gate in seen.gates if not gate.passed]
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise errors.CheckFailed(
                f"{found.version} does not pass on {found.data}: the gate {failed[0].gate} failed, "
                f"{failed[0].seen}{more}.",
                f"%sft_errors {found.version} --data {found.data} shows what it gets wrong.",
                seen,
            )
        return seen

    return hold


def _not_worse(gate: NotWorse, diff: Diff | None) -> GateResult:
    if diff is None:
        return GateResult(str(gate), True, f"there is no other {gate.than} to be worse than")
    if not diff.n:
        return GateResult(str(gate), False, f"{diff.verdict}")
    worse = diff.broke > diff.fixed and diff.p_value < SIGNIFICANT
    seen = f"on {diff.n:,} rows it fixed {diff.fixed:,} and broke {diff.broke:,} (p = {diff.p_value:.2g})"
    if diff.overlap.seen:
        seen = f"{seen}; {diff.overlap.brief} and left out"
    return GateResult(str(gate), not worse, seen)
