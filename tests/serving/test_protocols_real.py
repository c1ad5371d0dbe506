"""Real models behind the protocols: an encoder that classifies, and a language model that chats and can be left."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import tritonclient.http as triton
from huggingface_hub import InferenceClient

from sft_magics.core.records import Endpoint
from sft_magics.core.runtime.fetching import fetch
from sft_magics.serving.client.client import EndpointClient
from sft_magics.serving.log.prediction_log import PredictionLog, log_path
from tests.serving.house import LABELS, House, ask, token

TEXTS = ["a moving, funny film", "dull", "never a boring moment " * 60]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def classifier(shared: House, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    from sft_magics.engine import tasks

    base = {"kind": "folder", "path": str(fetch("minilm"))}
    folder = tmp_path_factory.mktemp("classifier") / "m-1"
    tasks.find("text-classification").load(base, list(LABELS), {"seed": 1}).save(folder)
    return shared.start("classifier", folder=folder, threads=1, seconds=180.0)


@pytest.fixture(scope="module")
def writer(shared: House, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    from sft_magics.engine import tasks

    base = {"kind": "folder", "path": str(fetch("smollm2"))}
    folder = tmp_path_factory.mktemp("writer") / "m-1"
    tasks.find("causal-lm").load(base, [], {"method": "full", "max_new_tokens": 24}).save(folder)
    return shared.start("writer", folder=folder, labels=(), threads=1, seconds=300.0)


@pytest.fixture(scope="module")
def client(writer: Endpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{writer.url}/v1", api_key=token(writer), max_retries=0, timeout=300) as made:
        yield made


def test_every_protocol_says_what_the_endpoint_says(classifier: Endpoint) -> None:
    own = [row["scores"] for row in ask(classifier, "POST", "/predict", {"inputs": TEXTS})[1]["predictions"]]
    expected = np.array([[row[label] for label in LABELS] for row in own])
    tensor = triton.InferInput("text", [3], "BYTES")
    tensor.set_data_from_numpy(np.array(TEXTS, dtype=object))
    with triton.InferenceServerClient(f"127.0.0.1:{classifier.port}") as speaks:
        got = speaks.infer("m", [tensor], headers={"Authorization": f"Bearer {token(classifier)}"})
    assert got.as_numpy("scores") == pytest.approx(expected, abs=0.01)
    hub = InferenceClient(model=classifier.url, token=token(classifier))
    for text, row in zip(TEXTS, own, strict=True):
        found = {one.label: one.score for one in hub.text_classification(text)}
        assert found == pytest.approx(row, abs=0.01)
    rows = ask(classifier, "POST", "/v1/models/m:predict", {"instances": TEXTS})[1]["predictions"]
    assert np.array([row["scores"] for row in rows]) == pytest.approx(expected, abs=0.01)
    rows = ask(classifier, "POST", "/invocations", {"inputs": TEXTS}, headers={"Content-Type": "application/json"})[1]
    assert [row["label"] for row in rows["predictions"]] == [max(row, key=row.__getitem__) for row in own]


def test_every_protocol_says_that_a_text_was_not_read_to_its_end(classifier: Endpoint) -> None:
    long = "never a boring moment " * 300
    asked, beyond = ["dull", long], len(long.split()) + 2 - 256  # each word is one token; and [CLS], [SEP]
    own = ask(classifier, "POST", "/predict", {"inputs": asked})[1]["predictions"]
    assert [row.get("truncated_tokens") for row in own] == [None, beyond]
    bearer = {"Authorization": f"Bearer {token(classifier)}"}
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": asked}
    bodies: dict[str, Any] = {
        "/": {"inputs": asked},
        "/models/m": {"inputs": asked},
        "/v1/models/m:predict": {"instances": asked},
        "/invocations": {"inputs": asked},
        "/v2/models/m/infer": {"inputs": [tensor]},
    }
    for path, body in bodies.items():
        said = httpx.post(f"{classifier.url}{path}", json=body, headers=bearer, timeout=60)
        assert said.status_code == 200, (path, said.text)
        assert said.headers["x-truncated-tokens"] == f"1={beyond}", path
    binary = {**bodies["/v2/models/m/infer"], "parameters": {"binary_data_output": True}}
    said = httpx.post(f"{classifier.url}/v2/models/m/infer", json=binary, headers=bearer, timeout=60)
    assert said.headers["x-truncated-tokens"] == f"1={beyond}"
    whole = httpx.post(f"{classifier.url}/", json={"inputs": "dull"}, headers=bearer, timeout=60)
    assert "x-truncated-tokens" not in whole.headers
    with EndpointClient(classifier) as client:
        assert [row.truncated_tokens for row in client.predict(asked)] == [0, beyond]
    with PredictionLog(log_path(Path(classifier.folder))) as log:
        logged = log.window()
    assert sorted(set(logged["truncated_tokens"])) == [0, beyond]


def test_a_stream_says_what_a_whole_answer_says(client: openai.OpenAI) -> None:
    options: Any = {"model": "m", "messages": QUESTION, "max_tokens": 24}
    whole = client.chat.completions.create(**options)
    parts = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
    assert text == whole.choices[0].message.content
    assert "Paris" in text
    assert len(parts) > 5
    assert parts[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 10
    assert whole.choices[0].finish_reason in ("stop", "length")


def test_lots_are_drawn_again_from_the_same_seed(client: openai.OpenAI) -> None:
    def drawn(seed: int) -> str | None:
        messages: Any = QUESTION
        got = client.chat.completions.create(
            model="m", messages=messages, temperature=1.5, top_p=0.95, seed=seed, max_tokens=12
        )
        return got.choices[0].message.content

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in (1, 2, 3)}) > 1


def test_whoever_leaves_stops_the_writing(client: openai.OpenAI, writer: Endpoint) -> None:
    messages: Any = [{"role": "user", "content": "Tell a very long story of a king and his three sons."}]
    began = time.monotonic()
    whole = client.chat.completions.create(model="m", messages=messages, max_tokens=40)
    each = (time.monotonic() - began) / 40
    assert whole.choices[0].finish_reason == "length"
    before = ask(writer, "GET", "/stats")[1]["answered"]
    for _ in range(3):
        stream = client.chat.completions.create(model="m", messages=messages, max_tokens=4000, stream=True)
        next(iter(stream))
        stream.close()
    began = time.monotonic()
    client.chat.completions.create(model="m", messages=messages, max_tokens=40)
    alone = (time.monotonic() - began) / 40
    assert alone < 3 * each + 0.05  # three more in turn would make it four times as long, until their end
    assert ask(writer, "GET", "/stats")[1]["answered"] == before + 1
    assert "sft_inside_requests 0\n" in _metrics(writer)


def _metrics(endpoint: Endpoint) -> str:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token(endpoint)}"})
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_prompts_go_through_the_other_protocols(writer: Endpoint) -> None:
    hub = InferenceClient(model=writer.url, token=token(writer), timeout=300)
    prompt = str(QUESTION[0]["content"])
    text = hub.text_generation(prompt, max_new_tokens=24)
    assert "Paris" in text
    assert "".join(hub.text_generation(prompt, max_new_tokens=24, stream=True)) == text
    tensor = triton.InferInput("prompt", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([prompt], dtype=object))
    with triton.InferenceServerClient(f"127.0.0.1:{writer.port}", network_timeout=300) as speaks:
        got = speaks.infer("m", [tensor], headers={"Authorization": f"Bearer {token(writer)}"})
    assert b"Paris" in got.as_numpy("text")[0]
