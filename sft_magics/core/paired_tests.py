"""Two versions' answers to the same rows: what the second fixed and broke, and whether that is more than chance.

Counts of right and wrong are compared by McNemar's exact test (`metrics.mcnemar`); any other metric by a paired
bootstrap over the rows (Efron and Tibshirani 1993): both versions are measured on the same resampled rows each time.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SIGNIFICANT = 0.05

_ROUNDS = 1000
Cells = Counter[tuple[int, int, int]]


@dataclass(frozen=True)
class Difference:
    """The second value less the first, its 95 % interval, and the two-sided p-value that it is 0."""

    value: float
    low: float
    high: float
    p_value: float


def flipped(truths: Sequence[str], before: Sequence[str], after: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the rows that only the second gets right, and those that only the first does."""
    rows = list(enumerate(zip(truths, before, after, strict=True)))
    fixed = [i for i, (t, b, a) in rows if a == t and b != t]
    broke = [i for i, (t, b, a) in rows if b == t and a != t]
    return fixed, broke


def bootstrap(
    truths: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    labels: Sequence[str],
    metric: str,
    *,
    seed: int = 0,
) -> Difference:
    """Return how much `metric` ("accuracy", or macro "precision", "recall", "f1") differs, from 1,000 resamplings."""
    index = {label: i for i, label in enumerate(labels)}
    cells: Cells = Counter((index[t], index[b], index[a]) for t, b, a in zip(truths, before, after, strict=True))
    kinds, weights, n = list(cells), list(cells.values()), sum(cells.values())
    found = _difference(cells, len(labels), metric)
    chance = random.Random(seed)
    drawn = sorted(
        _difference(Counter(chance.choices(kinds, weights, k=n)), len(labels), metric) for _ in range(_ROUNDS)
    )
    below, above = sum(d <= 0 for d in drawn), sum(d >= 0 for d in drawn)
    p_value = min(1.0, 2 * (min(below, above) + 1) / (_ROUNDS + 1))
    return Difference(found, drawn[int(0.025 * _ROUNDS)], drawn[math.ceil(0.975 * _ROUNDS) - 1], p_value)


def _difference(cells: Cells, classes: int, metric: str) -> float:
    first: Cells = Counter()
    second: Cells = Counter()
    for (truth, before, after), count in cells.items():
        first[truth, before, 0] += count
        second[truth, after, 0] += count
    return _value(second, classes, metric) - _value(first, classes, metric)


def _value(cells: Cells, classes: int, metric: str) -> float:
    hits, truths, guesses = [0] * classes, [0] * classes, [0] * classes
    for (truth, guess, _), count in cells.items():
        truths[truth] += count
        guesses[guess] += count
        if truth == guess:
            hits[truth] += count
    if metric == "accuracy":
        return sum(hits) / max(1, sum(truths))
    below: Sequence[float] = guesses if metric == "precision" else truths
    if metric == "f1":
        below = [(t + g) / 2 for t, g in zip(truths, guesses, strict=True)]
    met = [t + g > 0 for t, g in zip(truths, guesses, strict=True)]  # as `metrics.classification` counts classes
    values = [h / b if b else 0.0 for h, b, there in zip(hits, below, met, strict=True) if there]
    return sum(values) / len(values) if values else 0.0
