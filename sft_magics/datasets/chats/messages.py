"""Chats as data sets write them, read as messages: OpenAI's, ShareGPT's, TRL's and LLaMA-Factory's forms.

A message is a dict with `role` ("system", "user" or "assistant") and `content`. An assistant's message with `weight` 0
is context: the model reads it and has no loss on it. All other answers of a chat are learned.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Message = dict[str, Any]

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
    "ai": "assistant",
}  # fmt: skip
_TOOLS = ("tool", "function", "function_call", "observation", "ipython", "tool_response", "tool_call")


class Unreadable(Exception):
    """A chat that holds what no text model learns from: calls of tools, pictures, sound. Its text says what."""


def messages_of(cell: Any) -> list[Message]:
    """Return the messages of a cell: a list of messages, or JSON of one; nothing for a missing cell.

    Raises Unreadable for calls of tools and for pictures, ValueError, TypeError or KeyError for what is no chat.
    """
    found = json.loads(cell) if isinstance(cell, str) else cell
    if isinstance(found, Mapping) and "messages" in found:
        found = found["messages"]
    return [_message(m) for m in _listed(found)]


def _listed(found: Any) -> list[Any]:
    if found is None:
        return []
    if isinstance(found, str | Mapping):
        raise TypeError(f"a {type(found).__name__} where a list of messages belongs")
    return list(found)


def _message(found: Any) -> Message:
    if not isinstance(found, Mapping):
        raise TypeError(f"a message is a {type(found).__name__}, not an object")
    said = str(found["role"] if "role" in found else found["from"]).strip().lower()
    if said in _TOOLS or any(_filled(found.get(name)) for name in ("tool_calls", "function_call")):
        raise Unreadable("call tools")
    role = _ROLES.get(said)
    if role is None:
        raise ValueError(f"the role '{said}' is none of system, user and assistant")
    content = text_of(found["content"] if "content" in found else found["value"])
    if role == "assistant" and (not _learned(found) or not content.strip()):
        return {"role": role, "content": content, "weight": 0}
    return {"role": role, "content": content}


def _filled(value: Any) -> bool:
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)


def _learned(found: Mapping[str, Any]) -> bool:
    """Say whether an answer has loss: `weight` as OpenAI writes it, `train` as Axolotl does."""
    weight, train = found.get("weight"), found.get("train")
    return (weight is None or float(weight) != 0) and train not in (False, 0)


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, nothing for null, parts of text joined.

    Raises Unreadable for parts that are no text, TypeError for any other kind of value.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping | bool):
        raise TypeError(f"a content is a {type(content).__name__}, not text")
    return str(content) if isinstance(content, int | float) else "".join(map(_part, content))


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise TypeError(f"a part of a content is a {type(part).__name__}, not an object")
    kind = str(part.get("type", "text"))
    if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
        raise Unreadable("hold pictures or sound" if kind != "text" else "hold parts without a text")
    return str(part["text"])


def history_of(cell: Any) -> list[Message]:
    """Return earlier turns as messages: a list of (question, answer) pairs, or of messages.

    Raises as `messages_of` does.
    """
    found = json.loads(cell) if isinstance(cell, str) and cell.strip() else (None if isinstance(cell, str) else cell)
    turns: list[Message] = []
    for turn in _listed(found):
        if isinstance(turn, Mapping):
            turns.append(_message(turn))
            continue
        question, answer = turn
        turns.append(_message({"role": "user", "content": question}))
        turns.append(_message({"role": "assistant", "content": answer}))
    return turns


def up_to_last_answer(said: Iterable[Message]) -> list[Message]:
    """Return the messages up to the last answer that is learned; nothing where none is."""
    kept = list(said)
    while kept and not is_learned(kept[-1]):
        kept.pop()
    return kept


def is_learned(message: Message) -> bool:
    """Say whether a message is an answer with loss."""
    return message["role"] == "assistant" and message.get("weight") != 0
