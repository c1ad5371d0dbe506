"""A job that ended begins again: the new process waits for the old one, and its end is not taken for the new one's."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sft_magics.core import events as ev
from sft_magics.core import observer
from sft_magics.core.jobs import JobFolder
from sft_magics.core.views import JobView
from sft_magics.lifecycle.jobs import client

LINGER = """
import sys, time
from pathlib import Path
from sft_magics.core import events as ev
from sft_magics.core.jobs import JobFolder
job = JobFolder(Path(sys.argv[1]))
lock = job.claim()
writer = ev.EventWriter(job.events)
writer.write(ev.Started("working", 1))
writer.write(ev.Ended("interrupted", "the first end"))
print("ended", flush=True)
time.sleep(1.0)
"""


def test_a_job_is_taken_up_again_although_its_process_is_still_on_its_way_out(tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "job-1").create({"kind": "no such work"})
    old = subprocess.Popen([sys.executable, "-c", LINGER, str(job.path)], stdout=subprocess.PIPE, text=True)
    assert old.stdout is not None
    assert old.stdout.readline() == "ended\n"
    assert job.alive()
    client.launch(job)
    view = observer.follow(job, JobView(job.id), lambda v: client.lose(job, v))
    assert old.wait(10) == 0
    old.stdout.close()
    # The new process ended by itself, with its own words: it does not know this kind of work.
    assert (view.state, view.problem) == ("failed", "Defect")
    kinds = [type(e) for e in job.history() if not isinstance(e, ev.Heartbeat)]
    assert kinds == [ev.Started, ev.Ended, ev.TakenUp, ev.Ended]


def test_progress_here_is_shown_seldom_and_a_bad_audience_does_not_hurt() -> None:
    class Bad(observer.NullObserver):
        shown = 0

        def show(self, view: JobView) -> None:
            self.shown += 1
            raise RuntimeError

    bad = Bad()
    with observer.watched_by(bad), client.telling("loading") as say:
        for done in range(10_000):
            say("rows", done, 10_000)
    assert 2 <= bad.shown < 40
    with observer.watched_by(bad), pytest.raises(ZeroDivisionError), client.telling("loading"):
        raise ZeroDivisionError


def test_nothing_is_left_of_a_job_whose_process_writes_while_its_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = JobFolder(tmp_path / "job-1").create({})
    real, calls = shutil.rmtree, []

    def rmtree(path: Path, *, ignore_errors: bool) -> None:
        real(path, ignore_errors=ignore_errors)
        calls.append(path)
        if len(calls) == 1:  # as the process does that removes and writes beside us
            path.mkdir()
            (path / "summary.json").write_text("{}")

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    client.forget(job)
    assert not job.path.exists()
    assert len(calls) == 2
