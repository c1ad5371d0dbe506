"""Batches beside each other: each lane is a thread that computes its batches with its share of the cores.

Two cores on one batch wait for each other at every layer, and for longer where something else wants a core too: an
endpoint's own process, its clients. Each on a batch of its own they wait once, at the end.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

MOST = 8  # threads that take turns with Python's lock


class BatchWorkers:
    """So many threads, the caller's one of them, that share out what is to be done.

    `prepare` is called in each thread before it begins, with the number of those that work this time.
    """

    def __init__(self, count: int, prepare: Callable[[int], None] = lambda _: None) -> None:
        self.count = max(1, min(count, MOST))
        self._prepare = prepare
        self._others = ThreadPoolExecutor(self.count, "lane")  # begins no thread before it is needed

    def run(self, parts: Iterable[list[int]], do: Callable[[list[int]], None]) -> None:
        """Do each part in the next lane that is free; raises what `do` raises, once all lanes have ended."""
        waiting = deque(parts)
        ended = threading.Event()
        used = max(1, min(self.count, len(waiting)))

        def lane() -> None:
            try:
                self._prepare(used)
                while not ended.is_set():
                    try:
                        part = waiting.popleft()
                    except IndexError:
                        return
                    do(part)
            except BaseException:
                ended.set()
                raise

        beside: list[Future[None]] = []
        try:
            beside.extend(self._others.submit(lane) for _ in range(used - 1))
            lane()
            wait(beside)
        finally:  # an interrupt comes to the caller's thread, wherever it is
            ended.set()
            wait(beside)
        for other in beside:
            other.result()
