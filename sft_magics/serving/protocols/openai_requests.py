"""What a request of OpenAI's protocol orders: what is asked, and how tokens are chosen.

What would change an answer and is not known here is refused, so that nobody takes silence for obedience.
"""

from dataclasses import dataclass
from typing import Any

from sft_magics.core.sampling import Sampling
from sft_magics.serving.http import parsing
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols.listening import LONGEST_TEXT

USUAL_LENGTH = 512
_MOST_STOPS = 16
_LONGEST_STOP = 200
# Values that ask for nothing are let through: clients send them because they have them.
_UNKNOWN = (
    "tools", "tool_choice", "functions", "function_call", "logit_bias", "logprobs", "top_logprobs", "presence_penalty",
    "frequency_penalty", "audio", "prediction", "suffix", "echo", "web_search_options",
)  # fmt: skip
_NOTHING: tuple[Any, ...] = (None, False, 0, [], {}, "", "none", "auto")


@dataclass(frozen=True)
class Order:
    """A request that was read; `asked` is a text or a list of messages that `where` names in sentences."""

    model: str
    asked: Any
    where: str
    sampling: Sampling
    stream: bool
    usage: bool


def chat_order(body: dict[str, Any]) -> Order:
    """Read a chat; raises HttpProblem 400."""
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise HttpProblem(400, '"messages" shall be a list such as [{"role": "user", "content": "..."}].')
    limit = body.get("max_completion_tokens")
    messages = [_message(m, i) for i, m in enumerate(given[: parsing.MAX_MESSAGES + 1])]
    return _order(body, messages, "messages", body.get("max_tokens") if limit is None else limit)


def prompt_order(body: dict[str, Any]) -> Order:
    """Read a prompt; raises HttpProblem 400."""
    given = body.get("prompt")
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str):
        raise HttpProblem(400, f'"prompt" is {parsing.kind(given)}; it shall be one text.')
    return _order(body, given, "prompt", body.get("max_tokens"))


def _order(body: dict[str, Any], asked: Any, where: str, limit: Any) -> Order:
    for name in _UNKNOWN:
        if body.get(name) not in _NOTHING:
            raise HttpProblem(400, f'"{name}" is not known here; leave it out.')
    form = body.get("response_format")
    if form not in _NOTHING and form != {"type": "text"}:
        raise HttpProblem(400, '"response_format" is not known here but for {"type": "text"}; leave it out.')
    if any(body.get(name) not in (None, 1) for name in ("n", "best_of")):
        raise HttpProblem(400, '"n" shall be 1: one request gets one answer.')
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise HttpProblem(400, f'"stream_options" is {parsing.kind(options)}; it shall be an object.')
    model = parsing.text(body.get("model"), "model", parsing.MAX_ID)
    usage = flag(options or {}, "include_usage")
    return Order(model, asked, where, sampling({**body, "max_tokens": limit}), flag(body, "stream"), usage)


def sampling(given: dict[str, Any]) -> Sampling:
    """Read max_tokens, temperature, top_p, stop and seed; raises HttpProblem 400."""
    limit = number(given, "max_tokens", 1, 2**31, USUAL_LENGTH, whole=True)
    seed = number(given, "seed", -(2**63), 2**63 - 1, None, whole=True)
    return Sampling(
        max_new_tokens=min(int(limit or 1), LONGEST_TEXT),
        temperature=float(number(given, "temperature", 0, 100, 0.0) or 0.0),
        top_p=float(number(given, "top_p", 0, 1, 1.0) or 0.0),
        stop=_stops(given.get("stop")),
        seed=None if seed is None else int(seed),
        exact=given.get("max_tokens") is not None and int(limit or 1) <= LONGEST_TEXT,
    )


def number(
    given: dict[str, Any], name: str, least: float, most: float, usual: float | None, *, whole: bool = False
) -> float | None:
    """Return a number between two bounds, or what is usual where none is given; raises HttpProblem 400."""
    value = given.get(name)
    if value is None:
        return usual
    fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    if not fits or (whole and not isinstance(value, int)):
        raise HttpProblem(400, f'"{name}" shall be a {"whole " if whole else ""}number from {least:,} to {most:,}.')
    return float(value) if not whole else int(value)


def flag(given: dict[str, Any], name: str) -> bool:
    """Return a value that is true, false or missing; raises HttpProblem 400."""
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise HttpProblem(400, f'"{name}" is {parsing.kind(value)}; it shall be true or false.')
    return bool(value)


def _stops(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or len(found) > _MOST_STOPS:
        raise HttpProblem(400, f'"stop" shall be a text, or a list of {_MOST_STOPS} texts at most.')
    texts = [parsing.text(value, f"stop[{i}]", _LONGEST_STOP) for i, value in enumerate(found)]
    return tuple(text for text in texts if text)


def _message(given: Any, index: int) -> Any:
    """Return a message in which the content is one text; whatever else is wrong with it, its reader says."""
    if not isinstance(given, dict):
        return given
    if given.get("tool_calls") or given.get("function_call"):
        raise HttpProblem(400, f"messages[{index}] calls a tool, which is not known here.")
    role, content = given.get("role"), given.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, f"messages[{index}].content[{i}]") for i, part in enumerate(content))
    # A chat template knows the older name of the same role.
    return {**given, "role": "system" if role == "developer" else role, "content": content}


def _part(given: Any, where: str) -> str:
    if not isinstance(given, dict) or given.get("type") != "text":
        raise HttpProblem(
            400, f'{where} shall be a part such as {{"type": "text", "text": "..."}}: texts are read here.'
        )
    return parsing.text(given.get("text"), where, parsing.MAX_TEXT)
