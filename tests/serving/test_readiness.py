"""GET /ready and its like look: whether the log takes a row, and whether the model answers."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from sft_magics.core.records import Endpoint
from tests.serving.house import House, ask, sentence, server

PATHS = ["/ready", "/v2/health/ready", "/v2/models/demo/ready", "/ping"]


@contextmanager
def full_disk(endpoint: Endpoint) -> Iterator[None]:
    """No file may grow: the system refuses what the process writes, as it does on a full disk."""
    process = server(endpoint)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, before[1]))


@pytest.mark.parametrize("path", PATHS)
def test_a_disk_that_refuses_is_no_readiness_and_it_comes_back(house: House, path: str) -> None:
    endpoint = house.start()
    with full_disk(endpoint):
        status, reply = ask(endpoint, "GET", path)
        assert (status, "prediction log" in sentence(reply)) == (503, True)
        sure = {"X-Sync-Log": "1"}
        assert ask(endpoint, "POST", "/predict", {"inputs": "a"}, headers=sure)[0] == 503
        assert ask(endpoint, "GET", path)[0] == 503
        assert ask(endpoint, "GET", "/health")[0] == 200, "the process lives"
    if path != "/ping":  # whose answer is a line
        assert ask(endpoint, "GET", path)[0] == 200
    assert ask(endpoint, "GET", "/ready")[0] == 200
    assert ask(endpoint, "POST", "/predict", {"inputs": "a"}, headers=sure)[0] == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_model_that_fails_is_no_readiness(house: House, path: str) -> None:
    endpoint = house.start(folder=house.version(1, fails=True))
    status, reply = ask(endpoint, "GET", path)
    assert (status, sentence(reply).startswith("The model does not answer: ")) == (503, True)


def test_a_look_is_no_request_of_anybody(house: House) -> None:
    endpoint = house.start()
    for _ in range(5):
        assert ask(endpoint, "GET", "/ready")[0] == 200
    stats = ask(endpoint, "GET", "/stats")[1]
    assert (stats["answered"], stats["batches"]) == (0, 1), "one look at the model serves them all"
