"""A job's process: alive by its lock from the first moment to the last, whoever started it and however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sft_magics.core import errors
from sft_magics.core.jobs import JobFolder
from sft_magics.engine.runtime import launchers

ROOT = Path(__file__).resolve().parents[2]
SLEEPER = "tests.engine.sleeper"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobFolder]:
    monkeypatch.chdir(ROOT)
    folder = JobFolder(tmp_path / "job-1").create({"kind": "sleep"})
    yield folder
    folder.kill()


def until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def test_it_is_alive_at_once_detached_and_logged_and_dead_when_killed(job: JobFolder) -> None:
    pid = launchers.start(job, SLEEPER)
    assert job.alive()
    assert job.pid() == pid
    assert os.getsid(pid) == pid != os.getsid(0)
    assert until((job.path / "ready").exists)
    assert job.last_words() == "I live"
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not job.alive())


def test_a_second_process_for_a_job_that_lives_is_refused(job: JobFolder) -> None:
    launchers.start(job, SLEEPER)
    with pytest.raises(errors.RunProblem, match="running already"):
        launchers.start(job, SLEEPER)
    with pytest.raises(errors.RunProblem, match="running already"):
        launchers.inline(job, lambda path: None)


@pytest.mark.parametrize("keep", [True, False])
def test_it_outlives_whoever_started_it_only_if_it_shall(job: JobFolder, keep: bool) -> None:
    words = [sys.executable, "-m", SLEEPER, str(job.path), "--launch", *(["--keep"] if keep else [])]
    subprocess.run(words, cwd=ROOT, check=True, timeout=60)
    assert until(lambda: not job.alive(), 3.0) is not keep


def test_inline_holds_the_lock_while_it_works_and_frees_it_after(job: JobFolder) -> None:
    seen: list[bool] = []
    launchers.inline(job, lambda path: seen.append(JobFolder(path).alive()))
    assert (seen, job.alive()) == ([True], False)

    def fail(path: Path) -> None:
        raise ValueError(path)

    with pytest.raises(ValueError, match="job-1"):
        launchers.inline(job, fail)
    assert not job.alive()


def test_launching_needs_no_torch() -> None:
    code = "import sys, sft_magics.engine.runtime.launchers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
