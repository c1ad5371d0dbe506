"""Whether little work is done with one thread or with all is what was quicker lately."""

from sft_magics.engine.kernels.thread_policy import ThreadPolicy


def _run(waking: ThreadPolicy, calls: int, one: float, both: float) -> int:
    """Make calls that take so long with one thread and with all; return how many used all."""
    woken = 0
    for _ in range(calls):
        wake = waking.wake()
        waking.took(wake, 30, both if wake else one)
        woken += wake
    return woken


def test_what_is_quicker_is_done_and_the_other_tried_now_and_then() -> None:
    waking = ThreadPolicy()
    assert _run(waking, 8, 0.009, 0.012) == 4, "one way after the other at first"
    assert 0 < _run(waking, 480, 0.009, 0.012) <= 20


def test_threads_that_were_asleep_are_no_sign_of_a_slower_way() -> None:
    waking, before, woken = ThreadPolicy(), False, 0
    for _ in range(400):
        wake = waking.wake()
        waking.took(wake, 30, (0.006 if before else 0.015) if wake else 0.009)
        before = wake
        woken += wake
    assert woken > 360


def test_it_notices_that_the_machine_is_another_one() -> None:
    waking = ThreadPolicy()
    _run(waking, 100, 0.009, 0.012)
    _run(waking, 960, 0.0135, 0.0107)
    assert _run(waking, 100, 0.0135, 0.0107) > 90


def test_one_call_that_was_held_up_changes_nothing() -> None:
    waking = ThreadPolicy()
    _run(waking, 100, 0.009, 0.012)
    _run(waking, 8, 0.009, 0.012)
    assert not waking.wake()
    waking.took(False, 30, 3.0)
    assert _run(waking, 30, 0.009, 0.012) <= 1


def test_longer_texts_are_no_sign_of_a_slower_way() -> None:
    waking = ThreadPolicy()
    _run(waking, 20, 0.009, 0.012)
    for _ in range(20):
        waking.wake()
        waking.took(False, 250, 0.009 / 94 * 314)
    assert _run(waking, 20, 0.009, 0.012) <= 1


def test_a_way_of_which_nothing_is_known_is_tried_again() -> None:
    waking = ThreadPolicy()
    for _ in range(4):
        waking.wake()  # and what was asked could not be answered
    assert _run(waking, 200, 0.001, 0.020) < 30
