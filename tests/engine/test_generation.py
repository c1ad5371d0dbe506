"""Answers of a language model token by token: what `generate` says, by lot where asked, ended where asked."""

from itertools import zip_longest

import pytest
import torch

from sft_magics.core import errors
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.sampling import Piece, Sampling
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks import find
from sft_magics.engine.tasks.causal_lm import CausalLM
from tests.engine import tiny

FP32 = Hardware(torch.device("cpu"), "fp32", 1, "")
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def task() -> CausalLM:
    start = {"kind": "folder", "path": str(fetch("smollm2"))}
    found = find("causal-lm").load(start, [], {"method": "full", "max_new_tokens": 24})
    assert isinstance(found, CausalLM)
    found.suit(bf16=False)
    found.model.eval()
    return found


def _pieces(task: CausalLM, text: str = QUESTION, **how: object) -> list[Piece]:
    return list(task.stream(text, Sampling(**{"max_new_tokens": 24, **how}), FP32))  # type: ignore[arg-type]


def _text(pieces: list[Piece]) -> str:
    return "".join(p.text for p in pieces)


def test_the_pieces_are_what_generate_says(task: CausalLM) -> None:
    rows = task.encode([QUESTION], None)
    said = task.scores(task.collate(rows, [0]))[0]
    pieces = _pieces(task)
    assert _text(pieces).strip() == said["text"]
    assert len([p for p in pieces if p.text]) > 3
    assert [p.ended for p in pieces[:-1]] == [""] * (len(pieces) - 1)
    assert pieces[-1].ended in ("stop", "length")
    assert pieces[0].prompt == len(rows.ids[0])


def test_an_answer_ends_at_its_length_and_before_a_stop(task: CausalLM) -> None:
    short = _pieces(task, max_new_tokens=3)
    assert (len(short), short[-1].ended) == (3, "length")
    whole = _text(_pieces(task))
    word = whole[5:9]
    stopped = _pieces(task, stop=(word,))
    assert _text(stopped) == whole[: whole.index(word)]
    assert stopped[-1].ended == "stop"


def test_a_long_answer_does_not_push_its_question_out(task: CausalLM) -> None:
    whole = _pieces(task, max_new_tokens=1)[0].prompt
    assert next(task.stream(QUESTION, Sampling(max_new_tokens=10**9), FP32)).prompt == whole


def test_lots_are_drawn_again_from_the_same_seed(task: CausalLM) -> None:
    first = _text(_pieces(task, temperature=1.5, seed=1))
    assert _text(_pieces(task, temperature=1.5, seed=1)) == first
    assert any(_text(_pieces(task, temperature=1.5, seed=s)) != first for s in (2, 3))
    assert _text(_pieces(task, temperature=1.5, top_p=1e-9, seed=1)) == _text(_pieces(task))


def test_characters_of_several_tokens_come_whole(task: CausalLM) -> None:
    chat = '[{"role": "user", "content": "Repeat exactly: \N{GRINNING FACE} \N{CJK UNIFIED IDEOGRAPH-4E2D}"}]'
    pieces = _pieces(task, chat)
    assert not any("\ufffd" in p.text for p in pieces)


def test_two_answers_can_be_written_in_turn(task: CausalLM) -> None:
    asked = (QUESTION, "Name a color.")
    alone = [_text(_pieces(task, q)) for q in asked]
    streams = [task.stream(q, Sampling(max_new_tokens=24), FP32) for q in asked]
    found = ["", ""]
    for pieces in zip_longest(*streams):
        for place, piece in enumerate(pieces):
            found[place] += piece.text if piece else ""
    assert found == alone


def test_a_share_or_temperature_of_nothing_is_the_likeliest(task: CausalLM) -> None:
    plain = _text(_pieces(task, max_new_tokens=6))
    assert _text(_pieces(task, max_new_tokens=6, temperature=1.0, top_p=0.0, seed=1)) == plain
    assert _text(_pieces(task, max_new_tokens=6, temperature=1e-30, seed=1)) == plain


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """A GPT-2 of 64 positions, trained on rows of 16 tokens."""
    base = tiny.save(tmp_path_factory.mktemp("gpt2"), tiny.language("gpt2"))
    found = find("causal-lm").load({"kind": "folder", "path": str(base)}, [], {"method": "full", "max_length": 16})
    assert isinstance(found, CausalLM)
    found.suit(bf16=False)
    found.model.eval()
    return found


def test_a_prompt_may_be_as_long_as_the_context_at_every_door(small: CausalLM) -> None:
    """What rows are trained on does not count."""
    text = "red " * 40
    (prompt,) = small.encode([text], None).ids
    assert len(prompt) > small.limit
    assert prompt.count(small.tokenizer.convert_tokens_to_ids("red")) == 40, "nothing of it is cut"
    room = 64 - len(prompt)
    with torch.inference_mode():
        rows = small.encode([text, "red"], None)
        said = small.scores(small.collate(rows, [0, 1]))
        alone = [small.scores(small.collate(small.encode([t], None), [0]))[0] for t in (text, "red")]
    assert [s["text"] for s in said] == [s["text"] for s in alone], "neither decides how long the other may be"
    assert said[0]["text"] == _text(_pieces(small, text, max_new_tokens=small.longest)).strip()
    assert len(_pieces(small, text, max_new_tokens=room, exact=True)) <= room
    with pytest.raises(errors.DataProblem, match=f"The prompt has {len(prompt)} tokens; {64 - room - 1} fit into the"):
        _pieces(small, text, max_new_tokens=room + 1, exact=True)
    long = "red " * 70
    with pytest.raises(errors.DataProblem, match="The prompt has 76 tokens; 63 fit into the model's context of 64"):
        _pieces(small, long, max_new_tokens=5)
    with pytest.raises(errors.DataProblem, match="Text 2 has 76 tokens; 63 fit"):
        small.encode(["red", long], None)
    assert small.fits([text, long]) == [True, False]
    assert small.fits([text, text], room + 1) == [False, False]
