"""Whether an endpoint would answer if it were asked now: its log takes a row, and its model an input.

Both are looked at only where nothing has shown it lately, so that a monitor that asks all the time costs little.
"""

import asyncio
import time
from typing import TYPE_CHECKING

from sft_magics.core import errors
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.serving.http import parsing
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.scheduling import loading

if TYPE_CHECKING:
    from sft_magics.serving.app import EndpointContext
    from sft_magics.serving.scheduling.loading import LoadedVersion

_LOG_SECONDS = 1.0  # that a look at the log holds
_MODEL_SECONDS = 20.0  # that an answer shows that the model answers
_PATIENCE = 10.0  # seconds for a look
_BUSY = 429
_COME_AGAIN = 5


class Readiness:
    """Looks at an endpoint's log and model, and remembers for a moment that they were well."""

    def __init__(self) -> None:
        self._written_at = self._answered_at = -_MODEL_SECONDS
        self._answered = 0
        self._looking = asyncio.Lock()

    async def check(self, desk: "EndpointContext") -> "LoadedVersion":
        """Return the version that answers; raises HttpProblem 503 that says why none would."""
        live = desk.ready()
        async with self._looking:
            await self._look_at_log(desk)
            await self._look_at_model(desk, live)
        return desk.ready()

    async def _look_at_log(self, desk: "EndpointContext") -> None:
        if desk.scribe.trouble is None and time.monotonic() - self._written_at < _LOG_SECONDS:
            return
        if desk.scribe.full:
            raise HttpProblem(503, "The prediction log cannot keep up.", _COME_AGAIN)
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.to_thread(desk.scribe.log.check_writable)
        except errors.SftError as error:
            raise HttpProblem(503, error.what, _COME_AGAIN, error.next_step) from error
        except TimeoutError:
            raise HttpProblem(503, "The prediction log does not answer.", _COME_AGAIN) from None
        self._written_at = time.monotonic()

    async def _look_at_model(self, desk: "EndpointContext", live: "LoadedVersion") -> None:
        now, answered = time.monotonic(), desk.compute.answered
        if answered != self._answered:  # others were answered since the last look
            self._answered, self._answered_at = answered, now
        if now - self._answered_at < _MODEL_SECONDS:
            return
        asked = parsing.asked(parsing.items(loading.probe(live.task), live.task))
        question = parsing.quiet(asked, tokens=1 if live.task == CAUSAL_LM else 0)
        try:
            await desk.compute.ask(question, _PATIENCE)
        except HttpProblem as problem:
            if problem.status != _BUSY:  # who has too much to do answers
                raise HttpProblem(503, f"The model does not answer: {problem.sentence}", _COME_AGAIN) from problem
        self._answered_at = time.monotonic()
