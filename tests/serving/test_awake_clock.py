"""A process that stood still: it is not idle for that, and who waited is answered."""

import os
import signal
import threading
import time

from sft_magics.serving.scheduling.awake_clock import LONGEST_STEP, AwakeClock
from tests.serving.house import House, Reply, ask, server


def test_a_jump_counts_as_one_step_for_whoever_looks_first() -> None:
    now = [100.0]
    clock = AwakeClock(lambda: now[0])
    for _ in range(40):
        now[0] += 0.25
        clock.now()
    assert clock.now() == 10.0
    now[0] += 7200
    found: list[float] = []
    lookers = [threading.Thread(target=lambda: found.append(clock.now())) for _ in range(4)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    assert found == [10.0 + LONGEST_STEP] * 4


def test_an_endpoint_that_was_stopped_goes_on_and_answers_who_waits(house: House) -> None:
    endpoint = house.start(idle_stop=2.5, folder=house.version(1, seconds=0.5))
    replies: list[Reply] = []

    def question() -> None:
        replies.append(ask(endpoint, "POST", "/predict", {"inputs": "a"}, headers={"X-Timeout-Ms": "3000"}))

    before = [threading.Thread(target=question) for _ in range(2)]  # one in the model, one in its queue or its batch
    for waiting in before:
        waiting.start()
    pid = server(endpoint).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        meanwhile = threading.Thread(target=question)
        meanwhile.start()
        time.sleep(4.0)  # longer than it may be idle, and than a request may take
    finally:
        os.kill(pid, signal.SIGCONT)
    for waiting in (*before, meanwhile):
        waiting.join()
    assert [status for status, _ in replies] == [200, 200, 200]
    assert ask(endpoint, "GET", "/ready")[0] == 200
