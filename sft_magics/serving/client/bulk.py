"""Many inputs asked of an endpoint, over two connections: it does not wait while rows are written and answers read."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from queue import SimpleQueue

from sft_magics.core.records import Endpoint, Prediction
from sft_magics.serving.client.client import EndpointClient

_ROWS = 128  # a request: an endpoint sorts what comes together by length, and others wait for it
_CLIENTS = 2
Progress = Callable[[int, int], None]


def predict(endpoint: Endpoint, inputs: Sequence[str | bytes], progress: Progress) -> list[Prediction]:
    """Return one logged answer an input, in order; `progress(done, total)` is called in this thread.

    Raises EndpointProblem and DataProblem as `EndpointClient.predict` does; what else was to be asked is dropped then.
    """
    parts = [inputs[start : start + _ROWS] for start in range(0, len(inputs), _ROWS)]
    with ExitStack() as stack:
        free: SimpleQueue[EndpointClient] = SimpleQueue()
        for _ in range(min(_CLIENTS, len(parts))):
            free.put(stack.enter_context(EndpointClient(endpoint)))

        def ask(part: Sequence[str | bytes]) -> list[Prediction]:
            client = free.get()
            try:
                return client.predict(part, batch=_ROWS)
            finally:
                free.put(client)

        pool = ThreadPoolExecutor(_CLIENTS)
        try:
            asked = [pool.submit(ask, part) for part in parts]
            for done in _told(asked):
                progress(done, len(inputs))
            return [answer for part in asked for answer in part.result()]
        finally:
            pool.shutdown(cancel_futures=True)


def _told(asked: "Sequence[Future[list[Prediction]]]") -> Iterator[int]:
    """Yield how many answers there are, each time some have come."""
    done = 0
    for part in as_completed(asked):
        done += len(part.result())
        yield done
