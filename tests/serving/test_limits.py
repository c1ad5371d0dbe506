"""One limit at every door: a prompt that is too long is a 400 that says how long it is, and nothing of it is cut."""

from pathlib import Path
from typing import Any

import pytest

from sft_magics.core.records import Endpoint
from tests.engine import tiny
from tests.serving.house import House, ask


@pytest.fixture(scope="module")
def writer(shared: House, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    """A GPT-2 of 64 positions that was trained on rows of 16 tokens."""
    from sft_magics.engine import tasks

    base: Path = tiny.save(tmp_path_factory.mktemp("base"), tiny.language("gpt2"))
    folder = tmp_path_factory.mktemp("writer") / "m-1"
    options = {"method": "full", "max_length": 16}
    tasks.find("causal-lm").load({"kind": "folder", "path": str(base)}, [], options).save(folder)
    return shared.start("limited", folder=folder, labels=(), threads=1, seconds=180.0)


def _chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "dummy", "messages": [{"role": "user", "content": text}], **more}


def test_a_prompt_that_is_too_long_is_refused_in_a_sentence(writer: Endpoint) -> None:
    long, said = "red " * 70, "The prompt has 76 tokens; 63 fit into the model's context of 64."
    for path, body in (
        ("/predict", {"inputs": [long]}),
        ("/v1/chat/completions", _chat(long)),
        ("/v1/chat/completions", _chat(long, stream=True)),
        ("/v1/completions", {"model": "dummy", "prompt": long}),
    ):
        status, answer, *_ = ask(writer, "POST", path, body)
        assert (status, said in str(answer)) == (400, True), (path, answer)


def test_an_answer_has_the_room_that_is_asked_for_or_the_prompt_is_refused(writer: Endpoint) -> None:
    text = "red " * 50  # 56 tokens
    assert ask(writer, "POST", "/predict", {"inputs": [text]})[0] == 200
    assert ask(writer, "POST", "/predict", {"inputs": [text], "max_new_tokens": 8})[0] == 200
    status, answer, *_ = ask(writer, "POST", "/predict", {"inputs": [text], "max_new_tokens": 9})
    assert status == 400
    assert "The prompt has 56 tokens; 55 fit into the model's context of 64 with an answer of 9." in str(answer)
    status, answer, *_ = ask(writer, "POST", "/v1/chat/completions", _chat(text, max_tokens=9))
    assert (status, "55 fit" in str(answer)) == (400, True)
    nothing = _chat(text, max_tokens=4, temperature=1.0, top_p=0.0)
    assert ask(writer, "POST", "/v1/chat/completions", nothing)[0] == 200
