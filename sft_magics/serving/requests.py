"""A request while it is inside, and the answer it gets."""

import asyncio
import time
from dataclasses import dataclass, field

from sft_magics.core.records import Prediction
from sft_magics.serving.bodies import HttpProblem
from sft_magics.serving.inputs import Item, Question
from sft_magics.serving.log import LogRow, hashed


@dataclass(frozen=True)
class Answer:
    """The answers of one request, all by one version, and where its milliseconds went."""

    version: str
    rows: list[Prediction]
    labels: tuple[str, ...] = ()
    spent: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """A question that waits; `deadline` is on the clock of `arrived`, after it nobody wants the answer."""

    question: Question
    answer: "asyncio.Future[Answer]"
    deadline: float
    arrived: float = field(default_factory=time.perf_counter)

    @property
    def count(self) -> int:
        """How many inputs it has."""
        return len(self.question.items)


def logged(key: str, at: float, version: str, said: Prediction, ms: float, item: Item, *, whole: bool) -> LogRow:
    """Return the row of an answer in the log: with what was asked `whole`, or its hash alone."""
    if not whole:
        return LogRow(key, at, version, hashed(said.text), said.label, said.confidence, said.scores, ms)
    picture = item.reads if isinstance(item.reads, bytes) else b""
    return LogRow(key, at, version, said.text, said.label, said.confidence, said.scores, ms, picture)


def tell(request: Request, value: Answer | HttpProblem) -> None:
    """Hand an answer over to the event loop that waits for it, from any thread."""
    request.answer.get_loop().call_soon_threadsafe(_deliver, request.answer, value)


def _deliver(future: "asyncio.Future[Answer]", value: Answer | HttpProblem) -> None:
    if future.done():  # its client has gone
        return
    if isinstance(value, HttpProblem):
        future.set_exception(value)
    else:
        future.set_result(value)
