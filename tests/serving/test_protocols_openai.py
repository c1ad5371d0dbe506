"""The chat protocol as OpenAI's own client speaks it, on the fake that writes a prompt's words again."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from huggingface_hub import InferenceClient

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from sft_magics.serving.scheduling.model_thread import MAX_WRITINGS
from sft_magics.serving.testing import FAILS_ON
from tests.serving.house import House, ask, sentence, token

WORDS = "one two three four five"


@pytest.fixture(scope="module")
def endpoint(shared: House) -> Endpoint:
    return shared.start_task("causal-lm", seconds=0.01)


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=token(endpoint), max_retries=0) as made:
        yield made


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [(m.id, m.object, m.owned_by) for m in client.models.list()] == [("causal-lm", "model", "m")]


def test_an_answer_comes_whole(client: openai.OpenAI) -> None:
    got = client.chat.completions.create(model="m", messages=user(WORDS))
    assert (got.object, got.model, len(got.choices)) == ("chat.completion", "m:1", 1)
    assert got.choices[0].message.content == WORDS
    assert got.choices[0].message.role == "assistant"
    assert got.choices[0].finish_reason == "stop"
    assert got.usage is not None
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (5, 5, 10)


def test_an_answer_comes_in_parts(client: openai.OpenAI) -> None:
    parts = list(
        client.chat.completions.create(
            model="causal-lm", messages=user(WORDS), stream=True, stream_options={"include_usage": True}
        )
    )
    assert parts[0].choices[0].delta.role == "assistant"
    texts = [p.choices[0].delta.content for p in parts if p.choices and p.choices[0].delta.content]
    assert texts == ["one", " two", " three", " four", " five"]
    assert [p.choices[0].finish_reason for p in parts if p.choices][-1] == "stop"
    assert parts[-1].usage is not None
    assert parts[-1].usage.total_tokens == 10
    assert len({p.id for p in parts}) == 1


def test_what_some_take_for_the_end_of_a_line_is_none(client: openai.OpenAI, endpoint: Endpoint) -> None:
    text = "one\x85two\u2028three\x0b\x1c four\r\nfive \N{GRINNING FACE}"
    parts = client.chat.completions.create(model="m", messages=user(text), stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in parts) == text
    hub = InferenceClient(model=endpoint.url, token=token(endpoint))
    assert "".join(hub.text_generation(text, stream=True)) == text


def test_the_first_part_comes_before_the_last_is_written(client: openai.OpenAI) -> None:
    began = time.monotonic()
    with client.chat.completions.create(model="m", messages=user("w " * 100), stream=True) as parts:
        came = [time.monotonic() - began for _ in parts]
    assert came[0] < 0.5 * came[-1], "a text of 100 tokens came in one piece"


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({"max_tokens": 2}, "one two", "length"),
        ({"max_completion_tokens": 3, "max_tokens": 1}, "one two three", "length"),
        ({"stop": "three"}, "one two ", "stop"),
        ({"stop": ["four", "two"]}, "one ", "stop"),
        ({"max_tokens": 10**9, "temperature": 0.5, "top_p": 0.9, "seed": 7, "n": 1, "user": "u"}, WORDS, "stop"),
    ],
)
def test_options_are_followed(client: openai.OpenAI, options: Any, text: str, reason: str) -> None:
    choice = client.chat.completions.create(model="m", messages=user(WORDS), **options).choices[0]
    assert (choice.message.content, choice.finish_reason) == (text, reason)


def test_a_content_of_parts_is_read(client: openai.OpenAI) -> None:
    content = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages: Any = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": content}]
    assert client.chat.completions.create(model="m", messages=messages).choices[0].message.content == "one two"


def test_a_prompt_is_answered(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="m", prompt=WORDS, max_tokens=2)
    assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
        "text_completion", "one two", "length",
    )  # fmt: skip
    parts = list(client.completions.create(model="m", prompt=WORDS, stream=True))
    assert "".join(p.choices[0].text for p in parts) == WORDS


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, '"messages" shall be a list'),
    ({"messages": "hi"}, '"messages" shall be a list'),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0] shall be a message"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0] is null"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0] shall be a part"),
    ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "calls a tool"),
    ({"messages": [3]}, "messages[0] shall be a message"),
    ({"messages": user("x") * 1001}, "1,001 messages"),
    ({"messages": user("x"), "model": None}, "model is null"),
    ({"messages": user("x"), "n": 2}, '"n" shall be 1'),
    ({"messages": user("x"), "temperature": -1}, '"temperature" shall be a number'),
    ({"messages": user("x"), "temperature": True}, '"temperature" shall be a number'),
    ({"messages": user("x"), "top_p": 1.5}, '"top_p" shall be a number from 0 to 1'),
    ({"messages": user("x"), "max_tokens": 0}, '"max_tokens" shall be a whole number'),
    ({"messages": user("x"), "max_tokens": 1.5}, '"max_tokens" shall be a whole number'),
    ({"messages": user("x"), "seed": 2**70}, '"seed" shall be a whole number'),
    ({"messages": user("x"), "stop": 3}, '"stop" shall be a text'),
    ({"messages": user("x"), "stop": ["a"] * 17}, '"stop" shall be a text'),
    ({"messages": user("x"), "stop": [1]}, "stop[0] is a number"),
    ({"messages": user("x"), "stream": "yes"}, '"stream" is a text'),
    ({"messages": user("x"), "stream_options": 1}, '"stream_options" is a number'),
    ({"messages": user("x"), "tools": [{}]}, '"tools" is not known here'),
    ({"messages": user("x"), "response_format": {"type": "json_object"}}, '"response_format" is not known'),
    ({"messages": user("x"), "presence_penalty": 0.5}, '"presence_penalty" is not known'),
    ({"messages": user("x"), "logprobs": True}, '"logprobs" is not known'),
]


@pytest.mark.parametrize(("body", "said"), BAD, ids=[f"{i}" for i in range(len(BAD))])
def test_what_cannot_be_done_is_refused_in_their_form(endpoint: Endpoint, body: dict[str, Any], said: str) -> None:
    status, reply = ask(endpoint, "POST", "/v1/chat/completions", {"model": "m"} | body)
    assert (status, reply["error"]["type"]) == (400, "invalid_request_error")
    assert said in sentence(reply)


def test_problems_are_the_clients_own_errors(client: openai.OpenAI, endpoint: Endpoint) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no model 'other' here"):
        client.chat.completions.create(model="other", messages=user("x"))
    with pytest.raises(openai.AuthenticationError, match="not the token"):
        client.with_options(api_key="wrong").models.list()
    for stream in (False, True):  # before the first token there is a status for it, also of a stream
        with pytest.raises(openai.InternalServerError, match="failed on this input"):
            client.chat.completions.create(model="m", messages=user(FAILS_ON), stream=stream)
    late = {"X-Timeout-Ms": "100"}
    with pytest.raises(openai.APIStatusError, match="time was over"):
        client.chat.completions.create(model="m", messages=user("w " * 100), extra_headers=late)
    with pytest.raises(openai.APIError, match="time was over"):
        list(client.chat.completions.create(model="m", messages=user("w " * 100), stream=True, extra_headers=late))


def test_a_classifier_has_no_chat(shared: House) -> None:
    demo = lifecycle.endpoint(shared.ws, "demo")
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=token(demo), max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="text-classification, which writes no text"):
            client.chat.completions.create(model="m", messages=user("x"))
        with pytest.raises(openai.NotFoundError):
            client.models.list()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_the_writing(endpoint: Endpoint, stream: bool) -> None:
    import http.client

    before = ask(endpoint, "GET", "/stats")[1]
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
    body = json.dumps({"model": "m", "messages": user("w " * 3000), "max_tokens": 3000, "stream": stream})
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {token(endpoint)}"})
    if stream:
        assert connection.getresponse().read(10)
    else:
        time.sleep(0.2)
    connection.close()
    began = time.monotonic()
    # Another text has every token of the compute thread to itself: half a second, not thirty.
    status, reply = ask(endpoint, "POST", "/v1/chat/completions", {"model": "m", "messages": user("w " * 40)})
    assert (status, time.monotonic() - began < 3) == (200, True), reply
    deadline = time.monotonic() + 5
    while ask(endpoint, "GET", "/stats")[1]["waiting"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ask(endpoint, "GET", "/stats")[1]["answered"] == before["answered"] + 1


def test_so_many_texts_are_written_at_once_and_no_more(endpoint: Endpoint) -> None:
    """Each text has its model's memory of it: more are refused, or wait their turn."""
    body = {"model": "m", "messages": user(" ".join(["word"] * 40)), "stream": True}
    found: list[int] = []

    def one() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=120)
        headers = {"Authorization": f"Bearer {token(endpoint)}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
        response = connection.getresponse()
        response.read()
        found.append(response.status)

    threads = [threading.Thread(target=one) for _ in range(MAX_WRITINGS + 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {200, 429}
    assert found.count(200) >= MAX_WRITINGS
    many = ask(endpoint, "POST", "/predict", {"inputs": ["a b c"] * (2 * MAX_WRITINGS)})
    assert many[0] == 200


def test_a_drain_waits_for_a_stream(house: House) -> None:
    found = house.start_task("causal-lm", seconds=0.02)
    with openai.OpenAI(base_url=f"{found.url}/v1", api_key=token(found), max_retries=0) as client:
        parts = client.chat.completions.create(model="m", messages=user("w " * 50), stream=True)
        next(parts)
        assert ask(found, "POST", "/admin/stop", {})[0] == 200
        rest = [p.choices[0].finish_reason for p in parts]
    assert rest[-1] == "stop"
    assert len(rest) > 40
