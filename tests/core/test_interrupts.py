import signal
import threading
from collections.abc import Callable

import pytest

from sft_magics.core.runtime.interrupts import held


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def inside(*steps: Callable[[], object]) -> None:
    with held():
        for step in steps:
            step()


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    done: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        inside(interrupt, lambda: done.append(True))
    assert done == [True]


def test_a_second_one_does_not_wait() -> None:
    done: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        inside(interrupt, interrupt, lambda: done.append(True))
    assert done == []


def test_a_failure_inside_is_what_comes_out_and_the_handler_is_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        inside(interrupt, lambda: 1 / 0)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_another_thread_does_nothing() -> None:
    seen: list[object] = []
    thread = threading.Thread(target=lambda: inside(lambda: seen.append(signal.getsignal(signal.SIGINT))))
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
