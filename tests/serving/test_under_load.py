"""What holds while many ask at once: swaps lose nothing, an end is polite, too much is refused and nothing grows."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from tests.serving.house import LABELS, House, resident, token, until

pytestmark = pytest.mark.alone

REQUESTS = 1_000_000 if os.environ.get("SFT_SOAK") == "full" else 20_000
SWAPS = 20 if os.environ.get("SFT_SOAK") == "full" else 5


@dataclass
class Load:
    """Connections that ask without pause, until `enough` says so; `seen` has (status, version, asked, answered)."""

    endpoint: Endpoint
    clients: int = 8
    inputs: int = 1
    pause: float = 0.02  # seconds, where it is told to come again
    stop: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[int, str, float, float]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()

    def wait_for(self, count: int, seconds: float = 600.0) -> None:
        end = time.monotonic() + seconds
        while len(self.seen) < count and self._thread.is_alive():
            assert time.monotonic() < end, f"{len(self.seen)} answers in {seconds} s"
            time.sleep(0.01)

    async def _all(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(self.clients)))

    async def _one(self) -> None:
        body = json.dumps({"inputs": ["a film"] * self.inputs}).encode()
        head = (
            f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{self.endpoint.port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {token(self.endpoint)}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.endpoint.port)
        except OSError:
            return
        with contextlib.closing(writer):
            while not self.stop.is_set():
                began = time.monotonic()
                try:
                    writer.write(head + body)
                    status, reply = await _reply(reader)
                except (OSError, asyncio.IncompleteReadError) as error:
                    self.broken.append(type(error).__name__)
                    return
                self.seen.append((status, str(reply.get("version", "")), began, time.monotonic()))
                if status in (429, 503):
                    await asyncio.sleep(self.pause)


async def _reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    return int(head.split(" ", 2)[1]), json.loads(await reader.readexactly(length))


def _swap(house: House, number: int, **settings: float) -> None:
    folder = house.version(number, **settings)
    lifecycle.swap(house.ws, "demo", ref=f"m:{number}", version=f"m:{number}", folder=folder, labels=LABELS)


@pytest.mark.slow
def test_swaps_under_constant_load_fail_no_request(house: House) -> None:
    endpoint = house.start()
    live: list[tuple[str, float, float]] = []  # version, when it may first and last have answered
    began = time.monotonic()
    with Load(endpoint) as load:
        for turn in range(SWAPS):
            load.wait_for((turn + 1) * REQUESTS // (SWAPS + 1))
            asked = time.monotonic()
            _swap(house, turn + 2, load_seconds=1.0)
            live.append((f"m:{turn + 1}", began, time.monotonic()))
            began = asked
        live.append((f"m:{SWAPS + 1}", began, float("inf")))
        load.wait_for(REQUESTS)
    assert load.broken == []
    assert Counter(status for status, *_ in load.seen) == {200: len(load.seen)}
    assert len(load.seen) >= REQUESTS
    allowed = {version: (first, last) for version, first, last in live}
    for _, version, began, answered in load.seen:
        first, last = allowed[version]
        assert answered >= first, "it answered before it was live"
        assert began <= last, "it answered after another was"
    slowest = max(answered - began for _, _, began, answered in load.seen)
    assert slowest < 0.9, "nobody waited for a version to load"
    with lifecycle.prediction_log(house.ws, "demo") as log:
        until(lambda: log.requests() >= len(load.seen))


def test_an_endpoint_that_is_told_to_end_answers_or_says_503(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.01))
    pid = house.job().pid()
    assert pid
    with Load(endpoint) as load:
        load.wait_for(50)
        os.kill(pid, signal.SIGTERM)
        until_gone = time.monotonic() + 40
        while house.job().alive() and time.monotonic() < until_gone:
            time.sleep(0.02)
    counts = Counter(status for status, *_ in load.seen)
    assert set(counts) <= {200, 503}
    assert counts[200] >= 50
    # A connection that lies open is closed at the end; a request that was answered is in the log.
    answered = sum(1 for status, *_ in load.seen if status == 200)
    with lifecycle.prediction_log(house.ws, "demo") as log:
        assert log.requests() >= answered
    assert lifecycle.endpoint(house.ws, "demo").state == "stopped"


def test_too_much_is_refused_and_nothing_grows(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.05))
    with Load(endpoint, clients=64, inputs=256) as load:  # 16,384 inputs want in, and 4,096 may wait
        load.wait_for(200)
        before = resident(endpoint)
        load.wait_for(2_000)
        grown = resident(endpoint) - before
    counts = Counter(status for status, *_ in load.seen)
    assert load.broken == []
    assert set(counts) == {200, 429}
    assert grown < 32 << 20
    # A full queue is worked off in 4,096 / 64 batches of 50 ms; who is let in waits no longer than about that.
    assert _p99(load) < 2 * 4096 / 64 * 0.05


def test_who_is_let_in_when_four_times_too_many_come_waits_less_than_twice_as_long(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.1))
    with Load(endpoint, clients=8, inputs=8) as load:  # what it can just answer: 64 inputs every tenth of a second
        load.wait_for(120)
    usual = _p99(load)
    assert {status for status, *_ in load.seen} == {200}
    with Load(endpoint, clients=64, inputs=8, pause=0.1) as load:
        time.sleep(3.0)  # it is patient for a second, and then answers whom it has let in
        load.seen.clear()
        before = resident(endpoint)
        load.wait_for(2_000)
        grown = resident(endpoint) - before
    counts = Counter(status for status, *_ in load.seen)
    assert load.broken == []
    assert set(counts) == {200, 429}
    assert counts[429] > counts[200]
    assert _p99(load) < 2 * usual
    assert grown < 16 << 20
    with Load(endpoint, clients=8, inputs=8) as load:
        load.wait_for(200)
    assert {status for status, *_ in load.seen[100:]} == {200}, "as before, once fewer come"


def _p99(load: Load) -> float:
    waited = sorted(answered - began for status, _, began, answered in load.seen if status == 200)
    return waited[len(waited) * 99 // 100]
