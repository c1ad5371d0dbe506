"""Chats as the model reads them: its own chat template, or a plain form where it has none, and which parts are answers.

A template may rewrite earlier turns (some drop what was thought before an answer). An earlier answer is learned only
where the text up to it is what the model sees when it is asked for it.
"""

from collections.abc import Sequence
from typing import Any

from sft_magics.datasets.chats import Message, is_learned

_MARK = "0f3a-the-answer"
_QUESTION, _ANSWER = "### Question:\n", "### Answer:\n"
Segment = tuple[str, bool]  # a piece of text, and whether it has loss


def end_of_answer(tokenizer: Any) -> str:
    """Return what ends an answer: as the chat template has it, else the tokenizer's own end."""
    if tokenizer.chat_template is None:
        return str(tokenizer.eos_token)
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    whole = str(tokenizer.apply_chat_template(said, tokenize=False))
    return whole.partition(_MARK)[2].rstrip() or str(tokenizer.eos_token)


def asked(tokenizer: Any, said: Sequence[Message]) -> str:
    """Return the text that ends where the next answer begins."""
    plain = [{"role": m["role"], "content": m["content"]} for m in said]
    if tokenizer.chat_template is None:
        return _plain(plain, str(tokenizer.eos_token))
    return str(tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False))


def _plain(said: Sequence[Message], end: str) -> str:
    written = {"user": f"{_QUESTION}{{}}\n\n", "assistant": f"{_ANSWER}{{}}{end}\n\n"}
    return "".join(written.get(m["role"], "{}\n\n").format(m["content"]) for m in said) + _ANSWER


def segments(tokenizer: Any, said: Sequence[Message], end: str) -> tuple[list[Segment], int]:
    """Part the text of `asked` into pieces with and without loss; return them and how many answers were lost.

    `end` is what `end_of_answer` returns. An answer is lost where the template writes it, or what is before it, in
    another way once more turns follow.
    """
    whole = asked(tokenizer, said)
    found: list[Segment] = []
    at = lost = 0
    for i, message in enumerate(said):
        if not is_learned(message):
            continue
        before, answer = asked(tokenizer, said[:i]), message["content"] + end
        if len(before) < at or not whole.startswith(before + answer):
            lost += 1
            continue
        found += [(whole[at : len(before)], False), (answer, True)]
        at = len(before) + len(answer)
    return [*found, (whole[at:], False)], lost
