"""Open Inference Protocol V2, as NVIDIA's own client speaks it, and as JSON written by hand."""

import base64
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from tests.serving.house import House, ask, png, sentence, token


@pytest.fixture(scope="module")
def endpoint(shared: House) -> Endpoint:
    return lifecycle.endpoint(shared.ws, "demo")


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{endpoint.port}") as made:
        yield made


@pytest.fixture(scope="module")
def headers(endpoint: Endpoint) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(endpoint)}"}


def tensor(values: list[Any], shape: list[int] | None = None, name: str = "text", **how: Any) -> triton.InferInput:
    made = triton.InferInput(name, shape or [len(values)], "BYTES")
    made.set_data_from_numpy(np.array(values, dtype=object).reshape(shape or [len(values)]), **how)
    return made


def test_the_server_and_its_model_say_what_they_are(
    client: triton.InferenceServerClient, headers: dict[str, str]
) -> None:
    assert client.is_server_live(headers)
    assert client.is_server_ready(headers)
    assert client.get_server_metadata(headers)["extensions"] == ["binary_tensor_data"]
    for name in ("demo", "m", "m:1", "m@live"):
        assert client.is_model_ready(name, headers=headers)
    assert client.is_model_ready("demo", "1", headers=headers)
    assert not client.is_model_ready("demo", "2", headers=headers)
    assert not client.is_model_ready("other", headers=headers)
    assert client.get_model_metadata("demo", headers=headers) == {
        "name": "demo",
        "versions": ["1"],
        "platform": "sft_text-classification",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "confidence", "datatype": "FP32", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "id", "datatype": "BYTES", "shape": [-1]},
        ],
    }


@pytest.mark.parametrize("how", [{}, {"binary_data": False}])
@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_texts_are_classified(
    endpoint: Endpoint, client: triton.InferenceServerClient, headers: dict[str, str], shape: list[int], how: Any
) -> None:
    asked = [tensor(["a f\xeflm \N{GRINNING FACE}", "positive"], shape, **how)]
    got = client.infer("demo", asked, model_version="1", request_id="my-1", headers=dict(headers))
    assert got.get_response()["id"] == "my-1"
    assert (got.get_response()["model_name"], got.get_response()["model_version"]) == ("demo", "1")
    assert got.as_numpy("label").tolist() == [b"negative", b"positive"]
    assert got.as_numpy("confidence").dtype == np.float32
    assert got.as_numpy("scores") == pytest.approx(np.array([[0.8, 0.2], [0.2, 0.8]]))
    keys = [key.decode() for key in got.as_numpy("id")]
    with EndpointClient(endpoint) as own:
        assert own.feedback([(keys[0], "positive")])["added"] == 1


def test_outputs_come_as_they_are_asked_for(client: triton.InferenceServerClient, headers: dict[str, str]) -> None:
    wanted = [triton.InferRequestedOutput("scores"), triton.InferRequestedOutput("label", binary_data=False)]
    got = client.infer("demo", [tensor(["a film"])], outputs=wanted, headers=dict(headers))
    assert [output["name"] for output in got.get_response()["outputs"]] == ["label", "scores"]
    assert got.get_output("label")["data"] == ["negative"]
    assert got.get_output("scores")["parameters"] == {"binary_data_size": 8}
    assert got.as_numpy("scores").shape == (1, 2)
    with pytest.raises(InferenceServerException, match="There is no output 'logits'; there are label"):
        client.infer("demo", [tensor(["x"])], outputs=[triton.InferRequestedOutput("logits")], headers=dict(headers))
    top = triton.InferRequestedOutput("scores", class_count=2)
    with pytest.raises(InferenceServerException, match='"classification" is not known'):
        client.infer("demo", [tensor(["x"])], outputs=[top], headers=dict(headers))


def test_many_at_once_from_several_threads(client: triton.InferenceServerClient, headers: dict[str, str]) -> None:
    waiting = [client.async_infer("demo", [tensor(["positive"] * n)], headers=dict(headers)) for n in (1, 2, 1000)]
    assert [len(one.get_result().as_numpy("label")) for one in waiting] == [1, 2, 1000]


def test_a_client_without_the_token_is_told(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="needs its token"):
        client.infer("demo", [tensor(["x"])])
    assert not client.is_server_live()


def test_the_whole_body_may_be_the_one_input(endpoint: Endpoint) -> None:
    head = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
    status, reply = ask(endpoint, "POST", "/v2/models/demo/infer", b"positive", headers=head)
    assert (status, reply["outputs"][0]["data"]) == (200, ["positive"])


def one(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]} | changes]}


