"""What every way of asking shares, whatever protocol it speaks: being inside, waiting, and leaving early."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sft_magics.core.records import Prediction
from sft_magics.serving.messages import Question
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.scheduling.model_thread import SECONDS
from sft_magics.serving.scheduling.requests import Answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext

PROOF = "x-sft-proof"
_QUICK_SECONDS = 0.05  # only who waits longer is looked after whether it is still there
LONGEST_SECONDS = 600.0


@contextlib.asynccontextmanager
async def inside(desk: "EndpointContext", request: "Request | None" = None) -> AsyncIterator[None]:
    """Count a request as one that a drain waits for; raises HttpProblem 503 where none is taken."""
    if request is None or not proves(desk, request):
        desk.ready()
    desk.inside += 1
    try:
        yield
    finally:
        desk.inside -= 1
        desk.used()


async def ask(desk: "EndpointContext", request: "Request", question: Question) -> Answer:
    """Return the answer; a client that has gone, or whose time is over, costs no compute.

    `X-Timeout-Ms` says how long an answer is wanted, `X-Sync-Log: 1` that it shall be in the log before it is sent.
    Raises HttpProblem (400, 409, 429, 499, 500, 503, 504).
    """
    if proves(desk, request):
        question = replace(question, unlogged=True)
    else:
        desk.ready()  # the body may have taken its time
    if request.headers.get("x-sync-log") == "1":
        question = replace(question, sure=True)
    waiting = desk.compute.ask(question, seconds(request))
    watch: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later(_QUICK_SECONDS, lambda: watch.append(loop.create_task(_leave(request, waiting))))
    try:
        return await waiting
    finally:
        later.cancel()
        for task in watch:
            task.cancel()


async def _leave(request: "Request", waiting: "asyncio.Future[Answer]") -> None:
    """Want no answer any more once the client has gone."""
    await gone(request)
    if not waiting.done():
        waiting.set_exception(HttpProblem(499, "The client left before its answer."))


def proves(desk: "EndpointContext", request: "Request") -> bool:
    """Say whether it is the endpoint itself that asks, before it is ready for others."""
    given = request.headers.get(PROOF, "")
    return bool(desk.proof) and hmac.compare_digest(given.encode(), desk.proof.encode())


def seconds(request: "Request", usual: float = SECONDS) -> float:
    """Return how long a request may take, `usual` if it does not say; raises HttpProblem 400."""
    given = request.headers.get("x-timeout-ms")
    if given is None:
        return usual
    if not given.isascii() or not given.isdecimal() or not 0 < int(given) <= LONGEST_SECONDS * 1e3:
        raise HttpProblem(400, f"X-Timeout-Ms shall be a number from 1 to {LONGEST_SECONDS * 1e3:.0f}.")
    return int(given) / 1e3


async def gone(request: "Request") -> None:
    """Wait until the client has gone, or has its answer; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def is_json(request: "Request") -> bool:
    """Say whether a body is JSON, or else a file; raises HttpProblem 415 for anything else."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == "application/json":
        return True
    if kind == "application/octet-stream" or kind.startswith("image/"):
        return False
    raise HttpProblem(415, f"A body is application/json or an image's file, not {kind[:80]}.")


def shown(row: Prediction) -> dict[str, Any]:
    """Return an answer as plain JSON: boxes and a mask only where there are such."""
    found: dict[str, Any] = {"id": row.id, "label": row.label, "confidence": row.confidence, "scores": row.scores}
    if row.boxes:
        found["boxes"] = list(row.boxes)
    if row.mask:
        found["mask"] = row.mask
    if row.truncated_tokens:
        found["truncated_tokens"] = row.truncated_tokens
    return found
