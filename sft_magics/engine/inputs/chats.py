"""Chat templates of a base: prompts as it was trained to read them, and what ends an answer.

A template is a program of a stranger's file. What it raises is said in a sentence that names the file. Some templates
know no system role: they refuse it, or leave its text out. The system message then goes before the first question.
Some rewrite earlier turns (what was thought before an answer is dropped): an earlier answer is learned only where the
text up to it is what the model sees when it is asked for it.
"""

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from sft_magics.core import errors
from sft_magics.datasets.chats import chat_tables
from sft_magics.datasets.chats.messages import Message, is_learned

_QUESTION, _ANSWER = "### Question:\n", "### Answer:\n"  # where there is no template
_MARK = "0f3a-the-answer"
_SYSTEM = "0f3a-the-system"
_FAILURES = (TemplateError, TypeError, KeyError, ValueError, IndexError, AttributeError)

Messages = Sequence[Message]
Segment = tuple[str, bool]  # a piece of text, and whether it has loss


class Chat:
    """The template of `tokenizer`, or a plain form where there is none; `source` is what messages call its file.

    Raises ModelProblem for a template that cannot write a question and its answer, and for a base with nothing that
    ends an answer: its answers would never end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
        self._tokenizer = tokenizer
        self._source = source
        self.end = self._end()  # what ends an answer
        self.folds_system = tokenizer.chat_template is not None and self._loses_system()
        self.folded = 0  # system messages that went before a question

    def prompt(self, text: str) -> str:
        """Return the prompt of a row's text up to where its answer begins; raises DataProblem for a chat that the
        template refuses.
        """
        return self._asked(self._taken(text))

    def segments(self, text: str) -> tuple[list[Segment], int]:
        """Part the prompt of a row's text into pieces with and without loss; return how many answers were lost, too.

        An answer is lost where the template writes it, or what is before it, in another way once more turns follow.
        """
        said = self._taken(text)
        whole = self._asked(said)
        found: list[Segment] = []
        at = lost = 0
        for i, message in enumerate(said):
            if not is_learned(message):
                continue
            before, answer = self._asked(said[:i]), message["content"] + self.end
            if len(before) < at or not whole.startswith(before + answer):
                lost += 1
                continue
            found += [(whole[at : len(before)], False), (answer, True)]
            at = len(before) + len(answer)
        return [*found, (whole[at:], False)], lost

    def _taken(self, text: str) -> list[Message]:
        """Return the messages of a row's text as the template takes them."""
        said = chat_tables.messages(text)
        if self.folds_system and any(message["role"] == "system" for message in said):
            self.folded += 1
            said = folded(said)
        return said

    def _asked(self, said: Messages) -> str:
        """Return the text that ends where the next answer begins; raises DataProblem for a chat that is refused."""
        if self._tokenizer.chat_template is None:
            return self._plain(said)
        try:
            return self._written(said, answers=True)
        except _FAILURES as error:
            roles = ", ".join(message["role"] for message in said)
            raise errors.DataProblem(
                f"The chat template of {self._source} refuses a chat with the roles {roles}: {_first_line(error)}.",
                "change the chat's messages, or name a --base whose template knows them.",
            ) from error

    def _plain(self, said: Messages) -> str:
        forms = {"user": f"{_QUESTION}{{}}\n\n", "assistant": f"{_ANSWER}{{}}{self.end}\n\n"}
        return "".join(forms.get(m["role"], "{}\n\n").format(m["content"]) for m in said) + _ANSWER

    def _written(self, said: Messages, *, answers: bool = False) -> str:
        found = self._tokenizer.apply_chat_template(
            [{"role": m["role"], "content": m["content"]} for m in said], add_generation_prompt=answers, tokenize=False
        )
        return str(found)

    def _end(self) -> str:
        """Return what ends an answer: as the template has it, else the tokenizer's own end."""
        end = ""
        if self._tokenizer.chat_template is not None:
            said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
            try:
                end = self._written(said).partition(_MARK)[2].rstrip()
            except _FAILURES as error:
                raise errors.ModelProblem(
                    f"The chat template of {self._source} fails on a question and its answer: {_first_line(error)}.",
                    "mend chat_template in its tokenizer_config.json or chat_template.jinja, or name another base.",
                ) from error
        if end or self._tokenizer.eos_token:
            return end or str(self._tokenizer.eos_token)
        raise errors.ModelProblem(
            f"The tokenizer of {self._source} names no token that ends a text (eos_token).",
            "name it in its tokenizer_config.json, or name another base.",
        )

    def _loses_system(self) -> bool:
        """Say whether the template refuses a system message, or leaves it out."""
        said = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "?"}]
        try:
            return _SYSTEM not in self._written(said, answers=True)
        except _FAILURES:
            return True


def folded(said: Messages) -> list[Message]:
    """Return the messages without a system role: its text goes before the question that follows it."""
    found: list[Message] = []
    waiting: list[str] = []
    for message in said:
        if message["role"] == "system":
            waiting.append(message["content"])
        elif message["role"] == "user" and waiting:
            found.append({**message, "content": "\n\n".join([*waiting, message["content"]])})
            waiting = []
        else:
            found.append(dict(message))
    return [*found, *({"role": "user", "content": text} for text in waiting)]


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return said[0].rstrip(".")[:200] if said else type(error).__name__
