"""Instructions and their answers: a table with a prompt and a response, or with the messages of a chat or of both.

A row's text is the prompt, or for a chat all messages but the last as JSON; its label is the last answer. Every answer
of a chat has loss, but those with weight 0 (see `messages`).
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.datasets import columns
from sft_magics.datasets.chats import messages as chats
from sft_magics.datasets.chats.messages import Message, Unreadable
from sft_magics.datasets.tables import cells
from sft_magics.datasets.tables.table import Columns

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded

PROMPTS = ("prompt", "instruction", "question")
RESPONSES = ("response", "completion", "output", "answer")
CHATS = ("messages", "conversations", "conversation")
BELOW = ("input", "context")
SYSTEMS = ("system", "system_prompt")
HISTORIES = ("history",)
WEIGHTS = ("weight", "train")
TOOLS = ("tools", "functions")
_FEW = 20


@dataclass(frozen=True)
class Layout:
    """The columns of a table of dialogues: a chat, or a prompt with its answer, and what stands beside them.

    The texts of `below` follow the prompt after a blank line. `system` is the first message, `history` holds earlier
    turns, and rows whose `weight` is 0 are left out.
    """

    chat: str | None
    prompt: str | None
    answer: str | None
    below: tuple[str, ...]
    system: str | None
    history: str | None
    weight: str | None

    def used(self) -> dict[str, str]:
        """Return role -> name of the column."""
        roles = {
            "messages": self.chat, "prompt": self.prompt, "response": self.answer, "below": " + ".join(self.below),
            "system": self.system, "history": self.history, "weight": self.weight,
        }  # fmt: skip
        return {role: name for role, name in roles.items() if name}


def found_in(table: Columns) -> bool:
    """Say whether a table reads like instructions and answers: by its columns' names, and answers that differ."""
    if any(name in table.values for name in CHATS):
        return True
    answers = _first(table, RESPONSES)
    if answers is None or _first(table, PROMPTS) is None:
        return False
    known = [str(v) for v in table.values[answers] if v is not None]
    return len(set(known)) > min(_FEW, len(known) / 2)


def load(table: Columns, text: str | None, label: str | None, split: str | None) -> "Loaded":
    """Return the rows of a table as dialogues; raises DataProblem when it has no prompt or no answer.

    Chats that call tools or hold pictures, and rows without a prompt or an answer, are left out and counted.
    """
    from sft_magics.datasets.loaded import Loaded

    for flag, given in (("text", text), ("label", label)):
        columns.check_exists(table, flag, given)
    layout = _layout(table, text, label)
    left: Counter[str] = Counter()
    read = [_row(table, layout, i, left) for i in range(len(table))]
    splits, named = _splits(table, split)
    keep = [i for i, said in enumerate(read) if said]
    if not keep:
        why = "; ".join(f"{count:,} {reason}" for reason, count in left.items())
        raise errors.DataProblem(
            f"No row of {table.where} has both a prompt and an answer to learn ({why}).", "look at the file."
        )
    kept = [read[i] for i in keep]
    return Loaded(
        source=table.where,
        texts=[_written(said[:-1]) for said in kept],
        labels=[said[-1]["content"] for said in kept],
        splits=[splits[i] for i in keep],
        columns={**layout.used(), **named},
        findings=(*_left_out(left), *_several(kept), *_tools(table)),
        task=CAUSAL_LM,
        classes=[[] for _ in keep],
    )


def _layout(table: Columns, text: str | None, label: str | None) -> Layout:
    chat = _first(table, CHATS) if text is None and label is None else None
    system, history, weight = (_first(table, names) for names in (SYSTEMS, HISTORIES, WEIGHTS))
    weight = weight if weight and _is_weights(table.values[weight]) else None
    if chat is not None:
        return Layout(chat, None, None, (), system, None, weight)
    prompt, answer = text or _first(table, PROMPTS), label or _first(table, RESPONSES)
    if prompt is None or answer is None:
        lacking, flag = ("prompt", "--text") if prompt is None else ("response", "--label")
        raise errors.DataProblem(
            f"{table.where} has no column '{lacking}' to learn a dialogue from: it has {', '.join(table.values)}.",
            f"name it with {flag} COLUMN.",
        )
    return Layout(None, prompt, answer, _below(table, (prompt, answer)), system, history, weight)


