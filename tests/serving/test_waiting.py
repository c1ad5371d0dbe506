"""Who waits, and for how long: deadlines, clients that leave, and logs that somebody waits for."""

import http.client
import json
import threading
import time
from pathlib import Path

import pytest

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from tests.serving.house import FEEDBACK, House, Reply, ask, until


def _busy(endpoint: Endpoint, replies: list[Reply], count: int = 1) -> list[threading.Thread]:
    """Ask in threads of their own, and wait until the model is at work."""
    before = ask(endpoint, "GET", "/stats")[1]["answered"]
    threads = [
        threading.Thread(target=lambda: replies.append(ask(endpoint, "POST", "/predict", {"inputs": "busy"})))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert ask(endpoint, "GET", "/stats")[1]["answered"] == before
    return threads


def test_who_is_too_late_is_told_and_costs_nothing(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.5))
    replies: list[Reply] = []
    (busy,) = _busy(endpoint, replies)
    status, reply = ask(endpoint, "POST", "/predict", {"inputs": "late"}, headers={"X-Timeout-Ms": "50"})
    busy.join()
    assert status == 504
    assert "nothing was computed" in reply["error"]
    stats = ask(endpoint, "GET", "/stats")[1]
    assert (stats["answered"], stats["batches"], stats["late"]) == (1, 1, 1)
    assert ask(endpoint, "POST", "/predict", {"inputs": "in time"}, headers={"X-Timeout-Ms": "5000"})[0] == 200


@pytest.mark.parametrize("given", ["0", "-1", "1e3", "x", "600001", "\u0663"])
def test_a_time_that_is_none_is_refused(shared: House, given: str) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    status, reply = ask(
        endpoint, "POST", "/predict", {"inputs": "x"}, headers={"X-Timeout-Ms": given.encode().decode("latin-1")}
    )
    assert status == 400
    assert "X-Timeout-Ms shall be a number" in reply["error"]


def test_who_has_gone_costs_nothing(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.6))
    replies: list[Reply] = []
    (busy,) = _busy(endpoint, replies)
    token = Path(endpoint.token_file).read_text()
    gone = http.client.HTTPConnection("127.0.0.1", endpoint.port)
    gone.request("POST", "/predict", json.dumps({"inputs": "gone"}).encode(), {"Authorization": f"Bearer {token}"})
    time.sleep(0.1)
    gone.close()
    busy.join()
    time.sleep(0.3)
    stats = ask(endpoint, "GET", "/stats")[1]
    assert (stats["answered"], stats["batches"]) == (1, 1)


def test_the_log_has_what_a_client_waited_for_and_soon_the_rest(house: House) -> None:
    endpoint = house.start()
    reply = ask(endpoint, "POST", "/predict", {"inputs": "sure"}, headers={"X-Sync-Log": "1"})[1]
    with lifecycle.prediction_log(house.ws, "demo") as log:
        assert [row.id for row in log.answers()] == [reply["predictions"][0]["id"]]
        for _ in range(20):
            ask(endpoint, "POST", "/predict", {"inputs": ["a", "b"]})
        until(lambda: log.requests() == 41)


def test_feedback_finds_what_was_answered_a_moment_ago(house: House) -> None:
    endpoint = house.start()
    for _ in range(20):
        row = ask(endpoint, "POST", "/predict", {"inputs": "a"})[1]["predictions"][0]
        found = ask(endpoint, "POST", "/feedback", {"labels": [{"id": row["id"], "label": "positive"}]})[1]
        assert found == FEEDBACK | {"added": 1}


def test_where_the_time_went_is_told(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.05))
    ask(endpoint, "POST", "/predict", {"inputs": "a"})
    spent = ask(endpoint, "GET", "/stats")[1]["spent_ms"]
    assert 50 <= spent["model"] <= spent["total"]
    assert 0 <= spent["queue"] < spent["total"]


def test_a_kind_of_body_that_is_none_is_refused(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    kind = {"Content-Type": "multipart/form-data"}
    status, reply = ask(endpoint, "POST", "/predict", {"inputs": "x"}, headers=kind)
    assert status == 415
    assert "not multipart/form-data" in reply["error"]


def test_the_log_holds_no_inputs_where_that_is_not_wanted(house: House) -> None:
    endpoint = house.start(log_inputs=False)
    ask(endpoint, "POST", "/predict", {"inputs": "a secret"}, headers={"X-Sync-Log": "1"})
    with lifecycle.prediction_log(house.ws, "demo") as log:
        (row,) = log.answers()
    assert row.text.startswith("8 characters, sha256 ")
    assert row.label == "negative"
    for path in Path(endpoint.folder).iterdir():
        assert b"a secret" not in path.read_bytes(), path.name
