"""Quality measures with 95 % intervals, from truths and predictions.

Proportions carry Wilson score intervals (Wilson 1927). F1 is 2J/(1+J) of the Jaccard index J = TP/(TP+FP+FN), a
proportion; its interval is the Wilson interval of J carried through that monotone map. Paired differences are tested by
McNemar's exact test (McNemar 1947).
"""

import math
from collections.abc import Sequence

from sft_magics.core.records import Metric

_Z = 1.959963984540054


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of hits/n; (0, 1) when n is 0."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = hits / n, _Z * _Z
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, center - half), min(1.0, center + half)


def proportion(name: str, hits: int, n: int, label: str | None = None) -> Metric:
    """Return hits/n as a Metric with its interval; NaN when n is 0."""
    if n == 0:
        return Metric(name, math.nan, n=0, label=label)
    low, high = wilson(hits, n)
    return Metric(name, hits / n, low, high, n, label)


def confusion(truths: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Return counts[i][j] of rows with truth labels[i] predicted as labels[j]; rows with other labels are left out."""
    index = {label: i for i, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for truth, guess in zip(truths, predicted, strict=True):
        if truth in index and guess in index:
            counts[index[truth]][index[guess]] += 1
    return counts


def classification(counts: list[list[int]], labels: Sequence[str]) -> dict[str, Metric]:
    """Return accuracy, macro precision/recall/f1 and the three per class, keyed as `Metric.key`.

    As scikit-learn has it: of a class that was never predicted the precision is 0, of one that has no rows the recall,
    and both count in the macro mean. A class that has neither rows nor predictions is NaN and left out.
    """
    n = sum(map(sum, counts))
    metrics = [proportion("accuracy", sum(counts[i][i] for i in range(len(labels))), n)]
    for i, label in enumerate(labels):
        metrics += _of_class(label, counts[i][i], sum(counts[i]), sum(row[i] for row in counts))
    for name in ("precision", "recall", "f1"):
        values = [m.value for m in metrics if m.name == name and not math.isnan(m.value)]
        metrics.append(Metric(name, sum(values) / len(values) if values else math.nan, n=n))
    return {m.key: m for m in metrics}


def _of_class(label: str, hits: int, truths: int, guesses: int) -> list[Metric]:
    union = truths + guesses - hits
    jaccard = proportion("f1", hits, union, label)
    low, high = (2 * j / (1 + j) for j in wilson(hits, union))
    f1 = math.nan if union == 0 else 2 * jaccard.value / (1 + jaccard.value)
    shares = [
        proportion(name, hits, n, label) if n or not union else Metric(name, 0.0, n=0, label=label)
        for name, n in (("precision", guesses), ("recall", truths))
    ]
    return [
        *shares,
        Metric("f1", f1, low if union else None, high if union else None, union, label),
    ]


def mix(guesses: Sequence[str], labels: Sequence[str]) -> dict[str, Metric]:
    """Return the share of each predicted class, which monitoring takes as its reference."""
    shares = (proportion("share", guesses.count(label), len(guesses), label) for label in labels)
    return {m.key: m for m in shares}


def mcnemar(fixed: int, broke: int) -> float:
    """Return the two-sided exact p-value that `fixed` and `broke` differ by chance; 1.0 when both are 0."""
    n = fixed + broke
    if n == 0:
        return 1.0
    term = tail = 1  # C(n, k) from C(n, k - 1): one division a term, where math.comb begins anew each time
    for k in range(1, min(fixed, broke) + 1):
        term = term * (n - k + 1) // k
        tail += term
    return min(1.0, 2 * tail / (1 << n))
