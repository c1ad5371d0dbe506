"""Instructions and their answers: a table with a prompt and a response, or with the messages of a chat or of both.

A row's text is the prompt, or for a chat all messages but the last as JSON; its label is the answer to learn.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.datasets import columns
from sft_magics.datasets.files import Columns

if TYPE_CHECKING:
    from sft_magics.datasets.sources import Loaded

PROMPTS = ("prompt", "instruction", "question")
RESPONSES = ("response", "completion", "output", "answer")
CHATS = ("messages", "conversations", "conversation")
_FEW = 20
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}


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
    """Return the rows of a table as dialogues; raises DataProblem when it has no prompt or no answer."""
    from sft_magics.datasets.sources import Loaded

    for flag, given in (("text", text), ("label", label)):
        columns.check_exists(table, flag, given)
    chats = _first(table, CHATS)
    if chats is not None and text is None and label is None:
        rows = [_of_chat(cell, i, table.where) for i, cell in enumerate(table.values[chats])]
        used = {"messages": chats}
    else:
        prompt, answer = text or _first(table, PROMPTS), label or _first(table, RESPONSES)
        if prompt is None or answer is None:
            lacking, flag = ("prompt", "--text") if prompt is None else ("response", "--label")
            raise errors.DataProblem(
                f"{table.where} has no column '{lacking}' to learn a dialogue from: it has {', '.join(table.values)}.",
                f"name it with {flag} COLUMN.",
            )
        pairs = zip(_prompts(table, prompt), table.values[answer], strict=True)
        rows = [
            _of_chat([*a, *(b if isinstance(b, list) else ())], i, table.where)
            if isinstance(a, list)
            else _of_pair(a, b)
            for i, (a, b) in enumerate(pairs)
        ]
        used = {"prompt": prompt, "response": answer}
    splits, named = _splits(table, split)
    keep = [i for i, row in enumerate(rows) if row is not None]
    if not keep:
        raise errors.DataProblem(f"No row of {table.where} has both a prompt and an answer.", "look at the file.")
    left = len(rows) - len(keep)
    gone = f"{left:,} rows without a prompt or an answer were left out."
    return Loaded(
        source=table.where,
        texts=[row[0] for row in rows if row is not None],
        labels=[row[1] for row in rows if row is not None],
        splits=[splits[i] for i in keep],
        columns={**used, **named},
        findings=(Finding("warning", "missing_labels", gone),) if left else (),
        task=CAUSAL_LM,
        classes=[[] for _ in keep],
    )


def asked_in(table: Columns, text: str | None) -> list[str] | None:
    """Return the prompts of a table, or its chats up to the last answer, which may be missing; None without any.

    `text` names the column of prompts. Raises DataProblem for what is no chat.
    """
    chats = _first(table, CHATS)
    if chats is not None and text in (None, chats):
        return [_before_answer(cell, i, table.where) for i, cell in enumerate(table.values[chats])]
    prompt = text or _first(table, PROMPTS)
    return None if prompt is None else ["" if v is None else str(v) for v in _prompts(table, prompt)]


def _before_answer(cell: Any, row: int, where: str) -> str:
    said = _said(cell, row, where)
    if said and said[-1]["role"] == "assistant":
        said.pop()
    return _written(said)


def messages(text: str) -> list[dict[str, str]]:
    """Return what comes before the answer, as messages."""
    if text.startswith('[{"role":'):
        try:
            found: list[dict[str, str]] = json.loads(text)
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


def _prompts(table: Columns, prompt: str) -> list[Any]:
    """Return the prompts; an instruction with an `input` beside it has that below it."""
    cells, more = table.values[prompt], table.values.get("input")
    if prompt.lower() != "instruction" or more is None:
        return cells
    return [f"{a}\n\n{b}" if a and b else a for a, b in zip(cells, more, strict=True)]


def _of_pair(prompt: Any, answer: Any) -> tuple[str, str] | None:
    texts = [v if isinstance(v, str) else "" if v is None else str(v) for v in (prompt, answer)]
    return (texts[0], texts[1]) if all(t.strip() for t in texts) else None


def _of_chat(cell: Any, row: int, where: str) -> tuple[str, str] | None:
    """Return the messages before the last answer, and that answer; raises DataProblem for what is no chat."""
    said = _said(cell, row, where)
    while said and said[-1]["role"] != "assistant":
        said.pop()
    if len(said) < 2 or not said[-1]["content"].strip():
        return None
    return _written(said[:-1]), said[-1]["content"]


def _said(cell: Any, row: int, where: str) -> list[dict[str, str]]:
    """Return the messages of a cell; raises DataProblem for what is no chat."""
    try:
        found = json.loads(cell) if isinstance(cell, str) else cell
        return [_message(m) for m in list(found if found is not None else [])]
    except (ValueError, TypeError, KeyError) as error:
        raise errors.DataProblem(
            f"Row {row + 1:,} of {where} is no chat ({type(error).__name__}: {error}).",
            'its messages read [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}].',
        ) from error


def _written(said: list[dict[str, str]]) -> str:
    """Return what comes before an answer as a row's text: a prompt as it is, a chat as JSON."""
    if not said:
        return ""
    plain = len(said) == 1 and said[0]["role"] == "user"
    return said[0]["content"] if plain else json.dumps(said, ensure_ascii=False)


def _message(found: Mapping[str, Any]) -> dict[str, str]:
    role = str(found["role"] if "role" in found else found["from"])
    return {"role": _ROLES.get(role, role), "content": str(found["content"] if "content" in found else found["value"])}


def _splits(table: Columns, split: str | None) -> tuple[list[str | None], dict[str, str]]:
    size = len(table)
    columns.check_exists(table, "split", None if split == "none" else split)
    name = None if split == "none" else split or ("split" if "split" in table.values else None)
    if name is None:
        return [None] * size, {}
    known = [columns.SPLITS.get(str(v).strip().lower()) for v in table.values[name]]
    return known, {"split": name}