def _below(table: Columns, besides: Sequence[str]) -> tuple[str, ...]:
    known = {name.lower(): name for name in table.values}
    return tuple(known[name] for name in BELOW if name in known and known[name] not in besides)


def _is_weights(values: list[Any]) -> bool:
    """Say whether a column holds nothing but 0 and 1: other weights of rows are not supported, and not read."""
    return {str(v).lower() for v in values if v is not None} <= {"0", "1", "0.0", "1.0", "true", "false"}


def _row(table: Columns, layout: Layout, row: int, left: Counter[str]) -> list[Message]:
    """Return the messages of a row up to its last answer; nothing, and a reason in `left`, where it has none."""
    if layout.weight and str(table.values[layout.weight][row]).lower() in ("0", "0.0", "false"):
        left["rows with weight 0"] += 1
        return []
    try:
        said = chats.up_to_last_answer([*_asked(table, layout, row), *_answer(table, layout, row)])
    except Unreadable as problem:
        left[f"chats that {problem}"] += 1
        return []
    asked = any(m["role"] == "user" and m["content"].strip() for m in said)
    if not asked:
        left["rows without a prompt or an answer"] += 1
    return said if asked else []


def _asked(table: Columns, layout: Layout, row: int) -> list[Message]:
    """Return what is asked in a row, as messages: of a chat all of them."""
    try:
        if layout.chat is not None:
            said = chats.messages_of(table.values[layout.chat][row])
        else:
            said = [*_history(table, layout, row), *_prompt(table, layout, row)]
    except (ValueError, TypeError, KeyError) as error:
        raise errors.DataProblem(
            f"Row {row + 1:,} of {table.where} is no chat ({type(error).__name__}: {error}).",
            'its messages read [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}].',
        ) from error
    system = table.values[layout.system][row] if layout.system else None
    if cells.is_missing(system) or any(m["role"] == "system" for m in said):
        return said
    return [{"role": "system", "content": _string(table, str(layout.system), row)}, *said]


def _history(table: Columns, layout: Layout, row: int) -> list[Message]:
    return chats.history_of(table.values[layout.history][row]) if layout.history else []


def _prompt(table: Columns, layout: Layout, row: int) -> list[Message]:
    assert layout.prompt is not None
    cell = table.values[layout.prompt][row]
    if cells.is_nested(cell):
        return chats.messages_of(cell)
    parts = [_string(table, name, row) for name in (layout.prompt, *layout.below)]
    return [{"role": "user", "content": "\n\n".join(part for part in parts if part.strip())}]


def _answer(table: Columns, layout: Layout, row: int) -> list[Message]:
    """Return the answer of a row with a prompt: a text, or a list of messages that ends with it."""
    if layout.answer is None:
        return []
    cell = table.values[layout.answer][row]
    try:
        if cells.is_nested(cell) and not isinstance(cell, dict) and all(isinstance(m, dict) for m in cell):
            return chats.messages_of(cell)
    except (ValueError, TypeError, KeyError) as error:
        raise errors.DataProblem(
            f"The answer in row {row + 1:,} of {table.where} is no chat ({type(error).__name__}: {error}).",
            "write it as a text, or as a list of messages.",
        ) from error
    text = _string(table, layout.answer, row)
    return [{"role": "assistant", "content": text}] if text.strip() else []


def _string(table: Columns, name: str, row: int) -> str:
    """Return a cell as a text; raises DataProblem for a list or a dict, whose Python form is no text to learn."""
    cell = table.values[name][row]
    if cells.is_nested(cell):
        raise errors.DataProblem(
            f"Row {row + 1:,} of the column '{name}' of {table.where} holds a {type(cell).__name__}, and no text.",
            f"write its text into a column of its own, and name it with --text or --label instead of {name}.",
        )
    return "" if cells.is_missing(cell) else cells.string_of(cell, table.where)


