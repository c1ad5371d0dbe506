"""Batches beside each other: each is done once, in as many threads as there are lanes, and what fails is raised."""

import threading
from collections import deque
from concurrent import futures

import pytest

from sft_magics.core.runtime import batch_workers as module
from sft_magics.core.runtime import batches
from sft_magics.core.runtime.batch_workers import MOST, BatchWorkers


def test_each_part_is_done_once_and_lanes_work_at_the_same_time() -> None:
    prepared: list[tuple[int, str]] = []
    done: list[tuple[int, str]] = []
    both = threading.Barrier(2, timeout=10)

    def do(part: list[int]) -> None:
        if part[0] < 2:
            both.wait()  # one lane alone would wait for ever
        done.append((part[0], threading.current_thread().name))

    lanes = BatchWorkers(2, lambda used: prepared.append((used, threading.current_thread().name)))
    lanes.run([[i] for i in range(9)], do)
    assert sorted(i for i, _ in done) == list(range(9))
    assert [used for used, _ in prepared] == [2, 2]
    assert threading.current_thread().name in [name for _, name in prepared], "the caller's thread is one of them"


def test_one_part_is_done_in_the_callers_thread() -> None:
    seen: list[str] = []
    lanes = BatchWorkers(4, lambda used: seen.append(f"{used} {threading.current_thread().name}"))
    lanes.run([[1]], lambda _: None)
    lanes.run([], lambda _: None)
    assert seen == [f"1 {threading.current_thread().name}"] * 2
    assert BatchWorkers(1).count == BatchWorkers(0).count == 1
    assert BatchWorkers(64).count == MOST


def test_what_fails_is_raised_once_all_have_ended_and_no_more_is_begun() -> None:
    begun: list[int] = []
    apart = threading.Barrier(2, timeout=10)
    late = threading.Event()

    def do(part: list[int]) -> None:
        begun.append(part[0])
        apart.wait()
        if part[0] == 0:
            raise ValueError("no")
        threading.Event().wait(1.0)
        late.set()

    lanes = BatchWorkers(2)
    with pytest.raises(ValueError, match="no"):
        lanes.run([[i] for i in range(20)], do)
    assert late.is_set(), "the other lane has ended"
    assert sorted(begun) == [0, 1]
    done: list[int] = []
    lanes.run([[1], [2]], done.extend)
    assert sorted(done) == [1, 2], "and they can be used again"


def test_an_interrupt_while_the_caller_waits_ends_the_other_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    interrupted = threading.Event()

    def do(part: list[int]) -> None:
        begun.append(part[0])
        if threading.current_thread() is not threading.main_thread():
            assert interrupted.wait(10)

    waits = iter([KeyboardInterrupt])

    def wait(beside: list[object]) -> None:
        if (error := next(waits, None)) is not None:
            parts.extend([[i] for i in range(10, 20)])  # as if there were much more to do
            raise error
        interrupted.set()
        futures.wait(beside)  # type: ignore[arg-type]

    parts: deque[list[int]] = deque([[0], [1], [2]])
    monkeypatch.setattr(module, "wait", wait)
    monkeypatch.setattr(module, "deque", lambda given: given)
    lanes = BatchWorkers(2)
    with pytest.raises(KeyboardInterrupt):
        lanes.run(parts, do)
    interrupted.set()
    lanes._others.shutdown()  # what an exit of Python waits for
    assert len(begun) <= 3
    assert len(parts) == 10, "nothing more was begun"


@pytest.mark.parametrize("lanes", [2, 3, 8])
def test_rows_are_dealt_so_that_lanes_end_soon(lanes: int) -> None:
    for sizes in ([8, 300, 8, 16], [24] * 32, list(range(1, 65)), [5, 7], [400] + [8] * 40):
        dealt = batches.dealt(sizes, lanes)
        assert sorted(i for rows in dealt for i in rows) == list(range(len(sizes)))

        def costs(parts: list[list[int]], sizes: list[int] = sizes) -> list[int]:
            return [batches.START + len(rows) * max(sizes[i] for i in rows) for rows in parts]

        assert costs(dealt) == sorted(costs(dealt), reverse=True), "the costliest first"
        alone = sorted(costs(batches.plan(sizes)), reverse=True)
        assert batches.ends(costs(dealt), lanes) <= batches.ends(alone, lanes)
    assert batches.ends([5, 4, 3], 2) == 7
    assert len(batches.dealt([24] * 32, 2)) % 2 == 0, "rows of one length are halved"
