"""What a job says as it works: typed values, one JSON line each, appended to a file that every view folds.

The writer appends whole lines with one `write` call; those that matter for recovery are synced to the disk before the
call returns. The reader follows by offset and leaves a line that is not finished for its next look, so a process that
is killed in the middle of a line harms nothing.
"""

import dataclasses
import errno
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sft_magics.core import codec


@dataclass(frozen=True)
class Event:
    """The common part: `at` is seconds since the epoch."""

    at: float = field(default_factory=time.time, kw_only=True)


@dataclass(frozen=True)
class Queued(Event):
    """The job waits; `behind` names the run that holds the device."""

    behind: str


@dataclass(frozen=True)
class TakenUp(Event):
    """The job begins again after it had ended; written by whoever launches it, before its process speaks."""


@dataclass(frozen=True)
class Started(Event):
    """The process has begun; what it computes on is not known before torch is there."""

    what: str
    pid: int
    host: str = ""


@dataclass(frozen=True)
class RunPlanned(Event):
    """The training plan: `steps` optimizer steps over `epochs` epochs on `device`; a checkpoint gave `resumed_at`."""

    steps: int
    epochs: float
    rows: int
    batch: int
    lr: float
    resumed_at: int = 0
    validation_rows: int = 0
    padding_waste: float = 0.0
    device: str = ""
    precision: str = ""
    threads: int = 0


@dataclass(frozen=True)
class StepDone(Event):
    """One or more optimizer steps; `loss` is their mean, `lr` the rate used, `rows_per_second` a moving average."""

    step: int
    epoch: float
    loss: float
    lr: float
    rows_per_second: float
    seconds_left: float
    memory_mb: float


@dataclass(frozen=True)
class EpochDone(Event):
    """An evaluation on the validation split; `metrics` has at least accuracy and f1 for classifiers."""

    step: int
    epoch: float
    train_loss: float
    validation_loss: float
    metrics: dict[str, float]
    best: bool


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint lies durably in `path` (relative to the job folder); `why`: epoch (evaluated), time, stop."""

    step: int
    path: str
    why: str


@dataclass(frozen=True)
class Edited(Event):
    """From `step` on the run goes by other options: `changes` maps each to what it was and is; `who` told it so.

    `steps` and `epochs` are the plan's from now on.
    """

    step: int
    changes: dict[str, Any]
    steps: int
    epochs: float
    who: str = ""


@dataclass(frozen=True)
class Remark(Event):
    """A sentence for the user; `level` is "info", "warning" or "problem".

    `epoch` dates what an evaluation showed. A remark on a `topic` takes the place of the one before it.
    """

    level: str
    text: str
    epoch: float | None = None
    topic: str = ""


@dataclass(frozen=True)
class Withdrawn(Event):
    """What the last remark on this `topic` said no longer holds."""

    topic: str


@dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` units of `what`; total 0 means it is not known."""

    what: str
    done: int
    total: int = 0


@dataclass(frozen=True)
class Heartbeat(Event):
    """The process is alive though it has nothing to say."""


@dataclass(frozen=True)
class Committed(Event):
    """The version is in the registry."""

    version: str


@dataclass(frozen=True)
class Ended(Event):
    """The last line: `state` is done, paused, interrupted or failed; `why` and `next_step` are for the user.

    `concern` is a sentence where a run is done and what it made is of no use: no better than a constant answer.
    """

    state: str
    why: str = ""
    next_step: str = ""
    problem: str = ""
    concern: str = ""


KINDS: dict[str, type[Event]] = {c.__name__: c for c in Event.__subclasses__()}
_DURABLE = (CheckpointSaved, Edited, EpochDone, Committed, Ended, Started)


class Sink(Protocol):
    """Where a worker says things. The answer is "stop" when it shall checkpoint and end, else an empty string."""

    def __call__(self, event: Event) -> str: ...


def encode(event: Event) -> str:
    """Return the event as one line of JSON, without the newline."""
    return codec.dumps({"kind": type(event).__name__, **dataclasses.asdict(event)})


def decode(line: str) -> Event | None:
    """Return the event in `line`, or None when its kind is not known or the line is damaged."""
    try:
        data: dict[str, Any] = json.loads(line)
        return codec.build(KINDS[data.pop("kind")], data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class EventWriter:
    """Appends events to `path`; a line that a dead process or a full disk left unfinished is ended first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_APPEND | os.O_RDWR | os.O_CREAT, 0o600)
        size = os.fstat(self._fd).st_size
        self._torn = bool(size) and os.pread(self._fd, 1, size - 1) != b"\n"

    def write(self, event: Event) -> None:
        """Append one event; raises OSError when the disk refuses."""
        line = b"\n" * self._torn + encode(event).encode() + b"\n"
        written = os.write(self._fd, line)
        self._torn = written < len(line)
        if self._torn:  # a full disk takes a part of the line; the next one must not be glued to it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if isinstance(event, _DURABLE):
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class EventReader:
    """Follows an events file by offset; `read` yields what was added since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[Event]:
        """Yield each new complete event; a missing file yields nothing."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                block = file.read()
        except FileNotFoundError:
            return
        whole = block[: block.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            event = decode(line.decode("utf-8", "replace"))
            if event is not None:
                yield event
