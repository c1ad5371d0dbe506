"""Another version behind a running endpoint: nobody notices, but for the answers."""

import pytest

from sft_magics.core.errors import EndpointProblem, NotFound
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from tests.serving.house import LABELS, Crowd, House, ask


def swap(house: House, number: int, **settings: float) -> None:
    lifecycle.swap(
        house.ws,
        "demo",
        ref=f"m:{number}",
        version=f"m:{number}",
        folder=house.version(number, **settings),
        labels=LABELS,
    )


def test_the_new_version_answers(house: House) -> None:
    house.start()
    swap(house, 2)
    endpoint = lifecycle.endpoint(house.ws, "demo")
    assert (endpoint.version, endpoint.ref, endpoint.state) == ("m:2", "m:2", "ready")
    with EndpointClient(endpoint) as client:
        assert client.predict(["a film"])[0].label == "positive"
        assert client.version == "m:2"
    with lifecycle.prediction_log(house.ws, "demo") as log:
        assert log.counts().versions == {"m:2": 1}


def test_swaps_under_load_lose_nothing_and_each_answer_is_its_versions_own(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.002))
    crowd = Crowd(endpoint, 6)
    for number in (2, 3, 4, 5, 6):
        crowd.wait_for(200)
        swap(house, number, seconds=0.002, load_seconds=0.1)
    crowd.wait_for(200)
    crowd.go_home()
    answers = crowd.answers
    assert crowd.problems == []
    assert {version for version, _ in answers} == {f"m:{n}" for n in range(1, 7)}
    for version, row in answers:
        assert row.label == LABELS[(int(version[2:]) - 1) % 2], "a version answered under another's name"
    with lifecycle.prediction_log(house.ws, "demo") as log:
        window = log.window()
    logged = dict(zip(window["id"], window["version"], strict=True))
    assert logged == {row.id: version for version, row in answers}


@pytest.mark.parametrize("broken", ["missing", "labels", "not probabilities", "damaged", "another task"])
def test_a_version_that_does_not_fit_leaves_the_old_one(house: House, broken: str) -> None:
    house.start()
    folder, labels = house.version(2), LABELS
    if broken == "missing":
        folder = house.root / "nowhere"
    elif broken == "labels":
        labels = LABELS[::-1]
    elif broken == "another task":  # those who ask now, in whatever protocol, asked the one before
        folder = house.version(2, task="image-classification")
    elif broken == "damaged":
        (folder / "echo.json").write_text("{}")
    else:
        (folder / "echo.json").write_text(
            '{"labels": ["negative", "negative"], "favorite": "negative", "seconds": 0, "load_seconds": 0}'
        )
        labels = ("negative", "negative")
    with pytest.raises(EndpointProblem) as caught:
        lifecycle.swap(house.ws, "demo", ref="m:2", version="m:2", folder=folder, labels=labels)
    assert "m:2" in caught.value.what
    endpoint = lifecycle.endpoint(house.ws, "demo")
    assert (endpoint.version, endpoint.state) == ("m:1", "ready")
    assert ask(endpoint, "POST", "/predict", {"inputs": "a film"})[1]["version"] == "m:1"


def test_only_a_running_endpoint_can_be_switched(house: House) -> None:
    house.start()
    lifecycle.stop(house.ws, "demo")
    with pytest.raises(EndpointProblem, match="demo is stopped"):
        swap(house, 2)
    with pytest.raises(NotFound):
        lifecycle.swap(house.ws, "other", ref="m:2", version="m:2", folder=house.version(2), labels=LABELS)
