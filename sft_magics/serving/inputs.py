"""What may come in: bodies of bounded size, and the questions, labels and orders read from them.

Whatever a client sends ends in a value or in an `HttpProblem`: a status of the 4xx kind and one sentence.
"""

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY = 16 * 1024 * 1024
MAX_INPUTS = 1024
MAX_TEXT = 100_000
MAX_ID = 200
MAX_LABELS = 100_000
_BODY_SECONDS = 30.0


class HttpProblem(Exception):
    """An answer that is not 200: `status`, one `sentence`, when to come again (seconds), what to type next."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None, next_step: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after
        self.next_step = next_step


@dataclass(frozen=True)
class Question:
    """Texts to answer, and the ids under which the answers are logged."""

    texts: list[str]
    ids: list[str]


@dataclass(frozen=True)
class SwapOrder:
    """The version to serve from now on; empty `labels` take whatever the version brings."""

    version: str
    ref: str
    folder: str
    labels: tuple[str, ...]


async def read_object(request: "Request") -> dict[str, Any]:
    """Return the JSON object in the body; raises HttpProblem (400, 408, 413)."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise _too_large()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = await _read_body(request)
    except TimeoutError:
        raise HttpProblem(408, f"The body did not arrive within {_BODY_SECONDS:.0f} seconds.") from None
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise HttpProblem(400, 'The body is not JSON; send for example {"inputs": ["a moving film"]}.') from None
    if not isinstance(value, dict):
        raise HttpProblem(400, 'The body is not a JSON object; send for example {"inputs": ["a moving film"]}.')
    return value


async def _read_body(request: "Request") -> bytes:
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large() -> HttpProblem:
    return HttpProblem(413, f"The body is larger than {MAX_BODY // 2**20} MB; send fewer texts a request.")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def question(body: dict[str, Any]) -> Question:
    """Read {"inputs": text or [texts], "ids": id or [ids]}; ids are made where none are given; raises HttpProblem."""
    if "inputs" not in body:
        raise HttpProblem(400, 'The key "inputs" is missing; send for example {"inputs": ["a moving film"]}.')
    given, ids = body["inputs"], body.get("ids")
    if isinstance(given, str):
        given = [given]
        ids = [ids] if isinstance(ids, str) else ids
    if not isinstance(given, list):
        raise HttpProblem(400, f'"inputs" is {_kind(given)}; it shall be a text or a list of texts.')
    if not given:
        raise HttpProblem(400, '"inputs" is empty; it shall hold at least one text.')
    if len(given) > MAX_INPUTS:
        raise HttpProblem(413, f'"inputs" holds {len(given):,} texts; send {MAX_INPUTS:,} at most in one request.')
    texts = [_text(value, f"inputs[{i}]", MAX_TEXT) for i, value in enumerate(given)]
    if ids is None:
        return Question(texts, [secrets.token_hex(8) for _ in texts])
    return Question(texts, _ids(ids, len(texts)))


def _ids(given: Any, count: int) -> list[str]:
    if not isinstance(given, list):
        raise HttpProblem(400, f'"ids" is {_kind(given)}; it shall be a list with one id a text.')
    if len(given) != count:
        raise HttpProblem(400, f'"ids" holds {len(given):,} ids for {count:,} texts; give one a text, or none.')
    ids = [_name(value, f"ids[{i}]") for i, value in enumerate(given)]
    if len(set(ids)) < count:
        raise HttpProblem(400, '"ids" holds the same id twice; each answer needs its own.')
    return ids


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
    return _name(value["id"], f"labels[{index}].id"), _name(value["label"], f"labels[{index}].label")


def swap_order(body: dict[str, Any]) -> SwapOrder:
    """Read {"version", "folder", "ref", "labels"}; raises HttpProblem."""
    folder = _text(body.get("folder"), "folder", 4096)
    if not folder.startswith("/") or "\0" in folder:
        raise HttpProblem(400, '"folder" shall be the absolute path of a version\'s folder.')
    version = _name(body.get("version"), "version")
    given = body.get("labels") or []
    if not isinstance(given, list):
        raise HttpProblem(400, f'"labels" is {_kind(given)}; it shall be a list of texts.')
    names = tuple(_name(value, f"labels[{i}]") for i, value in enumerate(given))
    return SwapOrder(version, _name(body.get("ref", version), "ref"), folder, names)


def _name(value: Any, where: str) -> str:
    text = _text(value, where, MAX_ID)
    if not text:
        raise HttpProblem(400, f"{where} is empty.")
    return text


def _text(value: Any, where: str, longest: int) -> str:
    if not isinstance(value, str):
        raise HttpProblem(400, f"{where} is {_kind(value)}; it shall be a text.")
    if len(value) > longest:
        raise HttpProblem(400, f"{where} is {len(value):,} characters long; {longest:,} are allowed.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise HttpProblem(400, f"{where} holds half of a surrogate pair, which is not text.") from None
    return value


def _kind(value: Any) -> str:
    names = {str: "a text", dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