def _left_out(left: Counter[str]) -> list[Finding]:
    codes = {"rows without a prompt or an answer": "missing_labels"}
    return [
        Finding("warning", codes.get(reason, "left_out"), f"{count:,} {reason} were left out.")
        for reason, count in left.items()
    ]


def _several(kept: Sequence[list[Message]]) -> list[Finding]:
    """Say how many answers are learned where that is not one a row."""
    answers = sum(chats.is_learned(m) for said in kept for m in said)
    context = sum(m["role"] == "assistant" for said in kept for m in said) - answers
    if answers == len(kept) and not context:
        return []
    more = f"; {context:,} with weight 0 or without a text are read as context" if context else ""
    return [Finding("info", "answers", f"{answers:,} answers of {len(kept):,} chats are learned{more}.")]


def _tools(table: Columns) -> list[Finding]:
    """Warn of definitions of tools, which no template is given."""
    name = _first(table, TOOLS)
    if name is None or all(cells.is_missing(v) or v in ("[]", "null") for v in table.values[name]):
        return []
    return [Finding("warning", "tools", f"The definitions in the column '{name}' are not shown to the model.")]


def asked_in(table: Columns, text: str | None) -> list[str] | None:
    """Return the prompts of a table, or its chats up to the last answer, which may be missing; None without any.

    `text` names the column of prompts. Raises DataProblem for what is no chat, or calls tools.
    """
    chat = _first(table, CHATS)
    chat = chat if text in (None, chat) else None
    prompt = None if chat is not None else text or _first(table, PROMPTS)
    if chat is None and prompt is None:
        return None
    system, history = _first(table, SYSTEMS), _first(table, HISTORIES)
    below = _below(table, (prompt,)) if prompt is not None else ()
    layout = Layout(chat, prompt, None, below, system, None if chat else history, None)
    return [_written(_before_answer(table, layout, i)) for i in range(len(table))]


def _before_answer(table: Columns, layout: Layout, row: int) -> list[Message]:
    try:
        said = _asked(table, layout, row)
    except Unreadable as problem:
        raise errors.DataProblem(
            f"Row {row + 1:,} of {table.where} is not asked: language models here do not answer chats that {problem}.",
            "leave the row out, or write it as text.",
        ) from problem
    return said[:-1] if said and said[-1]["role"] == "assistant" else said


def messages(text: str) -> list[Message]:
    """Return what comes before the answer, as messages (see `messages`)."""
    if text.startswith('[{"role":'):
        try:
            found: list[Message] = json.loads(text)
            return found
        except ValueError:
            pass  # a prompt that only begins so
    return [{"role": "user", "content": text}]


def shown(text: str) -> str:
    """Return a row's text as a person reads it."""
    said = messages(text)
    return said[0]["content"] if len(said) == 1 else "\n".join(f"{m['role']}: {m['content']}" for m in said)


def _first(table: Columns, names: Sequence[str]) -> str | None:
    known = {name.lower(): name for name in table.values}
    return next((known[name] for name in names if name in known), None)


def _written(said: list[Message]) -> str:
    """Return what comes before an answer as a row's text: a prompt as it is, a chat as JSON."""
    if not said:
        return ""
    plain = len(said) == 1 and said[0]["role"] == "user"
    return str(said[0]["content"]) if plain else json.dumps(said, ensure_ascii=False)


def _splits(table: Columns, split: str | None) -> tuple[list[str | None], dict[str, str]]:
    columns.check_exists(table, "split", None if split == columns.NO_SPLIT else split)
    name = columns.split_column(table, split)
    if name is None:
        return [None] * len(table), {}
    known = [columns.SPLITS.get(str(v).strip().lower()) for v in table.values[name]]
    return known, {"split": name}
