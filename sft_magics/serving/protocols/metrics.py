"""What an endpoint counts, in Prometheus' text format: GET /metrics.

https://prometheus.io/docs/instrumenting/exposition_formats
"""

import bisect
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_Sample = tuple[str, dict[str, str], float]


class Meter:
    """Requests that were answered: how many of each route, and how long they took, in seconds."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self.total = 0

    def count(self, route: str, seconds: float) -> None:
        """Count one answer; called in the event loop's thread."""
        counts = self._counts.setdefault(route, [0] * (len(BUCKETS) + 1))
        counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self._sums[route] = self._sums.get(route, 0.0) + seconds
        self.total += 1

    def samples(self, name: str) -> Iterator[_Sample]:
        """Yield a histogram for each route."""
        for route, counts in sorted(self._counts.items()):
            known = {"route": route}
            edges = [*(f"{edge:g}" for edge in BUCKETS), "+Inf"]
            for edge, below in zip(edges, itertools.accumulate(counts), strict=True):
                yield f"{name}_bucket", {**known, "le": edge}, below
            yield f"{name}_sum", known, self._sums[route]
            yield f"{name}_count", known, sum(counts)


async def metrics(desk: "EndpointContext", _: "Request") -> Response:
    """Answer GET /metrics."""
    return Response("".join(_lines(desk)), media_type=_TYPE)


def _lines(desk: "EndpointContext") -> Iterator[str]:
    compute, live, trial = desk.compute, desk.compute.live, desk.compute.routing.trial
    known = {"endpoint": desk.name}
    if live is not None:
        known |= {"version": live.version, "ref": live.ref, "task": live.task}
    statuses = {200: desk.meter.total, **desk.refused}
    yield _head("requests_total", "counter", "Requests by the status of their answers.")
    yield from (_line("requests_total", {"status": str(status)}, n) for status, n in sorted(statuses.items()))
    yield _head("request_seconds", "histogram", "From a request to its answer, or to the first part of it.")
    yield from (_line(*sample) for sample in desk.meter.samples("request_seconds"))
    yield _head("part_seconds", "summary", "Where the time of requests went: of those with one input, and in bulk.")
    for kind, part, seconds, requests in compute.times.samples():
        labels = {"asked": kind, "part": part}
        yield _line("part_seconds_sum", labels, seconds)
        yield _line("part_seconds_count", labels, requests)
    yield from _one("info", "gauge", "What answers.", 1, known)
    yield from _one("ready", "gauge", "Whether it answers.", desk.state == "ready")
    yield from _one("start_time_seconds", "gauge", "When it started, since the epoch.", desk.started_at)
    yield from _one("predictions_total", "counter", "Inputs that were answered.", compute.answered)
    yield from _one("batches_total", "counter", "Batches that the model read.", compute.batches)
    yield from _one("late_total", "counter", "Requests dropped because their time was over.", compute.late)
    yield from _one("waiting_inputs", "gauge", "Inputs that wait for the model.", compute.waiting)
    yield from _one("inside_requests", "gauge", "Requests that wait for an answer.", desk.inside)
    if trial is not None:
        version = {"version": trial.candidate.version}
        yield from _one("trial_share", "gauge", "The share of the requests on trial.", trial.share, version)


def _one(name: str, kind: str, what: str, value: float, labels: dict[str, str] | None = None) -> Iterator[str]:
    yield _head(name, kind, what)
    yield _line(name, labels or {}, value)


def _head(name: str, kind: str, what: str) -> str:
    return f"# HELP sft_{name} {what}\n# TYPE sft_{name} {kind}\n"


def _line(name: str, labels: dict[str, str], value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"sft_{name}{{{shown}}} {float(value):.17g}\n" if shown else f"sft_{name} {float(value):.17g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
