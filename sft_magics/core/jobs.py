"""The folder of a job: what it shall do, what it said, whether it lives, what it was told.

spec.json      the order, JSON; paths inside the workspace are relative (see `portable`)
events.jsonl   what it says (see `events`)
alive.lock     held by the process for its whole life: the OS frees it however the process dies
pid            its process id, written by whoever launched it
orders.jsonl   what it was told (see `commands`); edits.json has those edits of a run that it has taken up
output.log     its stdout and stderr
result.json    what it returns, where it returns something
"""

import contextlib
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_magics.core import codec, commands, errors, portable
from sft_magics.core.commands import AppliedEdit, CommandQueue
from sft_magics.core.events import Event, EventReader
from sft_magics.core.workspace import is_locked, try_lock, write_durably


@dataclass(frozen=True)
class JobFolder:
    """A run, an evaluation or a prediction, seen from outside or from inside its process."""

    path: Path

    @property
    def id(self) -> str:
        """The folder's name, such as `run-7f3a`."""
        return self.path.name

    @property
    def events(self) -> Path:
        """The events file."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """The process's stdout and stderr."""
        return self.path / "output.log"

    def create(self, spec: dict[str, Any]) -> "JobFolder":
        """Make the folder with its order in it, durably; raises WorkspaceProblem."""
        try:
            self.path.mkdir(parents=True, mode=0o700)
            self.write_spec(spec)
        except OSError as error:
            raise errors.from_os_error(error, f"writing {self.path.name}") from error
        return self

    @property
    def root(self) -> Path:
        """The workspace that the folder lies in, two levels up: `runs/run-7f3a`, `endpoints/reviews`."""
        return self.path.parent.parent

    def write_spec(self, spec: dict[str, Any]) -> None:
        """Write the order durably, paths inside the workspace relative to it; raises OSError."""
        kept = portable.packed(codec.plain(spec), self.root)
        write_durably(self.path / "spec.json", codec.dumps(kept).encode())

    def spec(self) -> dict[str, Any]:
        """Return the order."""
        found: dict[str, Any] = portable.unpacked(self._json("spec.json") or {}, self.root)
        return found

    def result(self) -> dict[str, Any] | None:
        """Return what the job returned, if it did."""
        return self._json("result.json")

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            data = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    def finish(self, result: dict[str, Any]) -> None:
        """Write what the job returns, durably."""
        write_durably(self.path / "result.json", codec.dumps(result).encode())

    def history(self) -> list[Event]:
        """Return everything the job has said so far."""
        return list(EventReader(self.events).read())

    def claim(self) -> int | None:
        """Take the life lock for this process; None if another process already lives for this job."""
        return try_lock(self.path / "alive.lock")

    def alive(self) -> bool:
        """Say whether a process lives for this job."""
        return is_locked(self.path / "alive.lock")

    @property
    def orders(self) -> CommandQueue:
        """What it was told."""
        return CommandQueue(self.path / "orders.jsonl")

    def tell(self, order: dict[str, Any]) -> None:
        """Leave an order for the process, such as {"do": "stop"}; raises WorkspaceProblem where it cannot be kept."""
        try:
            self.orders.tell(order)
        except OSError as error:
            raise errors.from_os_error(error, f"telling {self.id}") from error

    def told(self) -> str:
        """Return what it was told to do and has not done yet: "stop", "pause", "keep", or an empty string."""
        return self.orders.told().do

    def forget_orders(self) -> None:
        """Say that what was told is carried out; edits stay."""
        if self.told():
            self.tell({"do": "forget"})

    def taken(self) -> list[AppliedEdit]:
        """Return the edits that it has taken up; none where the file cannot be read, which its process then says."""
        try:
            return commands.taken(self.path / "edits.json")
        except (ValueError, TypeError):
            return []

    def pid(self) -> int | None:
        """Return the process id of the newest launch, if there was one."""
        try:
            return int((self.path / "pid").read_text())
        except (OSError, ValueError):
            return None

    def terminate(self) -> bool:
        """Send the process SIGTERM, which asks it to stop; False if there is none but this one."""
        pid = self.pid()
        if not pid or pid == os.getpid() or not self.alive():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return True

    def kill(self) -> None:
        """End the process at once (its whole group), if it lives."""
        pid = self.pid()
        if pid and pid != os.getpid() and self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def last_words(self, lines: int = 3) -> str:
        """Return the last lines the process printed, for a message about its death."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:])
