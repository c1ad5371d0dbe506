"""Where the time went: by part, and what is asked in bulk apart from what is asked alone."""

import http.client

import pytest

from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from sft_magics.serving.scheduling.timings import Times
from tests.serving.house import House, ask, token


def test_requests_of_one_input_and_of_several_are_kept_apart() -> None:
    times = Times()
    assert (times.single.percentiles(), times.single.medians()) == ({}, {})
    for ms in (10.0, 30.0, 20.0):
        times.add({"queue": 1.0, "model": ms - 1, "total": ms}, 1)
    times.add({"queue": 900.0, "preprocess": 50.0, "model": 50.0, "total": 1000.0}, 128)
    assert times.single.percentiles() == {"p50": 20.0, "p95": 30.0, "p99": 30.0}
    assert times.single.medians() == {"model": 19.0, "queue": 1.0, "total": 20.0}
    assert times.bulk.percentiles()["p50"] == 1000.0
    found = {(kind, part): (seconds, n) for kind, part, seconds, n in times.samples()}
    assert found["single", "model"] == (pytest.approx(0.057), 3)
    assert found["bulk", "queue"] == (pytest.approx(0.9), 1)
    assert found["single", "preprocess"] == (0.0, 3)


def test_the_log_the_stats_and_the_metrics_tell_a_bulk_ask_from_a_lone_one(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.02))
    ask(endpoint, "POST", "/predict", {"inputs": "alone"}, headers={"X-Sync-Log": "1"})
    with EndpointClient(endpoint) as client:
        client.predict(["in bulk"] * 128, batch=64)
        stats = client.stats()
    assert set(stats["latency_ms"]) == set(stats["bulk"]["latency_ms"]) == {"p50", "p95", "p99"}
    assert stats["spent_ms"]["model"] >= 20
    with lifecycle.prediction_log(house.ws, "demo") as log:
        window = log.window()
    assert sorted(window["inputs"]) == [1] + [64] * 128
    for i, total in enumerate(window["latency_ms"]):
        parts = [window[name][i] for name in ("queue_ms", "preprocess_ms", "model_ms")]
        assert parts[2] >= 20
        assert 0 <= sum(parts) <= total
    text = _metrics(endpoint.port, token(endpoint))
    assert 'sft_part_seconds_count{asked="single",part="model"} 1\n' in text
    assert 'sft_part_seconds_count{asked="bulk",part="queue"} 2\n' in text


def _metrics(port: int, shown: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {shown}"})
    text = connection.getresponse().read().decode()
    connection.close()
    return text
