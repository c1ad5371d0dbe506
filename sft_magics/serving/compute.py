"""The one thread in which a model is loaded, warmed up and run.

torch keeps a pool of workers for each thread that uses it, and a second thread computes three times slower than the
first; so everything that touches the model happens here. Batches are greedy: whatever waits is taken, up to
`MAX_BATCH` texts, and nobody waits for a timer. A request is never divided between two versions.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from sft_magics.core import errors
from sft_magics.serving import predictor as predictors
from sft_magics.serving.inputs import HttpProblem, Question, SwapOrder
from sft_magics.serving.log import LogRow, PredictionLog
from sft_magics.serving.predictor import Predictor

MAX_BATCH = 64
MAX_WAITING = 4096
_WARM_UP = ["warm up", "a sentence of about the length that many sentences have, to touch more of the memory " * 2]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Live:
    """The version that answers."""

    version: str
    ref: str
    labels: tuple[str, ...]
    predictor: Predictor


@dataclass(frozen=True)
class Answer:
    """The rows of one request, all by one version."""

    version: str
    rows: list[LogRow]


@dataclass(frozen=True)
class _Request:
    question: Question
    answer: "asyncio.Future[Answer]"
    arrived: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class _Order:
    what: SwapOrder
    done: "Future[Live]"


class Compute:
    """The compute thread of an endpoint, its queue and its log."""

    def __init__(self, log: PredictionLog, threads: int | None = None) -> None:
        self.live: Live | None = None
        self.answered = 0
        self.batches = 0
        self.latencies: deque[float] = deque(maxlen=1024)
        self._log = log
        self._threads = threads
        self._waiting: deque[_Request] = deque()
        self._orders: deque[_Order] = deque()
        self._texts = 0
        self._ending = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="compute", daemon=True)

    @property
    def waiting(self) -> int:
        """How many texts wait to be taken."""
        return self._texts

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def end(self) -> None:
        """Finish what waits, then end the thread."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join()

    def load(self, order: SwapOrder) -> "Future[Live]":
        """Load and warm up a version between two batches, then let it answer; the old one answers until then.

        The future raises SftError when the version does not load or does not keep its word; the old one stays.
        """
        done: Future[Live] = Future()
        with self._wake:
            self._orders.append(_Order(order, done))
            self._wake.notify()
        return done

    def ask(self, question: Question) -> "asyncio.Future[Answer]":
        """Queue a question from the event loop; raises HttpProblem 429 when too much waits."""
        request = _Request(question, asyncio.get_running_loop().create_future())
        with self._wake:
            # One request may always wait, however large: a queue bound must not make it unanswerable.
            if self._texts and self._texts + len(question.texts) > MAX_WAITING:
                raise HttpProblem(429, f"{self._texts:,} texts wait already; come again in a second.", 1)
            self._waiting.append(request)
            self._texts += len(question.texts)
            self._wake.notify()
        return request.answer

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._orders or self._waiting or self._ending)
                order = self._orders.popleft() if self._orders else None
                batch = [] if order else self._take()
                if not order and not batch:
                    return
            if order:
                self._obey(order)
            else:
                self._serve(batch)

    def _take(self) -> list[_Request]:
        batch: list[_Request] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].question.texts) <= MAX_BATCH):
            request = self._waiting.popleft()
            batch.append(request)
            size += len(request.question.texts)
        self._texts -= size
        return batch

    def _obey(self, order: _Order) -> None:
        try:
            live = _load(order.what, self._threads)
        except Exception as error:  # noqa: BLE001  any failure belongs to whoever gave the order; the old one stays
            order.done.set_exception(error)
        else:
            self.live = live
            order.done.set_result(live)

    def _serve(self, batch: list[_Request]) -> None:
        started = time.perf_counter()
        try:
            outcomes = self._answer(batch)
        except errors.SftError as error:  # the log refuses: what cannot be logged is not answered
            _log.exception("the log refused")
            outcomes = [_Outcome(r, HttpProblem(503, error.what, 5)) for r in batch]
        except Exception as error:  # noqa: BLE001  a model may fail in any way; the endpoint goes on
            if len(batch) > 1:  # one bad text must not take the others with it
                for request in batch:
                    self._serve([request])
                return
            _log.exception("the model failed after %.3f s", time.perf_counter() - started)
            sentence = f"The model failed on this input ({type(error).__name__}); the endpoint's output.log has more."
            outcomes = [_Outcome(batch[0], HttpProblem(500, sentence))]
        batch[0].answer.get_loop().call_soon_threadsafe(_deliver, outcomes)

    def _answer(self, batch: list[_Request]) -> "list[_Outcome]":
        live = self.live
        if live is None:
            raise errors.EndpointProblem("No version is loaded.", "%sft_endpoints")
        scores = live.predictor.scores([text for r in batch for text in r.question.texts])
        at, now = time.time(), time.perf_counter()
        rest = iter(scores)
        answers = [Answer(live.version, _rows(live, r, rest, at, (now - r.arrived) * 1e3)) for r in batch]
        refused = set(self._log.append([row for answer in answers for row in answer.rows]))
        self.batches += 1
        self.answered += len(scores)
        self.latencies.extend((now - r.arrived) * 1e3 for r in batch)
        return [_Outcome(r, _conflict(a, refused) or a) for r, a in zip(batch, answers, strict=True)]


