import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_magics.core import events as ev
from sft_magics.core.errors import WorkspaceProblem
from sft_magics.core.jobs import JobFolder

HOLDER = """
import sys, time
from pathlib import Path
from sft_magics.core.jobs import JobFolder
lock = JobFolder(Path(sys.argv[1])).claim()
print(lock is not None, flush=True)
time.sleep(60)
"""


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path / "runs" / "run-7f3a").create({"kind": "finetune", "text": "größe", "n": 1})


def hold(job: JobFolder) -> subprocess.Popen[str]:
    """Start a process that lives for this job, in a group of its own as the launcher does."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(job.path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait(20)
    if child.stdout is not None:
        child.stdout.close()


def test_a_job_is_made_with_its_order_in_it(job: JobFolder) -> None:
    assert job.id == "run-7f3a"
    assert job.spec() == {"kind": "finetune", "text": "größe", "n": 1}
    assert job.path.stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in job.path.iterdir()) == ["spec.json"]
    assert job.history() == []
    assert job.result() is None
    assert job.told() == ""
    assert job.pid() is None
    assert not job.alive()
    assert job.last_words() == ""


def test_a_job_is_not_made_twice(job: JobFolder) -> None:
    with pytest.raises(WorkspaceProblem, match="run-7f3a"):
        job.create({"other": 1})
    assert job.spec()["n"] == 1


def test_files_are_utf8_whatever_the_locale_is(job: JobFolder) -> None:
    code = f"from pathlib import Path; from sft_magics.core.jobs import JobFolder; print(ascii(JobFolder(Path({str(job.path)!r})).spec()['text']))"  # noqa: E501
    child = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code],
        env={**os.environ, "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONWARNDEFAULTENCODING": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert child.stdout == r"'gr\xf6\xdfe'" + "\n"
    assert "EncodingWarning" not in child.stderr


def test_a_job_lives_as_long_as_its_process(job: JobFolder) -> None:
    child = hold(job)
    try:
        assert job.alive()
        assert job.claim() is None
    finally:
        os.kill(child.pid, signal.SIGKILL)
        end(child)
    assert not job.alive()
    lock = job.claim()
    assert lock is not None
    assert job.alive()
    os.close(lock)
    assert not job.alive()


def test_looking_does_not_keep_a_process_from_taking_its_job(job: JobFolder) -> None:
    (job.path / "alive.lock").touch()
    looker = "import sys, time\nfrom pathlib import Path\nfrom sft_magics.core.jobs import JobFolder\njob = JobFolder(Path(sys.argv[1]))\nprint(1, flush=True)\nwhile True: job.alive() or time.sleep(0.0005)"  # noqa: E501
    lookers = [
        subprocess.Popen([sys.executable, "-c", looker, str(job.path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for child in lookers:
            assert child.stdout is not None
            child.stdout.readline()
        for _ in range(200):
            lock = job.claim()
            assert lock is not None
            os.close(lock)
    finally:
        for child in lookers:
            end(child)


def test_kill_ends_the_process_and_only_a_living_one(job: JobFolder) -> None:
    job.kill()
    child = hold(job)
    (job.path / "pid").write_text(str(child.pid))
    try:
        job.kill()
        assert child.wait(20) == -signal.SIGKILL
        assert not job.alive()
        job.kill()
    finally:
        end(child)


def test_terminate_asks_a_living_process_and_no_other(job: JobFolder) -> None:
    assert not job.terminate()
    child = hold(job)
    (job.path / "pid").write_text(str(child.pid))
    try:
        assert job.terminate()
        assert child.wait(20) == -signal.SIGTERM
        assert not job.terminate()
    finally:
        end(child)
    (job.path / "pid").write_text(str(os.getpid()))
    assert not job.terminate()


def test_kill_never_ends_the_process_that_asks(job: JobFolder) -> None:
    (job.path / "pid").write_text(str(os.getpid()))
    lock = job.claim()
    assert lock is not None
    job.kill()
    os.close(lock)


@pytest.mark.parametrize("text", ["", "x", "12x"])
def test_a_damaged_pid_is_none(job: JobFolder, text: str) -> None:
    (job.path / "pid").write_text(text)
    assert job.pid() is None


def test_orders_are_left_read_and_forgotten(job: JobFolder) -> None:
    job.tell({"do": "stop"})
    assert job.told() == "stop"
    job.tell({"do": "keep"})
    assert job.told() == "keep"
    job.forget_orders()
    assert job.told() == ""
    job.forget_orders()
    assert len((job.path / "orders.jsonl").read_text().splitlines()) == 3, "nothing to forget is not written down"


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"stop"'])
def test_a_damaged_order_is_no_order(job: JobFolder, text: str) -> None:
    (job.path / "orders.jsonl").write_text(text + "\n")
    assert job.told() == ""
    job.tell({"do": "stop"})
    assert job.told() == "stop"


def test_edits_that_were_taken_up_are_none_where_the_file_is_not_there_or_damaged(job: JobFolder) -> None:
    assert job.taken() == []
    (job.path / "edits.json").write_text('[{"step": 3, "changes": {"lr": 1e-05}, "number": 0}]')
    assert [(e.step, e.changes, e.number, e.who) for e in job.taken()] == [(3, {"lr": 1e-05}, 0, "")]
    (job.path / "edits.json").write_text("[{")
    assert job.taken() == []


def test_a_result_is_kept(job: JobFolder) -> None:
    job.finish({"scores": [[0.5, float("nan")]]})
    assert job.result() == {"scores": [[0.5, "NaN"]]}
    assert json.loads((job.path / "result.json").read_text(encoding="utf-8")) == job.result()


def test_history_is_everything_it_said(job: JobFolder) -> None:
    writer = ev.EventWriter(job.events)
    writer.write(ev.Queued("run-1", at=1.0))
    writer.write(ev.Heartbeat(at=2.0))
    writer.close()
    assert job.history() == [ev.Queued("run-1", at=1.0), ev.Heartbeat(at=2.0)]


def test_last_words_are_the_last_lines_printed(job: JobFolder) -> None:
    job.log.write_bytes(b"one\n\n  two \xff\nthree\nfour\n\n")
    assert job.last_words() == "two \ufffd | three | four"
    assert job.last_words(1) == "four"


def test_a_lock_is_free_soon_after_a_process_that_was_not_waited_for(job: JobFolder) -> None:
    child = hold(job)
    os.kill(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while job.alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    end(child)
