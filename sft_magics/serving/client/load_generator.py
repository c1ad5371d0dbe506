"""Asking an endpoint from many connections at once for a while, to see what it can do. It stops by itself."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sft_magics.core import errors
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Endpoint
from sft_magics.serving.addresses import Address

_PATIENCE = 120.0  # seconds that an answer may take
_PART = re.compile(r"(\w+);dur=([\d.]+)")
_LENGTH, _TIMING = "content-length", "server-timing"


@dataclass(frozen=True)
class Question:
    """What is posted to /predict: the bytes, and of which kind they are."""

    body: bytes
    kind: str = "application/json"


@dataclass
class Driven:
    """What was seen: milliseconds of each answer, those of its parts as the endpoint tells them, refusals by status."""

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)

    def add(self, ms: float, status: int, timing: str) -> None:
        """Count one answer."""
        if status != 200:
            self.refused[status] += 1
            return
        self.milliseconds.append(ms)
        for name, value in _PART.findall(timing):
            self.parts.setdefault(name, []).append(float(value))


def drive(endpoint: Endpoint, questions: Sequence[Question], clients: int, seconds: float) -> Driven:
    """Let `clients` connections ask for `seconds`, each the next question when it has its answer.

    What is inside at the end is waited for, and counts. Raises EndpointProblem where the endpoint does not answer.
    """
    token = Path(endpoint.token_file).read_text().strip()
    return asyncio.run(_drive(endpoint, token, questions, clients, seconds))


async def _drive(endpoint: Endpoint, token: str, questions: Sequence[Question], clients: int, seconds: float) -> Driven:
    found, door = Driven(), Address.of(endpoint)
    began = time.perf_counter()

    async def client(number: int) -> None:
        reader, writer = await door.streams()
        try:
            turn = number
            while time.perf_counter() - began < seconds:
                question = questions[turn % len(questions)]
                turn += clients
                sent = time.perf_counter()
                writer.write(_head(door, token, question) + question.body)
                status, timing = await asyncio.wait_for(_answer(reader), _PATIENCE)
                found.add((time.perf_counter() - sent) * 1e3, status, timing)
        finally:
            writer.close()

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(client(number))
    except* (OSError, EOFError, ValueError) as caught:
        error = caught.exceptions[0]
        raise errors.EndpointProblem(
            f"Endpoint {endpoint.name} stopped answering while it was measured ({type(error).__name__}).",
            "%sft_endpoints shows how it stands, %sft_doctor the memory that is free.",
        ) from error
    found.seconds = time.perf_counter() - began
    return found


def _head(door: Address, token: str, question: Question) -> bytes:
    return (
        f"POST /predict HTTP/1.1\r\nHost: {door.host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {question.kind}\r\nContent-Length: {len(question.body)}\r\n\r\n"
    ).encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Read one answer; return its status and what it says of its time. Raises EOFError, ValueError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.split("\r\n")
    known = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    await reader.readexactly(int(known[_LENGTH]))
    return int(status.split(" ", 2)[1]), known.get(_TIMING, "")


def memory_mb(endpoint: Endpoint) -> float:
    """Return the megabytes that an endpoint's processes hold; what they share counts once where the system tells."""
    pid = JobFolder(Path(endpoint.folder)).pid()
    try:
        first = psutil.Process(pid or -1)
        processes = [first, *first.children(recursive=True)]
        return sum(_resident(process) for process in processes) / 1e6
    except (psutil.Error, ValueError):
        return 0.0


def _resident(process: psutil.Process) -> float:
    info = process.memory_full_info()
    return float(getattr(info, "pss", 0) or info.rss)
