"""Chat templates of strangers: a system message that one refuses, roles it does not know, an end it does not name."""

import json
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core import errors
from sft_magics.engine.inputs.chats import Chat, folded
from sft_magics.engine.tasks import find
from tests.engine import tiny

TURNS = (
    "{% for m in messages %}{{ '<u> ' + m['role'] + ' : ' + m['content'] + ' </u> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<u> assistant : ' }}{% endif %}"
)
REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}" + TURNS
)
DROPS = TURNS.replace("in messages %}", "in messages if m['role'] != 'system' %}", 1)
SYSTEM = json.dumps([{"role": "system", "content": "say one"}, {"role": "user", "content": "count"}])


def chat(template: str | None, **options: Any) -> Chat:
    words = tiny.tokenizer(**options)
    words.chat_template = template
    return Chat(words, "the base")


@pytest.mark.parametrize(("template", "folds"), [(TURNS, False), (REFUSES, True), (DROPS, True)])
def test_a_system_message_is_never_lost(template: str, *, folds: bool) -> None:
    found = chat(template)
    assert found.folds_system == folds
    prompt = found.prompt(SYSTEM)
    assert "say one" in prompt
    assert prompt.endswith("<u> assistant : ")
    assert ("user : say one\n\ncount" in prompt) == folds
    assert found.folded == folds
    assert found.end.strip() == "</u>"


def test_what_a_template_refuses_is_said_in_a_sentence() -> None:
    twice = json.dumps([{"role": "user", "content": "one"}, {"role": "user", "content": "two"}])
    with pytest.raises(errors.DataProblem, match="refuses a chat with the roles user, user: Conversation roles must"):
        chat(REFUSES).prompt(twice)
    with pytest.raises(errors.ModelProblem, match="chat template of the base fails on a question and its answer"):
        chat("{{ raise_exception('no') }}")
    with pytest.raises(errors.ModelProblem, match="fails on a question"):
        chat("{% for m in messages %}")
    with pytest.raises(errors.ModelProblem, match="fails on a question"):
        chat("{{ messages[0]['content']['parts'][0] + 1 }}")


def test_a_base_that_names_no_end_is_refused() -> None:
    """Its answers would be taught to end in the word "None"."""
    with pytest.raises(errors.ModelProblem, match="names no token that ends a text"):
        chat(None, eos_token=None)
    assert chat(TURNS, eos_token=None).end.strip() == "</u>"
    assert chat(None).end == "</s>"


def test_system_messages_go_before_the_question_that_follows() -> None:
    said = [{"role": r, "content": c} for r, c in (("system", "a"), ("user", "b"), ("assistant", "c"), ("system", "d"))]
    assert [(m["role"], m["content"]) for m in folded(said)] == [
        ("user", "a\n\nb"), ("assistant", "c"), ("user", "d"),
    ]  # fmt: skip


def test_a_run_says_that_system_messages_were_moved(tmp_path: Path) -> None:
    words = tiny.tokenizer()
    words.chat_template = REFUSES
    base = tiny.save(tmp_path, tiny.language("llama"), words)
    task = find("causal-lm").load({"kind": "folder", "path": str(base)}, [], {"method": "full"})
    task.probe()
    quiet = task.remarks(task.encode(["count"], ["one two"]))
    assert not any("system" in remark for remark in quiet)
    assert any("takes no system message" in remark for remark in task.remarks(task.encode([SYSTEM], ["one"])))
