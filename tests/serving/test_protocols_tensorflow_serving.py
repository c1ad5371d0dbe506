"""TensorFlow Serving's REST forms: rows, columns, base 64, status and metadata."""

import base64
from typing import Any

import pytest

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from tests.serving.house import House, ask, png, sentence


@pytest.fixture(scope="module")
def endpoint(shared: House) -> Endpoint:
    return lifecycle.endpoint(shared.ws, "demo")


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


ROWS: list[Any] = [
    ["a film", "positive"],
    [["a film"], ["positive"]],
    [{"text": "a film"}, {"text": "positive"}],
    [b64(b"a film"), {"text": b64(b"positive")}],
]


@pytest.mark.parametrize("rows", ROWS, ids=[f"{i}" for i in range(len(ROWS))])
@pytest.mark.parametrize("path", ["demo", "m", "m/versions/1", "m:1"])
def test_rows_are_answered_in_rows(endpoint: Endpoint, rows: Any, path: str) -> None:
    body = {"signature_name": "serving_default", "instances": rows}
    status, reply = ask(endpoint, "POST", f"/v1/models/{path}:predict", body)
    assert status == 200
    first, second = reply["predictions"]
    assert (first["label"], first["confidence"], first["scores"]) == ("negative", 0.8, [0.8, pytest.approx(0.2)])
    assert second["label"] == "positive"
    assert first["id"] != second["id"]


@pytest.mark.parametrize("given", [["a film", "positive"], {"text": ["a film", "positive"]}])
def test_columns_are_answered_in_columns(endpoint: Endpoint, given: Any) -> None:
    status, reply = ask(endpoint, "POST", "/v1/models/demo:predict", {"inputs": given})
    assert status == 200
    assert reply["outputs"]["label"] == ["negative", "positive"]
    assert [len(row) for row in reply["outputs"]["scores"]] == [2, 2]


def test_status_and_metadata(endpoint: Endpoint) -> None:
    known = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/demo", "/v1/models/m/versions/1"):
        assert ask(endpoint, "GET", path) == (200, {"model_version_status": [known]})
    status, reply = ask(endpoint, "GET", "/v1/models/demo/metadata")
    assert (status, reply["model_spec"]["version"]) == (200, "1")
    signature = reply["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert list(signature["inputs"]) == ["text"]
    assert signature["outputs"]["scores"]["tensor_shape"]["dim"][1]["size"] == "2"
    assert ask(endpoint, "GET", "/v1/models/other")[0] == 404
    assert ask(endpoint, "GET", "/v1/models/demo/versions/9")[0] == 404


BAD: list[tuple[Any, str]] = [
    ({}, 'either "instances" or "inputs"'),
    ({"instances": ["x"], "inputs": ["x"]}, 'either "instances" or "inputs"'),
    ({"instances": "x"}, '"instances" is a text'),
    ({"instances": []}, "nothing to predict"),
    ({"inputs": []}, "nothing to predict"),
    ({"instances": [1.5]}, "instances[0] is a number"),
    ({"instances": [["x", "y"]]}, "instances[0] is a list"),
    ({"instances": [{"words": "x"}]}, 'the one key "text"'),
    ({"instances": [{"b64": "!"}]}, "instances[0] is not base 64"),
    ({"instances": [{"b64": 3}]}, "instances[0] is an object"),
    ({"instances": [b64(b"\xff")]}, "not text in UTF-8"),
    ({"instances": ["x"], "signature_name": "other"}, "The one signature here"),
]


@pytest.mark.parametrize(("body", "said"), BAD, ids=[f"{i}" for i in range(len(BAD))])
def test_what_does_not_fit_is_refused_in_a_sentence(endpoint: Endpoint, body: Any, said: str) -> None:
    status, reply = ask(endpoint, "POST", "/v1/models/demo:predict", body)
    assert (status, list(reply)) == (400, ["error"])
    assert said in sentence(reply)


def test_pictures_and_texts(house: House) -> None:
    found = house.start_task("image-classification")
    for body in ({"instances": [b64(png())]}, {"instances": [{"image": b64(png())}]}):
        status, reply = ask(found, "POST", "/v1/models/m:predict", body)
        assert (status, reply["predictions"][0]["label"]) == (200, "negative")
    status, reply = ask(found, "POST", "/v1/models/m:predict", {"inputs": {"image": b64(png())}})
    assert (status, reply["outputs"]["label"]) == (200, ["negative"])
    found = house.start_task("causal-lm")
    status, reply = ask(found, "POST", "/v1/models/m:predict", {"instances": ["one two"]})
    assert (status, reply["predictions"][0]["text"]) == (200, "one two")
    both = ask(found, "GET", "/v1/models/m")[1]  # two protocols meet at this path
    assert (both["object"], both["id"], both["model_version_status"][0]["state"]) == ("model", "m", "AVAILABLE")
