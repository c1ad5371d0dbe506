"""Jobs forked from a process that has imported everything: they live and die as spawned ones do."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sft_magics.core.jobs import JobFolder
from sft_magics.engine.runtime import fork_server_client, free_memory, launchers
from tests.engine.test_launchers import ROOT, SLEEPER, until


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> Iterator[fork_server_client.Server]:
    """A server of this process that has little to import."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(fork_server_client, "PRELOADED", ("json",))
    monkeypatch.delenv("SFT_FORK_SERVER", raising=False)
    fork_server_client.stop()
    server = fork_server_client._found(launchers.environment())
    assert server is not None
    assert until(server.ready)
    yield server
    fork_server_client.stop()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[JobFolder]:
    folder = JobFolder(tmp_path / "job-1").create({"kind": "sleep"})
    yield folder
    folder.kill()


def test_a_forked_job_is_alive_at_once_detached_logged_and_dead_when_killed(
    ready: fork_server_client.Server, job: JobFolder
) -> None:
    pid = launchers.start(job, SLEEPER, forked=True)
    assert psutil.Process(pid).ppid() == ready.process.pid
    assert job.alive()
    assert job.pid() == pid
    assert until((job.path / "ready").exists)
    assert os.getsid(pid) == pid
    assert job.last_words() == "I live"
    assert psutil.Process(pid).cwd() == str(ROOT)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not job.alive()), "the server keeps no copy of the lock"
    assert until(lambda: not psutil.pid_exists(pid)), "and takes leave of the dead"
    again = launchers.start(job, SLEEPER, forked=True)
    assert psutil.Process(again).ppid() == ready.process.pid


def test_its_variables_are_those_of_the_launch(
    ready: fork_server_client.Server, job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_TEST_WORD", "later")
    pid = launchers.start(job, "tests.engine.shower", forked=True)
    assert psutil.Process(ready.process.pid).pid != pid
    assert until(lambda: "later" in job.last_words()), job.last_words()


def test_what_libraries_read_early_makes_another_server(
    ready: fork_server_client.Server, job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pid = launchers.start(job, SLEEPER, forked=True)
    assert psutil.Process(pid).ppid() == os.getpid(), "spawned, as ever"
    assert ready.alive
    for _ in range(fork_server_client._OTHERS - 1):
        found = fork_server_client._found(launchers.environment())
    assert found is not None
    assert found is not ready
    assert until(lambda: not ready.alive)


def test_a_server_that_died_or_hangs_is_done_without(ready: fork_server_client.Server, job: JobFolder) -> None:
    ready.process.kill()
    ready.process.wait()
    pid = launchers.start(job, SLEEPER, forked=True)
    assert psutil.Process(pid).ppid() == os.getpid()
    job.kill()
    assert until(lambda: not job.alive())
    fresh = fork_server_client._server
    assert fresh is not None
    assert until(fresh.ready)
    os.kill(fresh.process.pid, signal.SIGSTOP)
    pid = launchers.start(job, SLEEPER, forked=True)
    assert psutil.Process(pid).ppid() == os.getpid()


def test_a_fork_that_nobody_waits_for_any_more_does_nothing(ready: fork_server_client.Server, job: JobFolder) -> None:
    """What a server that answers too late leaves behind."""
    import socket

    from sft_magics.engine.runtime import fork_server

    lock, (gate, opener) = job.claim(), os.pipe()
    assert lock is not None
    order = fork_server.order(SLEEPER, str(job.path), launchers.environment())
    with job.log.open("ab") as log:
        socket.send_fds(ready._line, [order], [lock, log.fileno(), gate])
    pid = int(ready._line.recv(32))
    for handle in (lock, gate, opener):
        os.close(handle)
    assert until(lambda: not psutil.pid_exists(pid))
    assert not job.alive()
    assert not (job.path / "ready").exists()


def test_it_can_be_forbidden_and_needs_room(
    ready: fork_server_client.Server, job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_FORK_SERVER", "0")
    pid = launchers.start(job, SLEEPER, forked=True)
    assert psutil.Process(pid).ppid() == os.getpid() != ready.process.pid
    monkeypatch.delenv("SFT_FORK_SERVER")
    fork_server_client.stop()
    with monkeypatch.context() as full:
        full.setattr(fork_server_client, "_LEAST_FREE", 1 << 60)
        assert fork_server_client._found(launchers.environment()) is None
    # A container of 2 GB on a large machine, as Binder has them.
    monkeypatch.setattr(free_memory, "_containers", lambda: iter([2 << 30]))
    assert fork_server_client._found(launchers.environment()) is None


def test_nothing_is_left_when_the_notebook_is_killed_but_what_shall_stay(tmp_path: Path) -> None:
    jobs = [JobFolder(tmp_path / f"job-{n}").create({"kind": "sleep"}) for n in range(2)]
    words = [sys.executable, "-m", "tests.engine.starter", *(str(job.path) for job in jobs)]
    env = {k: v for k, v in os.environ.items() if k != "SFT_FORK_SERVER"}
    notebook = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env)
    assert notebook.stdout is not None
    kept, bound, server = map(int, notebook.stdout.readline().split())
    try:
        assert psutil.Process(kept).ppid() == psutil.Process(bound).ppid() == server
        notebook.kill()
        notebook.wait()
        assert until(lambda: not psutil.pid_exists(server))
        assert until(lambda: not jobs[1].alive(), 5.0)
        assert jobs[0].alive()
    finally:
        for job in jobs:
            job.kill()


def test_the_server_starts_no_thread_and_touches_no_device() -> None:
    """Else its forks could hang, or find the device taken."""
    code = (
        "import importlib, os\n"
        "from sft_magics.engine.runtime import fork_server_client\n"
        "os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'\n"
        "[importlib.import_module(m) for m in fork_server_client.PRELOADED]\n"
        "import torch\n"
        "names = {open(f'/proc/self/task/{t}/comm').read().strip() for t in os.listdir('/proc/self/task')}\n"
        "print(len(os.listdir('/proc/self/task')), *sorted(names - {'python'}), torch.cuda.is_initialized())"
    )
    env = {**os.environ, **launchers.ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    # jemalloc, which pyarrow brings, makes its thread anew in a fork; another one would be missing there.
    assert done.stdout.split() == ["2", "jemalloc_bg_thd", "False"]


def test_an_interrupt_while_it_forks_ends_the_server(
    ready: fork_server_client.Server, job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the answer that comes later would be taken for that to the next order."""

    class Interrupted:
        def __getattr__(self, name: str) -> object:
            return getattr(ready_line, name)

        def recv(self, _: int) -> bytes:
            raise KeyboardInterrupt

    ready_line = ready._line
    monkeypatch.setattr(ready, "_line", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        launchers.start(job, SLEEPER, forked=True)
    assert until(lambda: not ready.alive)
    assert until(lambda: not job.alive())
    assert not (job.path / "ready").exists()


def test_a_job_that_dies_with_the_notebook_outlives_the_server(
    ready: fork_server_client.Server, job: JobFolder
) -> None:
    launchers.start(job, SLEEPER, keep=False, forked=True)
    assert until((job.path / "ready").exists)
    ready.end()
    assert until(lambda: not ready.alive)
    assert not until(lambda: not job.alive(), 2.5)
