"""A version in a host, as the endpoint sees it: it answers even where its process does not live to do so."""

import itertools
import logging
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft_magics.core import errors
from sft_magics.core.sampling import Piece, Sampling
from sft_magics.serving.hosts.lines import MessageChannel
from sft_magics.serving.hosts.starting import Start, is_gone
from sft_magics.serving.predictor import needs_torch

_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between tries to start a process; each doubles them
_log = logging.getLogger(__name__)


class HostDied(Exception):
    """The process of a version ended while it was asked, and so did the next one."""


class HostDown(Exception):
    """There is no process for a version, and none can be started now."""


class ModelFailed(Exception):
    """A model raised what is no user's problem; the error's own class is one derived from this, of the same name."""


class RemotePredictor:
    """A `serving.predictor.Predictor` whose model lies in another process; used in one thread once it is loaded.

    Of the last answer `spent` has the milliseconds by part, and `unread` the tokens beyond what the version reads, by
    the input's place; `restarts` counts how often its process had to be replaced.
    """

    def __init__(self, start: Start, folder: Path, threads: int | None, engine: str) -> None:
        """Load the version that lies in `folder`; raises ModelProblem, EndpointProblem, what the engine raises."""
        self.spent: dict[str, float] = {}
        self.unread: dict[int, int] = {}
        self.restarts = 0
        self._start, self._torch = start, needs_torch(folder, engine)
        self._order = ("load", str(folder), threads, engine)
        self._line: MessageChannel | None = None
        self._generation = 0
        self._down: HostDown | None = None  # why the last try to replace the process failed
        self._pause, self._not_before = _PAUSE, 0.0
        self._keys = itertools.count()
        self._closed: deque[int] = deque()  # texts that nobody wants the rest of; told with the next message
        try:
            known = self._begin()
        except HostDown as error:
            raise errors.EndpointProblem(
                f"No process can hold the version in {folder.name}: {error}.",
                "%sft_doctor shows the memory that is free.",
            ) from error
        self.task: str = known["task"]
        self.labels: Sequence[str] = tuple(known["labels"])

    def scores(self, inputs: list[Any]) -> list[Any]:
        """Return what is said of each input; raises HostDied where two processes ended over them, HostDown."""
        try:
            said, self.spent, unread = self._call("scores", inputs)
        except HostDied:
            self._revive()
            said, self.spent, unread = self._call("scores", inputs)
        self.unread = dict(unread)
        found: list[Any] = said
        return found

    def stream(self, text: str, how: Sampling) -> Iterator[Piece]:
        """Write a text piece by piece; a process that follows another writes it again, and goes on where that ended.

        Raises ModelProblem where it does not write the same, HostDied and HostDown as `scores` does.
        """
        told: list[Piece] = []
        try:
            yield from self._written(text, how, told)
        except HostDied:
            if is_gone_or_none(self._line):
                self._revive()
            yield from self._written(text, how, told)

    def look_after(self) -> bool:
        """Replace a process that ended while nobody asked it; say whether that was so. Raises HostDown."""
        waits = self._down is not None and time.monotonic() < self._not_before
        if waits or not is_gone_or_none(self._line):
            return False
        self._revive()
        return True

    def _written(self, text: str, how: Sampling, told: list[Piece]) -> Iterator[Piece]:
        if self._line is None:
            self._revive()
        generation, key = self._generation, next(self._keys)
        self._call("stream", key, text, asdict(how))
        try:
            for i in itertools.count():
                if generation != self._generation:
                    raise HostDied
                piece = Piece(**self._call("next", key))
                if i >= len(told):
                    told.append(piece)
                    yield piece
                elif piece.text != told[i].text:
                    raise errors.ModelProblem(
                        "The model's process ended, and the next one writes another text.", "ask again."
                    )
                if piece.ended:
                    return
        finally:
            if generation == self._generation:
                self._closed.append(key)

    def _begin(self) -> dict[str, Any]:
        """Start a process and let it load the version."""
        try:
            line = self._start(self._torch)
        except OSError as error:
            raise HostDown(f"no process can be started: {error}") from error
        self._line = line
        weakref.finalize(self, line.close)
        try:
            known: dict[str, Any] = self._call(*self._order)
        except HostDied as error:
            raise HostDown("its process ended while it loaded the version") from error
        except Exception:  # one that holds no version is of no use
            line.close()
            self._line = None
            raise
        return known

    def _revive(self) -> None:
        """Replace the process; raises HostDown, for a while without another try where the last one failed."""
        began = time.monotonic()
        if self._down is not None and began < self._not_before:
            raise self._down
        self.restarts += 1
        self._generation += 1
        self._closed.clear()
        try:
            self._begin()
        except Exception as error:
            self._down = error if isinstance(error, HostDown) else HostDown(f"{type(error).__name__}: {error}")
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._not_before = time.monotonic() + self._pause
            _log.error("no process for a version: %s; the next try in %.0f s", self._down, self._pause)
            raise self._down from error
        self._down, self._pause = None, _PAUSE
        _log.warning("the process of a version was gone; another one answers, %.1f s later", time.monotonic() - began)

    def _call(self, *message: Any) -> Any:
        """Send a message and return what is said to it; raises HostDied, and what the model raises."""
        if self._line is None:
            self._revive()
        line = self._line
        assert line is not None
        try:
            while self._closed:
                line.send("close", self._closed.popleft())
            line.send(*message)
            kind, value = line.receive()
        except (EOFError, OSError) as error:
            line.close()
            self._line = None
            raise HostDied from error
        if kind == "raised":
            raise _error(value)
        return value


def _error(told: dict[str, str]) -> Exception:
    """Return an error of a host as one of this process: a user's problem as it is, any other as a ModelFailed."""
    kind = getattr(errors, told["kind"], None)
    if "next_step" in told and isinstance(kind, type) and issubclass(kind, errors.SftError):
        return kind(told["what"], told["next_step"])
    named: type[Exception] = type(told["kind"], (ModelFailed,), {})
    return named(told["what"])


def is_gone_or_none(line: MessageChannel | None) -> bool:
    """Say whether nobody is at the other end of a line, or there is none."""
    return line is None or is_gone(line)
