"""Latency from a log: of lone requests by part, and of those in bulk apart."""

from typing import Any

from sft_magics.lifecycle.endpoints import latency


def _window(*rows: tuple[float, float, float, float, int]) -> dict[str, list[Any]]:
    names = ("latency_ms", "queue_ms", "preprocess_ms", "model_ms", "inputs")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def test_a_bulk_ask_does_not_change_what_lone_requests_took() -> None:
    alone = [(28.0, 1.0, 2.0, 25.0, 1)] * 3
    bulk = [(2233.0, 1721.0, 256.0, 256.0, 128)] * 256
    found = latency.of(_window(*alone, *bulk))
    assert found["latency_ms"] == {"p50": 28.0, "p95": 28.0, "p99": 28.0}
    assert found["parts_ms"] == {"queue": 1.0, "preprocess": 2.0, "model": 25.0}
    assert found["bulk"] == {"answers": 256.0, "request_ms": 2233.0, "queue_ms": 1721.0, "ms_an_input": 4.0}
    assert latency.of(_window(*alone))["bulk"] == {}
    assert latency.of(_window(*bulk))["latency_ms"] == latency.of(_window(*bulk))["parts_ms"] == {}
    assert latency.of(_window()) == {"latency_ms": {}, "parts_ms": {}, "bulk": {}}
    assert latency.p95(_window(*alone, *bulk), slice(0, 259)) == 28.0
    assert latency.p95(_window(*bulk), slice(0, 9)) is None
