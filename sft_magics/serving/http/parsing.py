"""What may be asked: texts, pictures and chats, the labels that come as feedback, orders to load a version.

Whatever a client sends ends in a value or in an `HttpProblem`: a status of the 4xx kind and one sentence.
"""

import json
import secrets
from dataclasses import fields, replace
from typing import Any

from sft_magics.core.runtime import exports
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS
from sft_magics.serving.http import image_headers
from sft_magics.serving.messages import Item, Question, SwapOrder
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.scheduling.trial_rules import Rules

MAX_INPUTS = 1024
MAX_TEXT = 100_000
MAX_COST = 32_000_000  # of one request, in characters or bytes
MAX_ID = 200
MAX_LABELS = 100_000
MAX_MESSAGES = 1_000
MAX_TOKENS = 4_096
_PIXELS = 8  # a byte of a file that is packed as photographs are
_ROLES = ("system", "user", "assistant", "tool", "developer")


def question(body: dict[str, Any], task: str) -> Question:
    """Read {"inputs": one or a list, "ids": id or [ids]}; ids are made where none are given; raises HttpProblem.

    An input is a text; of images the file in base 64, bare or as a data: address; of language models a text or a list
    of messages, and "max_new_tokens" may say how long an answer becomes.
    """
    if "inputs" not in body:
        raise HttpProblem(400, f'The key "inputs" is missing; {_example(task)}')
    given, ids = body["inputs"], body.get("ids")
    if isinstance(given, str) or _is_chat(given):
        given = [given]
        ids = [ids] if isinstance(ids, str) else ids
    if not isinstance(given, list):
        raise HttpProblem(400, f'"inputs" is {kind(given)}; {_example(task)}')
    if not given:
        raise HttpProblem(400, '"inputs" is empty; it shall hold at least one.')
    found = asked(items(given, task), None if ids is None else _ids(ids, len(given)))
    return replace(found, tokens=_tokens(body)) if task == CAUSAL_LM else found


def _tokens(body: dict[str, Any]) -> int:
    given = body.get("max_new_tokens", 0)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= MAX_TOKENS:
        raise HttpProblem(400, f'"max_new_tokens" shall be a whole number up to {MAX_TOKENS:,}.')
    return given


def asked(found: list[Item], ids: list[str] | None = None, *, sure: bool = False) -> Question:
    """Return a question; ids are made where none are given."""
    return Question(found, ids or [secrets.token_hex(8) for _ in found], sure or ids is not None)


def quiet(question: Question, *, tokens: int = 0) -> Question:
    """Return a question of the endpoint's own, which is not logged; a text has so many `tokens` at most, 0 as usual."""
    return replace(question, unlogged=True, tokens=tokens)


def items(given: list[Any], task: str, where: str = "inputs") -> list[Item]:
    """Read what a list of inputs asks a model of this task; raises HttpProblem."""
    if len(given) > MAX_INPUTS:
        raise HttpProblem(413, f'"{where}" holds {len(given):,} inputs; send {MAX_INPUTS:,} at most in one request.')
    found = [item(value, task, f"{where}[{i}]") for i, value in enumerate(given)]
    if sum(one.cost for one in found) > MAX_COST:
        raise HttpProblem(413, f'"{where}" holds too much to read at once; send less in one request.')
    return found


def item(value: Any, task: str, where: str = "the input") -> Item:
    """Read one input; raises HttpProblem."""
    if task in IMAGE_TASKS:
        return picture(value if isinstance(value, bytes) else image_headers.decoded(value, where), where)
    if task == CAUSAL_LM and isinstance(value, list):
        value = json.dumps(chat(value, where), ensure_ascii=False)
        return Item(value, value, len(value))
    found = text(value, where, MAX_TEXT)
    return Item(found, found, len(found))


