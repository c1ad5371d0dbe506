"""A text on its way: written token by token in the compute thread, heard by whoever asked."""

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Prediction
from sft_magics.serving.hosts.hosted import HostDown
from sft_magics.serving.messages import Question
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.scheduling.awake_clock import AwakeClock
from sft_magics.serving.scheduling.failures import down, failed
from sft_magics.serving.scheduling.requests import Request, tell

if TYPE_CHECKING:
    from sft_magics.core.sampling import Piece
    from sft_magics.serving.scheduling.loading import LoadedVersion

Heard = Callable[["Piece | HttpProblem"], None]
Done = Callable[[Request, list[Prediction], dict[str, float]], None]


class GenerationTask:
    """One text: `step` writes a token of it; `cancelled` may be set by whoever does not want the rest."""

    def __init__(
        self,
        question: Question,
        how: Any,
        heard: Heard,
        clock: AwakeClock,
        deadline: float,
        place: int = 0,
        streamed: bool = True,
    ) -> None:
        self.question = question
        self.deadline = deadline
        self.streamed = streamed
        self.cancelled = False
        self.live: LoadedVersion | None = None
        self.problem: HttpProblem | None = None
        self.prediction: Prediction | None = None
        self.seconds = 0.0  # in the model
        self._arrived = time.perf_counter()
        self._began = 0.0  # when the first token was written
        self._clock = clock  # of the deadline
        self._how = how
        self._heard = heard
        self._item = question.items[place]
        self._pieces: Iterator[Piece] | None = None
        self._text = ""
        self._sure: list[float] = []

    @classmethod
    def of_request(cls, request: Request, clock: AwakeClock, done: Done) -> "list[GenerationTask]":
        """Return a writing for each input of a request; `done` hears of all of them together."""
        found: list[GenerationTask] = []
        began = time.perf_counter()

        def heard(said: "Piece | HttpProblem") -> None:
            if request.answer.done():
                for one in found:
                    one.cancelled = True
            if isinstance(said, HttpProblem):
                for one in found:
                    one.cancelled = True
                tell(request, said)
            elif all(one.prediction is not None for one in found):
                spent = {"queue": (began - request.arrived) * 1e3, "model": sum(o.seconds for o in found) * 1e3}
                done(request, [one.prediction for one in found if one.prediction is not None], spent)

        found += [cls(request.question, None, heard, clock, request.deadline, i, False) for i in range(request.count)]
        return found

    def spent(self) -> dict[str, float]:
        """Return the milliseconds of a text that is written: until its turn, in the model, and all of them."""
        total = time.perf_counter() - self._arrived
        waited = max(0.0, self._began - self._arrived)
        return {"queue": waited * 1e3, "model": self.seconds * 1e3, "total": total * 1e3}

    def step(self, live: "LoadedVersion") -> tuple[bool, float]:
        """Write one token; return whether there is more to write, and the seconds it took."""
        began = time.perf_counter()
        self._began = self._began or began
        if self.cancelled:
            return False, 0.0
        if self._clock.now() > self.deadline:
            self.fail(HttpProblem(504, "The request's time was over before its text was complete.", 1))
            return False, 0.0
        try:
            goes_on = self._next(live)
        except errors.SftError as error:
            self.fail(HttpProblem(400, error.what))
            goes_on = False
        except HostDown as error:
            self.fail(down(live, error))
            goes_on = False
        except Exception as error:  # noqa: BLE001  a model may fail in any way; the endpoint goes on
            self.fail(failed(live, error))
            goes_on = False
        seconds = time.perf_counter() - began
        self.seconds += seconds
        return goes_on, seconds

    def _next(self, live: "LoadedVersion") -> bool:
        if self._pieces is None:
            from sft_magics.core.sampling import Sampling

            asked = self.question.tokens
            how = self._how or Sampling(max_new_tokens=asked or Sampling.max_new_tokens, exact=bool(asked))
            self._pieces = live.predictor.stream(str(self._item.reads), how)
        piece = next(self._pieces)
        self._text += piece.text
        self._sure.append(piece.sure)
        if piece.ended:
            sure = math.exp(sum(self._sure) / len(self._sure))
            self.prediction = Prediction(self._item.logged, self._text.strip(), sure, {})
        self._heard(piece)
        return not piece.ended

    def fail(self, problem: HttpProblem) -> None:
        """Say that there is no more to come, and why."""
        self.problem = problem
        self._heard(problem)
