"""How long answers took, from an endpoint's log: requests of one input by part, and those of several apart.

Rows that are asked together wait for each other, so their time says how long a file takes and not how quickly the model
answers; and of a lone request, what it waited behind others is not the model's either.
"""

import statistics
from collections.abc import Sequence
from typing import Any

_PARTS = ("queue", "preprocess", "model")


def of(window: dict[str, list[Any]]) -> dict[str, dict[str, float]]:
    """Return `latency_ms`, `parts_ms` and `bulk` of a `Report`; each is empty where there were no such requests."""
    single = [i for i, inputs in enumerate(window["inputs"]) if inputs == 1]
    bulk = [i for i, inputs in enumerate(window["inputs"]) if inputs > 1]
    parts = {part: _median(window[f"{part}_ms"], single) for part in _PARTS} if single else {}
    return {"latency_ms": _percentiles([window["latency_ms"][i] for i in single]), "parts_ms": parts,
            "bulk": _bulk(window, bulk) if bulk else {}}  # fmt: skip


def p95(window: dict[str, list[Any]], part: slice) -> float | None:
    """Return the 95th percentile of a part of the requests with one input, None where there is none."""
    rows = zip(window["latency_ms"][part], window["inputs"][part], strict=True)
    return _percentiles([ms for ms, inputs in rows if inputs == 1]).get("p95")


def _bulk(window: dict[str, list[Any]], rows: Sequence[int]) -> dict[str, float]:
    worked = [(window["latency_ms"][i] - window["queue_ms"][i]) / window["inputs"][i] for i in rows]
    return {
        "answers": float(len(rows)), "request_ms": _median(window["latency_ms"], rows),
        "queue_ms": _median(window["queue_ms"], rows), "ms_an_input": statistics.median(worked),
    }  # fmt: skip


def _median(values: Sequence[float], rows: Sequence[int]) -> float:
    return statistics.median(values[i] for i in rows)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {f"p{q}": ordered[min(last, round(q / 100 * last))] for q in (50, 95, 99)}