def picture(data: bytes, where: str = "the image") -> Item:
    """Read the bytes of an image's file; raises HttpProblem."""
    name, pixels = image_headers.described(data, where)
    return Item(data, name, max(len(data), pixels // _PIXELS))


def chat(given: list[Any], where: str = "messages") -> list[dict[str, str]]:
    """Read messages with a role and a content; raises HttpProblem."""
    if not given or len(given) > MAX_MESSAGES:
        raise HttpProblem(400, f"{where} holds {len(given):,} messages; from 1 to {MAX_MESSAGES:,} are allowed.")
    found = []
    for i, message in enumerate(given):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise HttpProblem(400, f'{where}[{i}] shall be a message such as {{"role": "user", "content": "..."}}.')
        found.append({"role": str(message["role"]), "content": text(message.get("content"), f"{where}[{i}]", MAX_TEXT)})
    return found


def _is_chat(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(isinstance(m, dict) and "role" in m for m in given)


def _example(task: str) -> str:
    if task in IMAGE_TASKS:
        return 'send for example {"inputs": ["<an image file in base 64>"]}, or the file itself as the body.'
    if task == CAUSAL_LM:
        return 'send for example {"inputs": ["Why is the sky blue?"]}.'
    return 'send for example {"inputs": ["a text"]}; it shall be a text or a list of texts.'


def _ids(given: Any, count: int) -> list[str]:
    if not isinstance(given, list):
        raise HttpProblem(400, f'"ids" is {kind(given)}; it shall be a list with one id an input.')
    if len(given) != count:
        raise HttpProblem(400, f'"ids" holds {len(given):,} ids for {count:,} inputs; give one an input, or none.')
    found = [_name(value, f"ids[{i}]") for i, value in enumerate(given)]
    if len(set(found)) < count:
        raise HttpProblem(400, '"ids" holds the same id twice; each answer needs its own.')
    return found


def labels(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Read {"labels": [{"id": ..., "label": ...}, ...]} as (id, label) pairs; raises HttpProblem."""
    given = body.get("labels")
    if not isinstance(given, list) or not given:
        raise HttpProblem(400, '"labels" shall be a list such as [{"id": "4f1c", "label": "positive"}].')
    if len(given) > MAX_LABELS:
        raise HttpProblem(413, f'"labels" holds {len(given):,} labels; send {MAX_LABELS:,} at most in one request.')
    return [_pair(value, i) for i, value in enumerate(given)]


def _pair(value: Any, index: int) -> tuple[str, str]:
    if not isinstance(value, dict) or "id" not in value or "label" not in value:
        raise HttpProblem(400, f'labels[{index}] shall be an object with the keys "id" and "label".')
    return _name(value["id"], f"labels[{index}].id"), _name(_spelled(value["label"]), f"labels[{index}].label")


def _spelled(label: Any) -> Any:
    """Return a whole number as labels spell it, anything else as it is."""
    whole = isinstance(label, int | float) and not isinstance(label, bool) and label == label // 1
    return f"{label:.0f}" if whole else label


def swap_order(body: dict[str, Any]) -> SwapOrder:
    """Read {"version", "folder", "ref", "labels", "engine", "others": [[engine, folder]]}; raises HttpProblem."""
    engine, folder = _engine([body.get("engine", exports.TORCH), body.get("folder")])
    version = _name(body.get("version"), "version")
    given = body.get("labels") or []
    if not isinstance(given, list):
        raise HttpProblem(400, f'"labels" is {kind(given)}; it shall be a list of texts.')
    names = tuple(_name(value, f"labels[{i}]") for i, value in enumerate(given))
    examples = text(body.get("examples", ""), "examples", 4096)
    rest = body.get("others") or []
    if not isinstance(rest, list):
        raise HttpProblem(400, f'"others" is {kind(rest)}; it shall be a list of engines, each with its folder.')
    others, why = tuple(_engine(one) for one in rest), text(body.get("why", ""), "why", MAX_TEXT)
    return SwapOrder(version, _name(body.get("ref", version), "ref"), folder, names, examples, engine, others, why)


def _engine(given: Any) -> tuple[str, str]:
    """Read an engine and the folder that it reads; raises HttpProblem."""
    if not isinstance(given, list) or len(given) != 2:
        raise HttpProblem(400, "An engine comes with its folder, as a list of the two.")
    engine, folder = text(given[0], "engine", MAX_ID), text(given[1], "folder", 4096)
    if engine not in (*exports.ENGINES, *exports.PRECISIONS):
        raise HttpProblem(400, f'"engine" shall be one of {", ".join(exports.ENGINES)}.')
    if not folder.startswith("/") or "\0" in folder:
        raise HttpProblem(400, '"folder" shall be the absolute path of a version\'s folder.')
    return engine, folder


def trial(body: dict[str, Any]) -> tuple[float, Rules]:
    """Read {"share", "rules": {"errors", "slower", "agreement", "least"}}; raises HttpProblem."""
    share, given = body.get("share"), body.get("rules") or {}
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise HttpProblem(400, '"share" shall be a number from 0, for a shadow, to less than 1.')
    names = [f.name for f in fields(Rules)]
    known = isinstance(given, dict) and all(isinstance(v, int | float) and 0 <= v < 1e9 for v in given.values())
    if not known or not set(given) <= set(names):
        raise HttpProblem(400, f'"rules" shall be an object with numbers for some of {", ".join(names)}.')
    return float(share), Rules(**given)


def _name(value: Any, where: str) -> str:
    found = text(value, where, MAX_ID)
    if not found:
        raise HttpProblem(400, f"{where} is empty.")
    return found


def text(value: Any, where: str, longest: int) -> str:
    """Return a value that shall be a text of so many characters at most; raises HttpProblem 400."""
    if not isinstance(value, str):
        raise HttpProblem(400, f"{where} is {kind(value)}; it shall be a text.")
    if len(value) > longest:
        raise HttpProblem(400, f"{where} is {len(value):,} characters long; {longest:,} are allowed.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise HttpProblem(400, f"{where} holds half of a surrogate pair, which is not text.") from None
    return value


def kind(value: Any) -> str:
    """Return what JSON calls a value, for a message."""
    names = {str: "a text", dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
