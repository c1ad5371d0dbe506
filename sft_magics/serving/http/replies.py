"""What leaves the endpoint: JSON of one spelling, and the headers that tell which version answered."""

import json
from typing import Any

from starlette.responses import Response

from sft_magics.serving.scheduling.requests import Answer

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_FEW_IDS = 32  # more of them would make a header that clients refuse
_FEW_PLACES = 256


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response; raises ValueError for what is not JSON, such as not-a-number."""
    body = _ENCODER.encode(value).encode()
    return Response(body, status, headers, media_type="application/json")


def timing(answer: Answer) -> dict[str, str]:
    """Return where the milliseconds went, as browsers and proxies read it (Server-Timing, a W3C working draft)."""
    return {"server-timing": ", ".join(f"{name};dur={ms:.3f}" for name, ms in answer.spent.items())}


def told(answer: Answer) -> dict[str, str]:
    """Return headers for protocols that have no room for it in the body: the version, and the ids for feedback.

    `X-Truncated-Tokens: 0=37,5=2` says how many tokens at its end were not read of a text, by the input's place.
    """
    found = {"x-model-version": answer.version, **timing(answer)}
    ids = [row.id or "" for row in answer.rows]
    if len(ids) <= _FEW_IDS and all(i.isascii() and i.isprintable() for i in ids):
        found["x-prediction-ids"] = ",".join(ids)
    unread = [f"{i}={row.truncated_tokens}" for i, row in enumerate(answer.rows) if row.truncated_tokens]
    if unread:
        found["x-truncated-tokens"] = ",".join(unread[:_FEW_PLACES]) + (",..." if len(unread) > _FEW_PLACES else "")
    return found