@dataclass(frozen=True)
class _Outcome:
    request: _Request
    value: Answer | HttpProblem


def _deliver(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.request.answer
        if future.done():  # its client has gone
            continue
        if isinstance(outcome.value, HttpProblem):
            future.set_exception(outcome.value)
        else:
            future.set_result(outcome.value)


def _conflict(answer: Answer, refused: set[str]) -> HttpProblem | None:
    taken = [row.id for row in answer.rows if row.id in refused] if refused else []
    if not taken:
        return None
    return HttpProblem(
        409, f"The id '{taken[0]}' was used before for another text or version; choose new ids, or none."
    )


def _rows(live: Live, request: _Request, scores: Iterator[list[float]], at: float, ms: float) -> list[LogRow]:
    rows = []
    for key, text in zip(request.question.ids, request.question.texts, strict=True):
        row = next(scores)
        best = max(range(len(row)), key=row.__getitem__)
        if not math.isfinite(sum(row)):
            raise ValueError("scores that are not numbers")
        named = dict(zip(live.labels, row, strict=True))
        rows.append(LogRow(key, at, live.version, text, live.labels[best], row[best], named, ms))
    return rows


def _load(order: SwapOrder, threads: int | None) -> Live:
    folder = Path(order.folder)
    if not folder.is_dir():
        raise errors.EndpointProblem(
            f"There is no folder {folder} to load {order.version} from.", "deploy the version again: %sft_deploy REF"
        )
    predictor = predictors.load(folder, threads)
    labels = tuple(predictor.labels)
    if order.labels and labels != order.labels:
        raise errors.ModelProblem(
            f"{order.version} was recorded with the labels {', '.join(order.labels)}, "
            f"but its files say {', '.join(labels)}.",
            "deploy another version, or train this one again; %sft_versions lists them.",
        )
    _check(order.version, predictor.scores(_WARM_UP), len(labels))
    return Live(order.version, order.ref, labels, predictor)


def _check(version: str, scores: list[list[float]], width: int) -> None:
    """Raise ModelProblem unless the warm-up texts came back as probabilities."""
    fits = len(scores) == len(_WARM_UP) and all(len(row) == width for row in scores)
    if not fits or not all(abs(sum(row) - 1) < 0.01 for row in scores):  # not-a-number fails this as well
        raise errors.ModelProblem(
            f"{version} loads, but its scores are not probabilities of its {width} labels.",
            "deploy another version; %sft_versions lists them.",
        )
