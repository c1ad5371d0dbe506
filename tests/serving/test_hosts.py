"""The process of a version may end at any moment: no request fails for it, and none outlives the endpoint."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from sft_magics.core.records import Endpoint
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.sampling import Sampling
from sft_magics.notebook import panels
from sft_magics.serving.client import lifecycle
from sft_magics.serving.hosts import process
from sft_magics.serving.hosts.hosted import HostDied, HostDown, RemotePredictor
from sft_magics.serving.hosts.lines import MessageChannel
from sft_magics.serving.hosts.starting import Starter
from sft_magics.serving.testing import DIES_ON, FAILS_ON, EchoPredictor
from tests.serving.house import LABELS, House, ask, hosts, parent, until
from tests.serving.test_under_load import Load

KILLS = 200 if os.environ.get("SFT_SOAK") == "full" else 5


@pytest.mark.slow
def test_a_process_killed_under_load_fails_no_request(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.005))
    with Load(endpoint) as load:
        for _ in range(KILLS):
            load.wait_for(len(load.seen) + 100)
            (host,) = hosts(endpoint)
            host.kill()
            load.wait_for(len(load.seen) + 50)
    assert load.broken == []
    assert Counter(status for status, *_ in load.seen) == {200: len(load.seen)}
    assert len(hosts(endpoint)) == 1
    now = lifecycle.endpoint(house.ws, "demo")
    assert now.restarts == KILLS, "each is told, to whoever looks"
    assert f"<dd>{KILLS} times</dd>" in str(panels.html(now))
    said = (Path(endpoint.folder) / "events.jsonl").read_text()
    assert said.count("was gone; another one answers") == KILLS


def test_a_process_that_ends_while_nobody_asks_is_replaced_at_once(house: House) -> None:
    endpoint = house.start()
    (host,) = hosts(endpoint)
    host.kill()
    until(lambda: [h.pid for h in hosts(endpoint)] not in ([], [host.pid]))
    until(lambda: lifecycle.endpoint(house.ws, "demo").restarts == 1)
    assert ask(endpoint, "POST", "/predict", {"inputs": "a film"})[0] == 200


def test_what_ends_every_process_is_said_and_takes_nobody_with_it(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.1))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(_status(endpoint, "a film"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    status, reply = ask(endpoint, "POST", "/predict", {"inputs": DIES_ON})
    for thread in threads:
        thread.join()
    assert status == 500
    assert "process" in reply["error"]
    assert found == [200] * 4
    assert _status(endpoint, "a film") == 200


def _status(endpoint: Endpoint, text: str) -> int:
    return ask(endpoint, "POST", "/predict", {"inputs": text})[0]


def test_a_text_goes_on_where_the_process_ended(house: House) -> None:
    endpoint = house.start_task("causal-lm", seconds=0.02)
    words = " ".join(f"word{i}" for i in range(60))
    killer = threading.Timer(0.5, hosts(endpoint)[0].kill)
    killer.start()
    body = {"model": "m", "messages": [{"role": "user", "content": words}]}
    status, reply = ask(endpoint, "POST", "/v1/chat/completions", body)
    killer.join()
    assert status == 200
    assert reply["choices"][0]["message"]["content"] == words


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_endpoint_takes_its_processes_with_it(house: House, number: signal.Signals) -> None:
    endpoint = house.start()
    (host,) = hosts(endpoint)
    os.kill(house.job().pid() or 0, number)
    until(lambda: not parent(host))


@pytest.mark.slow
def test_torch_is_there_again_without_being_imported(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_magics.engine import tasks

    monkeypatch.setenv("SFT_FORK_SERVER", "0")  # this process may have one, with torch for whatever it forks
    folder = tmp_path / "m-1"
    base = {"kind": "folder", "path": str(fetch("minilm"))}
    tasks.find("text-classification").load(base, list(LABELS), {"seed": 1}).save(folder)
    endpoint = house.start(folder=folder, threads=1, seconds=180.0)
    before = ask(endpoint, "POST", "/predict", {"inputs": "a film"})
    (host,) = hosts(endpoint)
    host.kill()
    after = ask(endpoint, "POST", "/predict", {"inputs": "a film"})
    assert (before[0], after[0]) == (200, 200)
    assert after[1]["predictions"][0]["scores"] == before[1]["predictions"][0]["scores"]
    stats = ask(endpoint, "GET", "/stats")[1]
    assert stats["restarts"] == 1
    assert min(stats["spent_ms"][part] for part in ("queue", "preprocess", "model", "total")) > 0
    (another,) = hosts(endpoint)
    forker = another.parent()
    assert forker is not None
    assert "sft_magics.engine.runtime.fork_server" in forker.cmdline()
    maps = Path(f"/proc/{house.job().pid()}/maps").read_text()
    assert "libtorch" not in maps, "the endpoint itself needs no torch"
    os.kill(house.job().pid() or 0, signal.SIGKILL)
    for each in (another, forker):
        until(lambda p=each: not parent(p))  # type: ignore[misc]


# One version, without an endpoint around it.


def test_errors_come_back_as_what_they_were(tmp_path: Path) -> None:
    version = RemotePredictor(
        Starter("text-classification").start, EchoPredictor.save(tmp_path / "v", LABELS), 1, "torch"
    )
    with pytest.raises(Exception, match="asked to fail") as caught:
        version.scores([FAILS_ON])
    assert type(caught.value).__name__ == "RuntimeError"
    with pytest.raises(Exception, match="writes no text"):
        next(version.stream("a", Sampling()))
    assert version.scores(["a film"]) == [[0.8, pytest.approx(0.2)]]
    with pytest.raises(HostDied):
        version.scores([DIES_ON])
    assert version.scores([b"\0\xff", "positive"]) == [[0.8, pytest.approx(0.2)], [pytest.approx(0.2), 0.8]]
    assert version.restarts == 2


def test_a_version_that_can_have_no_process_says_so_and_comes_back(tmp_path: Path) -> None:
    starter = Starter("text-classification")
    down = threading.Event()

    def start(torch: bool) -> object:
        if down.is_set():
            raise BlockingIOError("no processes left")
        return starter.start(torch)

    version = RemotePredictor(start, EchoPredictor.save(tmp_path / "v", LABELS), 1, "torch")  # type: ignore[arg-type]
    down.set()
    with pytest.raises(HostDown):
        version.scores([DIES_ON])
    with pytest.raises(HostDown, match="no processes left"):
        version.scores(["a film"])
    assert version.restarts == 1, "it is not tried again at every request"
    down.clear()
    until(version.look_after)
    assert len(version.scores(["a film"])) == 1


def test_a_version_that_does_not_load_any_more_has_no_empty_process(tmp_path: Path) -> None:
    folder = EchoPredictor.save(tmp_path / "v", LABELS)
    version = RemotePredictor(Starter("text-classification").start, folder, 1, "torch")
    settings = (folder / "echo.json").read_text()
    (folder / "echo.json").write_text("{}")
    with pytest.raises(HostDown, match="KeyError"):
        version.scores([DIES_ON])
    (folder / "echo.json").write_text(settings)
    until(version.look_after)
    assert len(version.scores(["a film"])) == 1


def test_an_answer_that_cannot_be_sent_is_the_models_failure() -> None:
    from sft_magics.serving.hosts.lines import MessageChannel
    from sft_magics.serving.hosts.process import _send

    ours, theirs = socket.socketpair()
    near, far = MessageChannel(ours.detach()), MessageChannel(theirs.detach())
    _send(far, ("said", [1.0, {2.0}]))
    kind, told = near.receive()
    assert (kind, told["kind"]) == ("raised", "TypeError")


def test_a_host_ends_with_whoever_started_it(tmp_path: Path) -> None:
    folder = EchoPredictor.save(tmp_path / "v", LABELS)
    script = (
        "import sys, time, psutil\nfrom pathlib import Path\n"
        "from sft_magics.serving.hosts.hosted import RemotePredictor\n"
        "from sft_magics.serving.hosts.starting import Starter\n"
        "made = RemotePredictor(Starter('text-classification').start, Path(sys.argv[1]), 1, 'torch')\n"
        "print(*[c.pid for c in psutil.Process().children()], flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        (pid,) = owner.stdout.readline().split()
        owner.kill()
    until(lambda: not psutil.pid_exists(int(pid)))


def test_versions_that_are_not_used_any_more_have_no_process(house: House) -> None:
    from sft_magics.serving.client import lifecycle

    endpoint = house.start()
    (first,) = hosts(endpoint)
    lifecycle.swap(house.ws, "demo", ref="m:2", version="m:2", folder=house.version(2), labels=LABELS)
    assert ask(endpoint, "POST", "/predict", {"inputs": "a film"})[1]["version"] == "m:2"
    until(lambda: len(hosts(endpoint)) == 1)
    assert hosts(endpoint)[0].pid != first.pid
    began = time.monotonic()
    while time.monotonic() - began < 1.5:  # it is not taken for one that was lost
        assert len(hosts(endpoint)) == 1
        time.sleep(0.1)


def test_a_process_gives_memory_back_when_it_is_quiet_and_now_and_then_under_load(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    monkeypatch.setattr(process.malloc_trim, "give_back", lambda: given.append(time.monotonic()))
    monkeypatch.setattr(process, "_QUIET_SECONDS", 0.3)
    monkeypatch.setattr(process, "_BUSY_SECONDS", 0.2)
    ours, theirs = socket.socketpair()
    line, other = MessageChannel(ours.detach()), MessageChannel(theirs.detach())

    def serve() -> None:
        with contextlib.suppress(EOFError):
            process.serve(other)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        line.send("load", str(house.version(1)), 1, "torch")
        assert line.receive()[0] == "said"
        until(lambda: len(given) == 1)
        time.sleep(0.7)
        assert len(given) == 1, "once, and then it waits"
        begun = time.monotonic()
        while time.monotonic() < begun + 1.0:
            line.send("scores", ["a"])
            assert line.receive()[0] == "said"
            time.sleep(0.01)
        assert 2 <= len(given) <= 8, "about every fifth of a second"
    finally:
        line.close()
        thread.join(10)
    assert not thread.is_alive()
