"""A client that listens while a text is written: pieces from the compute thread, and an end when the client goes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from sft_magics.core.sampling import Piece
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.serving.http import dispatch
from sft_magics.serving.messages import Question
from sft_magics.serving.problems import HttpProblem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from sft_magics.serving.app import EndpointContext

_READING_SECONDS = 30.0  # that a client may take to read what is written
LONGEST_TEXT = 4096  # tokens; who asks for more gets these, and "length" as the reason of the end


def writes(desk: "EndpointContext") -> None:
    """Raise HttpProblem 404 unless a language model answers here."""
    if (task := desk.ready().task) != CAUSAL_LM:
        raise HttpProblem(404, f"This endpoint serves {task}, which writes no text; questions go to POST /predict.")


class Listener:
    """One text on its way to one client, who is inside until `close`; raises HttpProblem as `Compute.write` does."""

    def __init__(self, desk: "EndpointContext", request: "Request", question: Question, how: Any) -> None:
        self.question = question
        self.version = desk.ready().version
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[Piece | HttpProblem] = asyncio.Queue()
        seconds = dispatch.seconds(request, dispatch.LONGEST_SECONDS)
        self._writing = desk.compute.write(question, how, self._hear, seconds)
        self._watch = asyncio.ensure_future(self._wait_for_leaving(request))
        desk.inside += 1

    def _hear(self, said: Piece | HttpProblem) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop may have ended before the text
            self._loop.call_soon_threadsafe(self._heard.put_nowait, said)

    async def _wait_for_leaving(self, request: "Request") -> None:
        await dispatch.gone(request)
        self._writing.cancelled = True
        self._heard.put_nowait(HttpProblem(499, "The client left before its text was complete."))

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield every piece up to the last; raises HttpProblem."""
        while True:
            said = await self._heard.get()
            if isinstance(said, HttpProblem):
                raise said
            if self._writing.live is not None:
                self.version = self._writing.live.version
            yield said
            if said.ended:
                return

    def close(self) -> None:
        """Want no more of it, once."""
        self._writing.cancelled = True
        self._watch.cancel()
        self._desk.inside -= 1
        self._desk.used()


Sending = Callable[[dict[str, Any] | str], Awaitable[None]]


class EventStream(Response):
    """Server-sent events: `tell(send)` sends the data of each, as JSON or a word; `close` is called when it is over,
    however it ends.
    """

    media_type = "text/event-stream"

    def __init__(
        self, tell: Callable[[Sending], Awaitable[None]], close: Callable[[], None], headers: dict[str, str]
    ) -> None:
        super().__init__(None, 200, {"cache-control": "no-store", **headers})
        del self.headers["content-length"]
        self._tell = tell
        self._close = close

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:  # noqa: ARG002  ASGI's form
        """Send the head, each event as it comes, and the end."""

        async def say(data: dict[str, Any] | str) -> None:
            # In ASCII: clients break lines also at U+0085 and U+2028, which JSON leaves as they are.
            text = data if isinstance(data, str) else json.dumps(data, allow_nan=False)
            body = f"data: {text}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})

        try:
            async with asyncio.timeout(dispatch.LONGEST_SECONDS + _READING_SECONDS):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._tell(say)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._close()