BAD: list[tuple[Any, int, str]] = [
    ({}, 400, 'named "text"'),
    ({"inputs": []}, 400, 'named "text"'),
    ({"inputs": [1]}, 400, 'named "text"'),
    (one(name="image"), 400, 'named "text" here'),
    (one(datatype="FP32"), 400, "of datatype BYTES"),
    (one(shape=[2]), 400, "holds 1 elements, but its shape says 2"),
    (one(shape=[0]), 400, "shape [n]"),
    (one(shape=[-1]), 400, "shape [n]"),
    (one(shape=[1, 2]), 400, "shape [n]"),
    (one(shape=[1, 1, 1]), 400, "shape [n]"),
    (one(shape=[True]), 400, "shape [n]"),
    (one(shape=[1.0]), 400, "shape [n]"),
    (one(shape=[10**30]), 413, "more than the 1,024"),
    (one(shape=None), 400, "shape [n]"),
    (one(data="x"), 400, "shall be a list"),
    (one(data=None), 400, "shall be a list"),
    (one(data=[1]), 400, "a number"),
    (one(data=[[["x"]]]), 400, "a list"),
    (one(parameters=[]), 400, "shall be an object"),
    (one(parameters={"binary_data_size": 5}), 400, "shall have 5 bytes after the JSON, but 0 came"),
    (one(parameters={"binary_data_size": -1}), 400, "a number of bytes"),
    (one(parameters={"shared_memory_region": "r"}), 400, "Shared memory"),
    (one() | {"id": 3}, 400, "id is a number"),
    (one() | {"id": "i" * 201}, 400, "201 characters"),
    (one() | {"outputs": [3]}, 400, '"outputs" shall be'),
    (one() | {"outputs": "label"}, 400, '"outputs" shall be'),
    (one() | {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, 400, '"binary_data" is a number'),
    (one() | {"parameters": 3}, 400, "shall be an object"),
]


@pytest.mark.parametrize(("body", "status", "said"), BAD, ids=[f"{i}" for i in range(len(BAD))])
def test_what_does_not_fit_is_refused_in_a_sentence(endpoint: Endpoint, body: Any, status: int, said: str) -> None:
    got, reply = ask(endpoint, "POST", "/v2/models/demo/infer", body)
    assert (got, list(reply)) == (status, ["error"])
    assert said in sentence(reply)


def binary(elements: bytes, size: int | None = None, shape: int = 1, head: str | None = None) -> tuple[bytes, Any]:
    given = one(shape=[shape], parameters={"binary_data_size": len(elements) if size is None else size})
    del given["inputs"][0]["data"]
    text = json.dumps(given).encode()
    return text + elements, {"Inference-Header-Content-Length": str(len(text)) if head is None else head}


def element(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


BAD_BINARY: list[tuple[tuple[bytes, Any], str]] = [
    (binary(element(b"a"), size=4), "shall have 4 bytes after the JSON, but 5 came"),
    (binary(element(b"a"), size=6), "shall have 6 bytes after the JSON, but 5 came"),
    (binary(element(b"a"), shape=2), "holds 1 elements, but its shape says 2"),
    (binary(element(b"a") * 2), "holds more elements, but its shape says 1"),
    (binary(b"\xff\xff\xff\xffa"), "longer than the bytes that came"),
    (binary(b"\x01\x00"), "longer than the bytes that came"),
    (binary(element(b"\xff\xfe")), "not text in UTF-8"),
    (binary(element(b"a"), head="-1"), "shall be a number up to"),
    (binary(element(b"a"), head="9" * 50), "shall be a number up to"),
    (binary(element(b"a"), head="1e3"), "shall be a number up to"),
    (binary(element(b"a"), head="10"), "not JSON"),
]


@pytest.mark.parametrize(("sent", "said"), BAD_BINARY, ids=[f"{i}" for i in range(len(BAD_BINARY))])
def test_wrong_counts_of_bytes_are_refused(endpoint: Endpoint, sent: tuple[bytes, Any], said: str) -> None:
    status, reply = ask(endpoint, "POST", "/v2/models/demo/infer", sent[0], headers=sent[1])
    assert (status, said in sentence(reply)) == (400, True), reply


def test_names_that_are_not_served(endpoint: Endpoint) -> None:
    for path in ("/v2/models/other/infer", "/v2/models/demo/versions/7/infer"):
        status, reply = ask(endpoint, "POST", path, one())
        assert status == 404
        assert "m:1" in sentence(reply)


def test_boxes_and_masks_and_texts(house: House) -> None:
    found = house.start_task("object-detection")
    sent = {"Authorization": f"Bearer {token(found)}"}
    with triton.InferenceServerClient(f"127.0.0.1:{found.port}") as client:
        got = client.infer("object-detection", [tensor([png(), png()], name="image")], headers=dict(sent))
    assert got.as_numpy("label").tolist() == [b"1 negative", b"1 negative"]
    assert json.loads(got.as_numpy("boxes")[0])[0] == {
        "label": "negative", "confidence": 0.8, "left": 0.0, "top": 0.0, "right": 4.0, "bottom": 6.0,
    }  # fmt: skip
    found = house.start_task("semantic-segmentation")
    body = one(name="image", data=[base64.b64encode(png()).decode()])
    status, reply = ask(found, "POST", "/v2/models/m/infer", body)
    assert status == 200
    columns = {output["name"]: output["data"] for output in reply["outputs"]}
    assert json.loads(columns["shares"][0]) == {"negative": 0.5, "positive": 0.5}
    mask = Image.open(io.BytesIO(base64.b64decode(columns["mask"][0].partition(",")[2])))
    assert [mask.getpixel((0, 0)), mask.getpixel((7, 5))] == [0, 1]
    found = house.start_task("causal-lm")
    with triton.InferenceServerClient(f"127.0.0.1:{found.port}") as client:
        sent = {"Authorization": f"Bearer {token(found)}"}
        got = client.infer("m", [tensor(["say \xe9 again"], name="prompt")], headers=dict(sent))
    assert got.as_numpy("text").tolist() == ["say \xe9 again".encode()]
