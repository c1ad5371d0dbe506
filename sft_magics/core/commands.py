"""What a job is told while it works: numbered orders in a file that only grows, so that none overwrites another.

    {"do": "stop"}      checkpoint and end
    {"do": "pause"}     the same, to go on later
    {"do": "keep"}      commit the best state that is there
    {"do": "edit", "changes": {"lr": 1e-05}, "who": "ann"}
    {"do": "forget"}    what was told before this line is carried out; edits stay

A line is on the disk when `tell` returns. Its number is its place in the file; a line that is damaged has a number and
says nothing. Edits are never forgotten: a run that goes on takes up those it has not yet taken.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_magics.core import codec
from sft_magics.core.workspace import sync_folder

EDITABLE = ("lr", "epochs", "patience", "clip", "checkpoint_seconds")
MORE_EPOCHS = "more_epochs"  # as `--epochs +2` is written down: what it makes of the plan is known when it is taken up
_ENDING = ("stop", "pause")


@dataclass(frozen=True)
class Edit:
    """Options that a run shall go by from now on; `number` is its place among the orders."""

    number: int
    changes: dict[str, float]
    who: str = ""


@dataclass(frozen=True)
class AppliedEdit:
    """An edit that is in force from `step` on: what it made of the options, its order, and who gave that."""

    step: int
    changes: dict[str, Any]
    number: int = -1
    who: str = ""


@dataclass(frozen=True)
class PendingCommands:
    """All that a job was told so far: what it shall do ("" for nothing but its work), and every edit."""

    do: str = ""
    edits: tuple[Edit, ...] = ()

    @property
    def ending(self) -> bool:
        """Whether it shall checkpoint and end."""
        return self.do in _ENDING


Listen = Callable[[], PendingCommands]


def nothing() -> PendingCommands:
    """Answer for a job that nobody can tell anything."""
    return PendingCommands()


@dataclass
class CommandQueue:
    """A file of orders; looking costs one system call while nothing is added."""

    path: Path
    _size: int = field(default=-1, init=False)
    _told: PendingCommands = field(default_factory=PendingCommands, init=False)

    def tell(self, order: dict[str, Any]) -> None:
        """Append an order, durably; raises OSError."""
        new = not self.path.exists()
        fd = os.open(self.path, os.O_APPEND | os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = os.fstat(fd).st_size
            torn = bool(size) and os.pread(fd, 1, size - 1) != b"\n"
            line = b"\n" * torn + codec.dumps(order).encode() + b"\n"
            if os.write(fd, line) < len(line):
                raise OSError(28, os.strerror(28), str(self.path))
            os.fsync(fd)
        finally:
            os.close(fd)
        if new:
            sync_folder(self.path.parent)

    def told(self) -> PendingCommands:
        """Return what was told so far; a missing file is nothing."""
        try:
            size = self.path.stat().st_size
            if size != self._size:
                block = self.path.read_bytes()
                self._told, self._size = fold(block[: block.rfind(b"\n") + 1].splitlines()), size
        except FileNotFoundError:
            self._told, self._size = PendingCommands(), -1
        return self._told


def fold(lines: Sequence[bytes]) -> PendingCommands:
    """Return what these lines tell together. A stop outweighs a pause; else the newer order counts."""
    do, edits = "", []
    for number, line in enumerate(lines):
        order = _read(line)
        kind = order.get("do")
        if kind == "edit":
            edits.append(Edit(number, _numbers(order.get("changes")), str(order.get("who", ""))))
        elif kind == "forget":
            do = ""
        elif isinstance(kind, str) and not (kind == "pause" and do == "stop"):
            do = kind
    return PendingCommands(do, tuple(edits))


def taken(path: Path) -> list[AppliedEdit]:
    """Return the edits that the run of this file has taken up, in their order; none where there is no file."""
    try:
        return [codec.build(AppliedEdit, one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []


def written(edits: Sequence[AppliedEdit]) -> list[dict[str, Any]]:
    """Return edits as the options of a version record them: the step, and the new values."""
    return [{"step": edit.step, **edit.changes} for edit in edits]


def _read(line: bytes) -> dict[str, Any]:
    try:
        order = json.loads(line)
    except ValueError:
        return {}
    return order if isinstance(order, dict) else {}


def _numbers(changes: Any) -> dict[str, float]:
    known = (*EDITABLE, MORE_EPOCHS)
    found = changes if isinstance(changes, dict) else {}
    return {k: v for k, v in found.items() if k in known and isinstance(v, int | float) and not isinstance(v, bool)}
