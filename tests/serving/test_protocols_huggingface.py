"""Hugging Face's Inference API, as its own client speaks it."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from tests.serving.house import FEEDBACK, House, ask, png, sentence, token


def speak(endpoint: Endpoint, **how: Any) -> InferenceClient:
    return InferenceClient(model=endpoint.url, token=token(endpoint), timeout=60, **how)


@pytest.fixture(scope="module")
def endpoint(shared: House) -> Endpoint:
    return lifecycle.endpoint(shared.ws, "demo")


def test_texts_are_classified(endpoint: Endpoint) -> None:
    got = speak(endpoint).text_classification("positive")
    assert [(one.label, one.score) for one in got] == [("positive", 0.8), ("negative", pytest.approx(0.2))]
    assert [one.label for one in speak(endpoint).text_classification("a film", top_k=1)] == ["negative"]
    by_name = InferenceClient(model=f"{endpoint.url}/models/demo", token=token(endpoint))
    assert by_name.text_classification("a film")[0].label == "negative"
    status, reply = ask(endpoint, "POST", "/", {"inputs": ["a film", "positive"]})
    assert status == 200
    assert [row[0]["label"] for row in reply] == ["negative", "positive"]  # type: ignore[index]


def test_the_version_and_ids_for_feedback_are_in_headers(endpoint: Endpoint) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
    body, sent = json.dumps({"inputs": ["a", "b"]}), {"Authorization": f"Bearer {token(endpoint)}"}
    connection.request("POST", "/", body, sent)
    response = connection.getresponse()
    ids = (response.getheader("x-prediction-ids") or "").split(",")
    assert response.getheader("x-model-version") == "m:1"
    labels = {"labels": [{"id": key, "label": "positive"} for key in ids]}
    assert ask(endpoint, "POST", "/feedback", labels) == (200, FEEDBACK | {"added": 2})
    connection.close()


BAD: list[tuple[Any, int, str]] = [
    ({}, 400, '"inputs" is missing'),
    ({"inputs": None}, 400, '"inputs" is missing'),
    ({"inputs": []}, 400, '"inputs" is empty'),
    ({"inputs": 3}, 400, "a number"),
    ({"inputs": {"text": "x"}}, 400, "an object"),
    ({"inputs": "x", "parameters": 3}, 400, '"parameters" is a number'),
    ({"inputs": "x", "parameters": {"top_k": 0}}, 400, '"top_k" shall be a whole number'),
    ({"inputs": ["x"] * 1025}, 413, "1,024 at most"),
    ([1], 400, "not a JSON object"),
    (b"\x89PNG", 400, "not JSON"),
]


@pytest.mark.parametrize(("body", "status", "said"), BAD, ids=[f"{i}" for i in range(len(BAD))])
def test_what_does_not_fit_is_refused_in_a_sentence(endpoint: Endpoint, body: Any, status: int, said: str) -> None:
    got, reply = ask(endpoint, "POST", "/", body)
    assert (got, list(reply)) == (status, ["error"])
    assert said in sentence(reply)


def test_problems_are_the_clients_own_errors(endpoint: Endpoint) -> None:
    with pytest.raises(HfHubHTTPError, match="401"):
        InferenceClient(model=endpoint.url, token="wrong").text_classification("x")
    with pytest.raises(HfHubHTTPError, match="404"):
        InferenceClient(model=f"{endpoint.url}/models/other", token=token(endpoint)).text_classification("x")
    with pytest.raises(HfHubHTTPError, match="404"):
        speak(endpoint).chat_completion([{"role": "user", "content": "x"}])


def test_pictures_are_classified_as_files(house: House, tmp_path: Path) -> None:
    found = house.start_task("image-classification")
    client = speak(found)
    file = tmp_path / "picture.png"
    file.write_bytes(png())
    for given in (png(), file):
        assert [one.label for one in client.image_classification(given)] == ["negative", "positive"]
    assert len(client.image_classification(png(), top_k=1)) == 1
    with pytest.raises(HfHubHTTPError, match="not an image that can be read"):
        client.image_classification(b"not a picture")
    status, reply = ask(found, "POST", "/", {"inputs": base64.b64encode(png()).decode()})
    assert (status, reply[0]["label"]) == (200, "negative")  # type: ignore[index]


def test_boxes(house: House) -> None:
    got = speak(house.start_task("object-detection")).object_detection(png())
    assert [(one.label, one.score) for one in got] == [("negative", 0.8)]
    box = got[0].box
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == (0, 0, 4, 6)


def test_masks(house: House) -> None:
    got = speak(house.start_task("semantic-segmentation")).image_segmentation(png())
    assert [one.label for one in got] == ["negative", "positive"]
    left: Any = got[0].mask
    assert (left.size, left.getpixel((0, 0)), left.getpixel((7, 5))) == ((8, 6), 255, 0)


def test_texts_are_written(house: House) -> None:
    found = house.start_task("causal-lm", seconds=0.001)
    client = speak(found)
    assert client.text_generation("one two three", max_new_tokens=2) == "one two"
    assert client.text_generation("one two three", stop=["three"], return_full_text=True) == "one two threeone two "
    details = client.text_generation("one two three", details=True).details
    assert details is not None
    assert (details.generated_tokens, details.finish_reason) == (3, "eos_token")
    assert list(client.text_generation("one two three", stream=True)) == ["one", " two", " three"]
    *_, last = client.text_generation("one two three", stream=True, details=True, max_new_tokens=2)
    assert last.generated_text == "one two"
    assert last.details is not None
    assert last.details.finish_reason == "length"
    got = client.chat_completion([{"role": "user", "content": "one two"}], max_tokens=1)
    assert got.choices[0].message.content == "one"
    parts = client.chat_completion([{"role": "user", "content": "one two"}], stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == "one two"
