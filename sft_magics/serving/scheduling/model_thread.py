"""The one thread that asks models, and the queue before it.

Models lie in processes of their own (`serving.hosts`); this thread asks them, one at a time, so that they do not take
the cores from each other. Batches are greedy: whatever waits is taken, up to a batch, and nobody waits for a timer. A
request is never divided between two versions. Texts are written token by token, each in turn, so that a long one holds
up nobody else's first word.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from sft_magics.core import errors
from sft_magics.core.records import Prediction
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.serving.hosts.hosted import HostDown
from sft_magics.serving.hosts.starting import Start
from sft_magics.serving.log.log_writer import LogWriter
from sft_magics.serving.messages import Item, Question, SwapOrder
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.scheduling import loading
from sft_magics.serving.scheduling.admission import MAX_BATCH, Crowd
from sft_magics.serving.scheduling.awake_clock import AwakeClock
from sft_magics.serving.scheduling.failures import conflict, down, failed, late
from sft_magics.serving.scheduling.generation import GenerationTask, Heard
from sft_magics.serving.scheduling.loading import LoadedVersion
from sft_magics.serving.scheduling.requests import Answer, Request, answered, logged, named, tell
from sft_magics.serving.scheduling.routing import Routing
from sft_magics.serving.scheduling.timings import Times
from sft_magics.serving.scheduling.trial_rules import Rules

MAX_BATCH_COST = 8_000_000  # characters or bytes
MAX_WRITINGS = 64
_LOOK_SECONDS = 0.5
SECONDS = 60.0  # that a request waits for its answer, unless it says otherwise
_log = logging.getLogger(__name__)


class Compute:
    """The compute thread of an endpoint, its queue, and who answers."""

    def __init__(
        self,
        scribe: LogWriter,
        start: Start,
        threads: int | None = None,
        ended: Callable[[str], None] | None = None,
        *,
        log_inputs: bool = True,
    ) -> None:
        self.clock = AwakeClock()
        self.routing = Routing()
        self.answered = 0
        self.batches = 0
        self.late = 0
        self.restarts = 0  # how often a process had to be replaced
        self.beside_model = 0.0  # seconds of processor that this thread took; models have processes of their own
        self.times = Times()
        self._ended = ended or (lambda _: None)
        self._scribe = scribe
        self._log_inputs = log_inputs
        self._start = start
        self._threads = threads
        self._waiting: deque[Request] = deque()
        self._tasks: deque[Callable[[], None]] = deque()
        self._writings: deque[GenerationTask] = deque()
        self._inputs = 0
        self._crowd = Crowd()
        self._ending = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="compute", daemon=True)

    @property
    def live(self) -> LoadedVersion | None:
        """The version that answers, but for what a trial takes."""
        return self.routing.live

    @property
    def waiting(self) -> int:
        """How many inputs wait to be taken."""
        return self._inputs

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def end(self) -> None:
        """Finish what waits, then end the thread."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join()

    def load(self, order: SwapOrder, share: float | None = None, rules: Rules | None = None) -> "Future[LoadedVersion]":
        """Load a version beside the one that answers, warm it up between two batches, then let it answer.

        With a `share` it does not replace the live version, it is tried out beside it. The future raises SftError when
        the version does not load or does not keep its word; then all stays as it was.
        """
        done: Future[LoadedVersion] = Future()

        def switch(live: LoadedVersion) -> None:
            if share is None:
                self.routing.switch(live)
            else:
                self.routing.try_out(live, share, rules or Rules())

        def beside() -> None:
            try:
                live = loading.load(order, self._threads, self._start)
            except Exception as error:  # noqa: BLE001  any failure belongs to whoever gave the order
                done.set_exception(error)
            else:
                self._do(lambda: _settle(live, order, switch, done, self.live))

        threading.Thread(target=beside, name="loader", daemon=True).start()
        return done

    def abort(self, why: str) -> None:
        """End a trial, if there is one."""
        self._do(lambda: self.routing.end(why))

    def _do(self, task: Callable[[], None]) -> None:
        with self._wake:
            self._tasks.append(task)
            self._wake.notify()

    def ask(self, question: Question, seconds: float = SECONDS) -> "asyncio.Future[Answer]":
        """Queue a question from the event loop; raises HttpProblem: 429 when too much waits, 503 without a log."""
        request = Request(question, asyncio.get_running_loop().create_future(), self.clock.now() + seconds)
        with self._wake:
            self._check_room(request.count)
            self._waiting.append(request)
            self._inputs += request.count
            self._wake.notify()
        return request.answer

    def write(self, question: Question, how: object, heard: Heard, seconds: float = SECONDS) -> GenerationTask:
        """Queue a text to be written piece by piece; `heard` is called in the compute thread with each piece.

        Raises HttpProblem as `ask` does.
        """
        made = GenerationTask(question, how, heard, self.clock, self.clock.now() + seconds)
        with self._wake:
            self._check_room(len(question.items))
            if len(self._writings) >= MAX_WRITINGS:
                raise HttpProblem(429, f"{MAX_WRITINGS} texts are being written already; come again in a second.", 1)
            self._writings.append(made)
            self._wake.notify()
        return made

    def _check_room(self, count: int) -> None:
        if not self._crowd.admits(count, len(self._waiting), self._inputs, time.perf_counter()):
            raise HttpProblem(429, f"{self._inputs:,} inputs wait already; come again in a second.", 1)
        if self._scribe.full:
            raise HttpProblem(503, "The prediction log cannot keep up; come again in a few seconds.", 5)

    # In the compute thread

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._tasks or self._waiting or self._writings or self._ending, _LOOK_SECONDS
                )
                task = self._tasks.popleft() if self._tasks else None
                batch = [] if task else self._take()
                writing = self._writings.popleft() if self._writings and not task else None
                if not (task or batch or writing or self._waiting or self._writings or self._tasks) and self._ending:
                    return
            if task:
                task()
            if batch:
                began = time.thread_time()
                self._serve(batch)
                self.beside_model += time.thread_time() - began
            if not (task or batch or writing):
                self._look_after()
            if writing and self._write_on(writing):
                with self._wake:
                    self._writings.append(writing)

    def _look_after(self) -> None:
        """Replace the process of a version that ended while nobody asked it."""
        trial = self.routing.trial
        for live in (self.live, trial.candidate if trial else None):
            try:
                if live is not None and live.predictor.look_after():
                    self._replaced(live)
            except HostDown:
                continue  # it has said so, and is tried again

    def _replaced(self, live: LoadedVersion) -> None:
        self.restarts += 1
        self._ended(f"The process of {live.version} was gone; another one answers.")

    def _asked(self, live: LoadedVersion, items: list[Item]) -> list[object]:
        """Return what a version says of some inputs; it is told if that took another process."""
        before = live.predictor.restarts
        said = live.predictor.scores([item.reads for item in items])
        if live.predictor.restarts > before:
            self._replaced(live)
        return said

    def _take(self) -> list[Request]:
        """Take what waits, in order, up to a batch; what is too late or wanted by nobody is dropped."""
        batch: list[Request] = []
        if len(self._writings) >= MAX_WRITINGS:  # each holds what its model remembers of it
            return batch
        count = cost = 0
        now, awake = time.perf_counter(), self.clock.now()
        while self._waiting:
            first = self._waiting[0]
            size = sum(item.cost for item in first.question.items)
            if batch and (count + first.count > MAX_BATCH or cost + size > MAX_BATCH_COST):
                break
            self._waiting.popleft()
            self._inputs -= first.count
            if first.answer.done():
                continue
            if awake > first.deadline:
                self.late += 1
                tell(first, late())
                continue
            batch.append(first)
            count, cost = count + first.count, cost + size
        self._crowd.taken(len(self._waiting), self._inputs, now)
        return batch

    def _serve(self, batch: list[Request]) -> None:
        """Answer a batch, each request by the version that it falls to."""
        parts: dict[int, tuple[LoadedVersion, list[Request]]] = {}
        for request in batch:
            live = self.routing.pick()
            if live is None:
                tell(request, HttpProblem(503, "No version is loaded.", 1))
                continue
            parts.setdefault(id(live), (live, []))[1].append(request)
        for live, requests in parts.values():
            if live.task == CAUSAL_LM:
                self._write_all(live, requests)
            else:
                self._answer(live, requests)

    def _answer(self, live: LoadedVersion, batch: list[Request]) -> None:
        began = time.perf_counter()
        items = [item for request in batch for item in request.question.items]
        try:
            said = self._asked(live, items)
            seconds = time.perf_counter() - began
            rows = answered(live, items, said)
        except Exception as error:  # noqa: BLE001  a model may fail in any way; the endpoint goes on
            self._failed(live, batch, error, time.perf_counter() - began)
            return
        self.batches += 1
        self._count(live, len(items), 0, seconds)
        rest = iter(rows)
        inner = live.predictor.spent
        for request in batch:
            answers = [next(rest) for _ in range(request.count)]
            spent = {"queue": (began - request.arrived) * 1e3, "model": seconds * 1e3 - sum(inner.values()), **inner}
            self._log_and_tell(live, request, answers, spent)
        self._shadow(batch, rows)

    def _failed(self, live: LoadedVersion, batch: list[Request], error: Exception, seconds: float) -> None:
        if isinstance(error, HostDown):
            self._count(live, 0, sum(request.count for request in batch), seconds)
            for request in batch:
                tell(request, down(live, error))
            return
        if len(batch) > 1:  # one bad input must not take the others with it
            for request in batch:
                self._answer(live, [request])
            return
        self._count(live, 0, batch[0].count, seconds)
        if isinstance(error, errors.DataProblem):
            tell(batch[0], HttpProblem(400, error.what))
            return
        tell(batch[0], failed(live, error))

    def _count(self, live: LoadedVersion, answered: int, failed: int, seconds: float) -> None:
        side = self.routing.side(live)
        if side is None:
            return
        side.failed += failed
        if answered:
            side.count(answered, seconds)
        if ended := self.routing.judge():
            self._ended(ended)

    def _shadow(self, batch: list[Request], rows: list[Prediction]) -> None:
        """Let a shadow read what was answered, if nobody waits for this thread."""
        trial = self.routing.trial
        if trial is None or not trial.shadow:
            return
        if self._waiting or self._tasks:
            trial.skipped += 1
            return
        items = [item for request in batch for item in request.question.items]
        began = time.perf_counter()
        try:
            other = answered(trial.candidate, items, self._asked(trial.candidate, items))
        except Exception:  # noqa: BLE001  a shadow may fail in any way; nobody waits for it
            _log.exception("the shadow %s failed", trial.candidate.version)
            self._count(trial.candidate, 0, len(items), 0.0)
            return
        trial.compare(rows, other)
        self._count(trial.candidate, len(items), 0, time.perf_counter() - began)

    def _log_and_tell(
        self, live: LoadedVersion, request: Request, answers: list[Prediction], spent: dict[str, float]
    ) -> None:
        question = request.question
        spent["total"] = (time.perf_counter() - request.arrived) * 1e3
        rows = [
            logged(key, live, a, spent, item, inputs=request.count, whole=self._log_inputs)
            for key, a, item in zip(question.ids, answers, question.items, strict=True)
        ]
        answer = Answer(live.version, named(answers, question.ids), live.labels, spent)
        if question.unlogged:
            tell(request, answer)
            return
        self.answered += len(answers)
        self.times.add(spent, request.count)
        if not question.sure and self._scribe.trouble is None:
            self._scribe.add(rows)
            tell(request, answer)
            return

        def written(found: "set[str] | errors.SftError") -> None:
            if isinstance(found, errors.SftError):
                tell(request, HttpProblem(503, found.what, 5))
            else:
                tell(request, conflict(found) or answer)

        self._scribe.add(rows, written)

    # Texts

    def _write_all(self, live: LoadedVersion, requests: list[Request]) -> None:
        """Begin to write the texts that plain requests ask a language model for."""
        for request in requests:
            done = partial(self._log_and_tell, live)
            for made in GenerationTask.of_request(request, self.clock, done):
                made.live = live
                self._writings.append(made)

    def _write_on(self, writing: GenerationTask) -> bool:
        """Write one more token; return whether there is more to write."""
        if writing.live is None:
            writing.live = self.routing.pick()
        live = writing.live
        if live is None:
            writing.fail(HttpProblem(503, "No version is loaded.", 1))
            return False
        before = live.predictor.restarts
        goes_on, seconds = writing.step(live)
        if writing.problem is None and live.predictor.restarts > before:
            self._replaced(live)
        if writing.problem is not None:
            self._count(live, 0, 1, seconds)
        elif not goes_on and writing.prediction is not None:
            self._count(live, 1, 0, writing.seconds)
            if writing.streamed:
                self._log_stream(live, writing)
        return goes_on

    def _log_stream(self, live: LoadedVersion, writing: GenerationTask) -> None:
        assert writing.prediction is not None
        spent, question = writing.spent(), writing.question
        self.answered += 1
        self.times.add(spent, 1)
        said, item = writing.prediction, question.items[0]
        self._scribe.add([logged(question.ids[0], live, said, spent, item, inputs=1, whole=self._log_inputs)])


def _settle(
    live: LoadedVersion,
    order: SwapOrder,
    switch: Callable[[LoadedVersion], None],
    done: "Future[LoadedVersion]",
    before: LoadedVersion | None,
) -> None:
    """Let a version answer from now on; the first one is checked by whoever starts the endpoint, over HTTP."""
    try:
        if before is not None:
            loading.check_task(live, before)
        loading.warm_up(live)
        if before is not None:
            loading.prove(live, order)
        switch(live)
    except Exception as error:  # noqa: BLE001  any failure belongs to whoever gave the order; the old one stays
        done.set_exception(error)
    else:
        done.set_result(live)
