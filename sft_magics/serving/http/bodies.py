"""Bodies of requests: of bounded size, depth and time, and JSON of one meaning.

Whatever a client sends ends in a value or in an `HttpProblem`: a status of the 4xx kind and one sentence.
"""

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from sft_magics.serving.http import decompression
from sft_magics.serving.problems import HttpProblem

if TYPE_CHECKING:
    from starlette.requests import Request

WHOLE = "sft.whole"  # in the scope of a request whose body has come: nobody has to be waited for
MAX_BODY = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 400_000  # lists, objects and what is in them: more would hold up everybody else while they are read
_BODY_SECONDS = 30.0
_SMALL = 1024  # bytes of a compressed body that is unpacked at once: of zeros it is a thousand times as long
_SEPARATORS = (b",", b"[", b"{")
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_EXAMPLE = 'send for example {"inputs": ["a text"]}.'


async def read(request: "Request") -> bytes:
    """Return the body, unpacked where it came compressed; raises HttpProblem (400, 408, 413, 415, 501)."""
    if request.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        raise HttpProblem(501, "The one Transfer-Encoding here is chunked; compressed bodies have a Content-Encoding.")
    how = decompression.coding(",".join(request.headers.getlist("content-encoding")))
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise _too_large()
    body = await _whole(request)
    if not how:
        return body
    if len(body) < _SMALL:
        return decompression.inflated(body, how, MAX_BODY)
    return await asyncio.to_thread(decompression.inflated, body, how, MAX_BODY)


async def _whole(request: "Request") -> bytes:
    if request.scope.get(WHOLE):
        return await _streamed(request)
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await _streamed(request)
    except TimeoutError:
        raise HttpProblem(408, f"The body did not arrive within {_BODY_SECONDS:.0f} seconds.") from None


async def read_object(request: "Request") -> dict[str, Any]:
    """Return the JSON object in the body; raises HttpProblem as `read` does."""
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
