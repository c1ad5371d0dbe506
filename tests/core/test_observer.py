import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from sft_magics.core import events as ev
from sft_magics.core import observer
from sft_magics.core.jobs import JobFolder
from sft_magics.core.observer import Companion
from sft_magics.core.views import JobView, LossView

WORKER = """
import os, sys, time
from pathlib import Path
from sft_magics.core import events as ev
from sft_magics.core.jobs import JobFolder
job = JobFolder(Path(sys.argv[1]))
lock = job.claim()
print(lock is not None, flush=True)
writer = ev.EventWriter(job.events)
writer.write(ev.Started("working", os.getpid()))
for i in range(20):
    writer.write(ev.Progress("working", i + 1, 20))
    time.sleep(0.02)
if sys.argv[2] == "end":
    writer.write(ev.Ended("done"))
else:
    os.kill(os.getpid(), 9)
"""


class Listener:
    """Remembers what it was told; `fails` makes it a bad one."""

    face = "test"

    def __init__(self, fails: type[BaseException] | None = None) -> None:
        self.fails = fails
        self.heard: list[ev.Event] = []
        self.shown: list[tuple[float, str, int]] = []

    def hear(self, job: str, event: ev.Event) -> None:
        self.heard.append(event)
        if self.fails:
            raise self.fails("hear")

    def show(self, view: JobView) -> None:
        self.shown.append((time.monotonic(), view.state, view.done))
        if self.fails:
            raise self.fails("show")

    def stay(self, job: JobFolder, view: JobView, companion: Companion, wait: bool) -> None:
        raise NotImplementedError


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path / "job-1").create({})


def work(job: JobFolder, how: str) -> None:
    """Start a process that works for the job; return when it holds its lock."""
    child = subprocess.Popen([sys.executable, "-c", WORKER, str(job.path), how], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    child.stdout.close()
    threading.Thread(target=child.wait, daemon=True).start()


def lose(view: JobView) -> None:
    view.lose("gone", "again")


def test_following_hears_everything_and_shows_at_most_four_times_a_second(job: JobFolder) -> None:
    listener = Listener()
    work(job, "end")
    with observer.watched_by(listener):
        view = observer.follow(job, JobView("job-1"), lose)
    assert (view.state, view.done) == ("done", 20)
    assert [type(e) for e in listener.heard] == [ev.Started, *[ev.Progress] * 20, ev.Ended]
    assert listener.shown[-1][1:] == ("done", 20)
    times = [at for at, _, _ in listener.shown[:-1]]
    assert all(b - a >= observer.REDRAW_SECONDS for a, b in pairwise(times))
    assert len(listener.shown) >= 2


def test_a_process_that_dies_without_a_word_is_lost_and_all_it_said_is_kept(job: JobFolder) -> None:
    listener = Listener()
    work(job, "die")
    with observer.watched_by(listener):
        view = observer.follow(job, JobView("job-1"), lose)
    assert (view.state, view.why, view.done) == ("lost", "gone", 20)
    assert listener.shown[-1][1] == "lost"


def test_a_job_that_never_lived_is_lost_at_once(job: JobFolder) -> None:
    assert observer.follow(job, JobView("job-1"), lose).state == "lost"


def test_an_audience_that_raises_does_not_hurt(job: JobFolder, caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener(RuntimeError)
    work(job, "end")
    with observer.watched_by(listener):
        view = observer.follow(job, JobView("job-1"), lose)
    assert (view.state, view.done) == ("done", 20)
    assert len(listener.heard) == 22
    assert "an audience failed" in caplog.text


def test_the_users_interrupt_comes_through(job: JobFolder) -> None:
    work(job, "end")
    with observer.watched_by(Listener(KeyboardInterrupt)), pytest.raises(KeyboardInterrupt):
        observer.follow(job, JobView("job-1"), lose)


def test_a_job_that_was_taken_up_again_is_followed_to_its_new_end(job: JobFolder) -> None:
    writer = ev.EventWriter(job.events)
    writer.write(ev.Started("working", 1))
    writer.write(ev.Ended("interrupted", "stopped"))
    writer.write(ev.TakenUp())
    writer.close()
    work(job, "end")
    view = observer.follow(job, LossView("job-1"), lose)
    assert (view.state, view.done, view.why) == ("done", 20, "")


def test_catching_up_says_whether_there_was_anything(job: JobFolder) -> None:
    view, reader = JobView("job-1"), ev.EventReader(job.events)
    assert not observer.catch_up(view, reader)
    writer = ev.EventWriter(job.events)
    writer.write(ev.Started("working", os.getpid()))
    writer.close()
    assert observer.catch_up(view, reader)
    assert not observer.catch_up(view, reader)
    assert view.state == "running"


def test_the_call_has_its_own_audience_and_the_session_the_rest() -> None:
    before = observer.current()
    session, call = Listener(), Listener()
    try:
        observer.set_session(session)
        assert observer.current() is session
        with observer.watched_by(call):
            assert observer.current() is call
        assert observer.current() is session
    finally:
        observer.set_session(before)


def test_an_audience_may_be_empty_and_is_still_the_audience() -> None:
    class Empty(Listener):
        def __len__(self) -> int:
            return 0

    empty = Empty()
    with observer.watched_by(empty):
        assert observer.current() is empty


def test_nobody_is_silent(job: JobFolder, capfd: pytest.CaptureFixture[str]) -> None:
    nobody = observer.NullObserver()
    nobody.hear("job-1", ev.Heartbeat())
    nobody.show(JobView("job-1"))
    nobody.stay(job, JobView("job-1"), Companion(lambda: None, lambda view: None), wait=True)
    assert capfd.readouterr() == ("", "")
