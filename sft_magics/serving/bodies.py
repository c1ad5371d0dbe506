"""Bodies of requests: of bounded size, depth and time, and JSON of one meaning.

Whatever a client sends ends in a value or in an `HttpProblem`: a status of the 4xx kind and one sentence.
"""

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

WHOLE = "sft.whole"  # in the scope of a request whose body has come: nobody has to be waited for
MAX_BODY = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 400_000  # lists, objects and what is in them: more would hold up everybody else while they are read
_BODY_SECONDS = 30.0
_SEPARATORS = (b",", b"[", b"{")
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_EXAMPLE = 'send for example {"inputs": ["a moving film"]}.'


class HttpProblem(Exception):
    """An answer that is not 200: `status`, one `sentence`, when to come again (seconds), what to type next."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None, next_step: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after
        self.next_step = next_step


async def read(request: "Request") -> bytes:
    """Return the body; raises HttpProblem (408, 413, 415)."""
    if (coding := request.headers.get("content-encoding", "identity").strip().lower()) != "identity":
        raise HttpProblem(415, f"The body comes as {coding[:40]!r}; send it as it is, without Content-Encoding.")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise _too_large()
    if request.scope.get(WHOLE):
        return await _streamed(request)
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await _streamed(request)
    except TimeoutError:
        raise HttpProblem(408, f"The body did not arrive within {_BODY_SECONDS:.0f} seconds.") from None


async def read_object(request: "Request") -> dict[str, Any]:
    """Return the JSON object in the body; raises HttpProblem (400, 408, 413, 415)."""
    return parse_object(await read(request))


def parse_object(body: bytes, example: str = _EXAMPLE) -> dict[str, Any]:
    """Return the JSON object that a body is; raises HttpProblem 400, which ends with the example."""
    value = parse(body, example)
    if not isinstance(value, dict):
        raise HttpProblem(400, f"The body is not a JSON object; {example}")
    return value


def parse(body: bytes, example: str = _EXAMPLE) -> Any:
    """Return the JSON value that a body is; raises HttpProblem (400, 413)."""
    _check_values(body)
    try:
        value = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise HttpProblem(400, f"The body is not JSON; {example}") from None
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, list | dict)]
        if not level:
            return value
    raise _too_deep()


def _check_values(body: bytes) -> None:
    """Count what separates values; what stands in texts is left out, where that makes a difference."""
    if sum(map(body.count, _SEPARATORS)) > MAX_VALUES:
        bare = _TEXT.sub(b"", body)
        if sum(map(bare.count, _SEPARATORS)) > MAX_VALUES:
            raise HttpProblem(413, f"The JSON holds more than {MAX_VALUES:,} values; send less in one request.")


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _too_deep() -> HttpProblem:
    return HttpProblem(400, f"The JSON is nested more than {MAX_DEPTH} deep.")


async def _streamed(request: "Request") -> bytes:
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large() -> HttpProblem:
    return HttpProblem(413, f"The body is larger than {MAX_BODY // 2**20} MB; send less in one request.")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
