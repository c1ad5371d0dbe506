"""Stored examples: a version that says something else than when it was made does not go live."""

import json
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core.errors import EndpointProblem
from sft_magics.core.records import Prediction
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from sft_magics.serving.scheduling import golden_examples
from tests.serving.house import LABELS, House, ask, until

NEGATIVE, POSITIVE = [0.8, 0.2], [0.2, 0.8]


def _examples(folder: Path, *said: list[float]) -> str:
    path = folder / "examples.json"
    path.write_text(json.dumps([{"input": f"film {i}", "said": s} for i, s in enumerate(said)]))
    return str(path)


def test_a_version_that_says_the_same_goes_live_and_nothing_is_logged(house: House) -> None:
    endpoint = house.start(examples=_examples(house.root, NEGATIVE, NEGATIVE))
    assert endpoint.state == "ready"
    assert endpoint.requests == 0
    assert "answers 2 stored examples" in house.job().events.read_text()
    status, _ = ask(endpoint, "POST", "/predict", {"inputs": "x"}, headers={"X-Sft-Proof": ""})
    assert status == 200
    with lifecycle.prediction_log(house.ws, "demo") as log:
        until(lambda: log.requests() == 1)


def test_one_that_says_something_else_never_answers(house: House) -> None:
    with pytest.raises(EndpointProblem, match=r"m:1 answers 1 of 2 stored examples otherwise.*'film 1': was positive"):
        house.start(examples=_examples(house.root, NEGATIVE, POSITIVE))
    assert lifecycle.endpoint(house.ws, "demo").state == "failed"
    assert not house.job().alive()


def test_a_swap_to_one_is_refused_and_the_old_one_goes_on(house: House) -> None:
    endpoint = house.start()
    order: dict[str, Any] = {"ref": "m@live", "version": "m:2", "folder": house.version(2), "labels": LABELS}
    with pytest.raises(EndpointProblem, match="m:2 answers 1 of 1 stored examples otherwise"):
        lifecycle.swap(house.ws, "demo", examples=_examples(house.root, NEGATIVE), **order)
    with EndpointClient(endpoint) as client:
        assert client.predict(["a film"])[0].label == "negative"
    lifecycle.swap(house.ws, "demo", examples=_examples(house.root, POSITIVE), **order)
    assert lifecycle.endpoint(house.ws, "demo").version == "m:2"


def test_examples_that_cannot_be_read_are_no_reason_to_stay_down(house: House) -> None:
    (house.root / "torn.json").write_text('[{"input": "a"')
    assert house.start(examples=str(house.root / "torn.json")).state == "ready"


def _box(left: float, sure: float = 0.9, label: str = "island") -> dict[str, Any]:
    return {"label": label, "confidence": sure, "left": left, "top": 0.0, "right": left + 10, "bottom": 10.0}


def test_boxes_are_the_same_where_they_nearly_cover_each_other() -> None:
    def boxes(*found: dict[str, Any]) -> Prediction:
        return Prediction("", "", 0.9, {}, boxes=found)

    kind = "object-detection"
    assert not golden_examples.differs(kind, boxes(_box(0)), boxes(_box(0.5), _box(50)))
    assert not golden_examples.differs(kind, boxes(_box(0, 0.45)), boxes())  # not sure enough to be missed
    assert "island is not found" in golden_examples.differs(kind, boxes(_box(0)), boxes(_box(5)))
    assert "island is not found" in golden_examples.differs(kind, boxes(_box(0)), boxes(_box(0, label="lake")))


def test_texts_are_the_same_where_they_begin_alike_or_are_as_likely() -> None:
    kind = "causal-lm"

    def said(text: str, sure: float = 0.9) -> Prediction:
        return Prediction("", text, sure, {})

    assert not golden_examples.differs(kind, said("It is"), said("It is 7.", 0.5))
    assert not golden_examples.differs(kind, said("The answer is seven."), said("The answer is 7.", 0.5))
    assert not golden_examples.differs(kind, said("It is"), said("That is", 0.88))
    assert "is now 'No'" in golden_examples.differs(kind, said("It is"), said("No", 0.5))
