"""A request while it is inside, and the answer it gets."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sft_magics.core import postprocessing
from sft_magics.core.records import Prediction
from sft_magics.core.tasks import IMAGE_CLASSIFICATION
from sft_magics.serving.log.prediction_log import LogRow, hashed
from sft_magics.serving.messages import Item, Question
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.scheduling.loading import LoadedVersion


@dataclass(frozen=True)
class Answer:
    """The answers of one request, all by one version, and where its milliseconds went."""

    version: str
    rows: list[Prediction]
    labels: tuple[str, ...] = ()
    spent: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """A question that waits; after `deadline`, on the endpoint's `AwakeClock`, nobody wants the answer."""

    question: Question
    answer: "asyncio.Future[Answer]"
    deadline: float
    arrived: float = field(default_factory=time.perf_counter)

    @property
    def count(self) -> int:
        """How many inputs it has."""
        return len(self.question.items)


def logged(
    key: str, live: LoadedVersion, said: Prediction, spent: Mapping[str, float], item: Item, *, inputs: int, whole: bool
) -> LogRow:
    """Return the row of an answer in the log: with what was asked `whole`, or its hash alone.

    `spent` are the milliseconds of its request by part, which had so many `inputs`.

    Pictures are kept where a label may come back that says what each is.
    """
    text = said.text if whole else hashed(said.text)
    keeps = whole and live.task == IMAGE_CLASSIFICATION
    picture = item.reads if keeps and isinstance(item.reads, bytes) else b""
    total, queue, preprocess = (spent.get(part, 0.0) for part in ("total", "queue", "preprocess"))
    return LogRow(
        key, time.time(), live.version, text, said.label, said.confidence, said.scores, total, picture, queue,
        preprocess, spent.get("model", 0.0), inputs, said.truncated_tokens,
    )  # fmt: skip


def answered(live: LoadedVersion, items: Sequence[Item], said: Sequence[Any]) -> list[Prediction]:
    """Return what a version just said of inputs as answers; raises ValueError where one holds what is no number."""
    found = [
        postprocessing.answer(live.task, live.labels, item.logged, one) for item, one in zip(items, said, strict=True)
    ]
    for place, tokens in live.predictor.unread.items():  # seldom any
        found[place] = replace(found[place], truncated_tokens=tokens)
    return found


def named(answers: list[Prediction], ids: list[str]) -> list[Prediction]:
    """Return answers under the ids that feedback names them by."""
    return [replace(answer, id=key) for answer, key in zip(answers, ids, strict=True)]


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
