"""A candidate beside the live version: its share, its shadow, and how it goes when it does badly."""

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core.errors import EndpointProblem
from sft_magics.core.events import EventReader, Remark
from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from tests.serving.house import LABELS, House, ask, until


def _rows(endpoint: Endpoint, count: int) -> Counter[str]:
    with EndpointClient(endpoint) as client:
        found: Counter[str] = Counter()
        for _ in range(count):
            client.predict(["a film"])
            found[client.version] += 1
    return found


def _try(house: House, share: float, folder: Path | None = None, **rules: float) -> None:
    lifecycle.try_out(
        house.ws, "demo", ref="m@candidate", version="m:2", folder=folder or house.version(2), labels=LABELS,
        share=share, rules=rules,
    )  # fmt: skip


def _stats(endpoint: Endpoint) -> dict[str, Any]:
    with EndpointClient(endpoint) as client:
        return client.stats()


def test_a_candidate_gets_its_share(house: House) -> None:
    endpoint = house.start()
    _try(house, 0.1)
    assert _rows(endpoint, 100) == {"m:1": 90, "m:2": 10}
    trial = _stats(endpoint)["trial"]
    assert (trial["version"], trial["share"], trial["shadow"]) == ("m:2", 0.1, False)
    assert {v: s["answered"] for v, s in trial["sides"].items()} == {"m:1": 90, "m:2": 10}
    with lifecycle.prediction_log(house.ws, "demo") as log:
        assert log.counts().versions == {"m:1": 90, "m:2": 10}
    with EndpointClient(endpoint) as client:
        client.abort("enough")
    assert _rows(endpoint, 20) == {"m:1": 20}
    assert "m:2 ended: enough" in _stats(endpoint)["trial_ended"]


def test_a_shadow_answers_nobody_and_is_compared(house: House) -> None:
    endpoint = house.start()
    _try(house, 0.0, agreement=0.0)
    assert _rows(endpoint, 20) == {"m:1": 20}
    until(
        lambda: (
            sum(n for _, _, n in _stats(endpoint)["trial"]["agreement"]) + _stats(endpoint)["trial"]["skipped"] >= 20
        )
    )
    assert _stats(endpoint)["trial"]["agreement"][0][:2] == ["negative", "positive"]
    with lifecycle.prediction_log(house.ws, "demo") as log:
        assert log.counts().versions == {"m:1": 20}


@pytest.mark.parametrize(
    ("settings", "share", "rules", "said"),
    [
        ({"fails": True}, 0.5, {"slower": 1e3}, "of its answers were errors"),
        ({"seconds": 0.05}, 0.5, {}, "95th percentile of compute"),
        ({}, 0.0, {"agreement": 0.9, "slower": 1e3}, "agrees with m:1 in 0%"),
    ],
)
def test_a_candidate_that_does_badly_goes_by_itself(
    house: House, settings: dict[str, Any], share: float, rules: dict[str, float], said: str
) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.001))
    _try(house, share, house.version(2, **settings), least=10, **rules)
    with contextlib.suppress(EndpointProblem):
        _rows(endpoint, 25)
    for _ in range(50):
        with contextlib.suppress(EndpointProblem):
            _rows(endpoint, 1)
        if _stats(endpoint)["trial"] is None:
            break
    assert said in _stats(endpoint)["trial_ended"]
    assert _rows(endpoint, 10) == {"m:1": 10}
    words = [e.text for e in EventReader(house.job().events).read() if isinstance(e, Remark)]
    assert any(said in word for word in words)


def test_a_swap_ends_the_trial(house: House) -> None:
    endpoint = house.start()
    _try(house, 0.5)
    lifecycle.swap(house.ws, "demo", ref="m@live", version="m:2", folder=house.version(2), labels=LABELS)
    assert _stats(endpoint)["trial"] is None
    assert _rows(endpoint, 4) == {"m:2": 4}


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"share": 1.0}, '"share" shall be'),
        ({"share": True}, '"share" shall be'),
        ({"share": 0.5, "rules": {"luck": 1}}, '"rules" shall be'),
        ({"share": 0.5, "rules": {"errors": -1}}, '"rules" shall be'),
        ({"share": 0.5, "folder": "/nowhere"}, "no folder /nowhere"),
    ],
)
def test_a_wrong_trial_is_refused(house: House, order: dict[str, Any], said: str) -> None:
    endpoint = house.start()
    body = {"version": "m:2", "folder": str(house.version(2)), "labels": list(LABELS), **order}
    status, reply = ask(endpoint, "POST", "/admin/traffic", body)
    assert status in (400, 409)
    assert said in reply["error"]
    assert _rows(endpoint, 2) == {"m:1": 2}
