"""A disk that forgets: records what a program asks of the file system, and rebuilds what a power cut may leave.

The model is that of a journaling file system. Changes of names (create, rename, link, unlink) reach the disk in order,
up to any point at or after the last fsync of their folder. Of the writes to a file since its own last fsync any subset
may have reached it, each of them whole, or in part; a file's length follows the writes that did.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SECTOR = 512


@dataclass
class Recorder:
    """Everything that was done below `root`, in order; `acknowledged` puts a mark between."""

    root: Path
    log: list[tuple[Any, ...]] = field(default_factory=list)
    _fds: dict[int, tuple[str, Any]] = field(default_factory=dict)
    _inodes: dict[str, int] = field(default_factory=dict)
    _made: int = 0

    def acknowledged(self, what: Any) -> None:
        """Say that from here on `what` must survive."""
        self.log.append(("mark", what))

    def patch(self, patched: pytest.MonkeyPatch) -> None:
        """Listen to `os` from now on."""
        for name in ("open", "close", "pwrite", "ftruncate", "fsync", "fdatasync", "replace", "link", "unlink"):
            patched.setattr(os, name, self._listening(getattr(self, f"_on_{name}"), getattr(os, name)))

    def _listening(self, heard: Callable[..., None], call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            found = call(*args, **options)
            heard(found, *args)
            return found

        return wrapped

    def _name(self, path: Any) -> str | None:
        path = Path(path)
        return path.name if path.parent == self.root else None

    def _on_open(self, fd: int, path: Any, flags: int, *_: Any) -> None:
        if Path(path) == self.root:
            self._fds[fd] = ("folder", None)
        name = self._name(path)
        if name is None:
            return
        if name not in self._inodes:
            self._inodes[name] = self._made
            self.log.append(("create", name, self._made))
            self._made += 1
        elif flags & os.O_TRUNC:
            self.log.append(("cut", self._inodes[name], 0))
        self._fds[fd] = ("file", self._inodes[name])

    def _on_close(self, _: None, fd: int) -> None:
        self._fds.pop(fd, None)

    def _on_pwrite(self, written: int, fd: int, data: bytes, at: int) -> None:
        if fd in self._fds:
            self.log.append(("write", self._fds[fd][1], at, bytes(data)[:written]))

    def _on_ftruncate(self, _: None, fd: int, length: int) -> None:
        if fd in self._fds:
            self.log.append(("cut", self._fds[fd][1], length))

    def _on_fsync(self, _: None, fd: int) -> None:
        if fd in self._fds:
            kind, inode = self._fds[fd]
            self.log.append(("folder",) if kind == "folder" else ("sync", inode))

    _on_fdatasync = _on_fsync

    def _on_replace(self, _: None, source: Any, target: Any) -> None:
        source, target = self._name(source), self._name(target)
        if source and target:
            self._inodes[target] = self._inodes.pop(source)
            self.log.append(("rename", source, target))

    def _on_link(self, _: None, source: Any, target: Any, *__: Any) -> None:
        source, target = self._name(source), self._name(target)
        if source and target:
            self._inodes[target] = self._inodes[source]
            self.log.append(("link", source, target))

    def _on_unlink(self, _: None, path: Any) -> None:
        name = self._name(path)
        if name in self._inodes:
            del self._inodes[name]
            self.log.append(("unlink", name))


def after_power_cut(log: list[tuple[Any, ...]], at: int, chance: random.Random) -> tuple[dict[str, bytes], list[Any]]:
    """Return the files that a cut after `at` steps may leave, and the marks set before it."""
    past = log[:at]
    marks = [step[1] for step in past if step[0] == "mark"]
    return _names(past, chance, _contents(past, chance)), marks


def _contents(past: list[tuple[Any, ...]], chance: random.Random) -> dict[int, bytes]:
    surely: dict[int, bytearray] = {}
    waiting: dict[int, list[tuple[Any, ...]]] = {}
    for step in past:
        if step[0] in ("write", "cut"):
            waiting.setdefault(step[1], []).append(step)
        elif step[0] == "sync":
            content = surely.setdefault(step[1], bytearray())
            for done in waiting.pop(step[1], []):
                _apply(content, done)
    for inode, steps in waiting.items():
        content = surely.setdefault(inode, bytearray())
        for step in steps:
            _apply_perhaps(content, step, chance)
    return {inode: bytes(content) for inode, content in surely.items()}


def _apply_perhaps(content: bytearray, step: tuple[Any, ...], chance: random.Random) -> None:
    fate = chance.random()
    if fate < 0.4:
        _apply(content, step)
    elif fate < 0.7:
        _apply(content, _part(step, chance))


def _part(step: tuple[Any, ...], chance: random.Random) -> tuple[Any, ...]:
    """Return a part of a write: its beginning, or some of its sectors with zeros for the others."""
    if step[0] == "cut":
        return step
    _, inode, at, data = step
    if chance.random() < 0.5:
        return ("write", inode, at, data[: chance.randint(0, len(data))])
    parts = bytearray(data)
    for start in range(-(at % SECTOR), len(data), SECTOR):
        if chance.random() < 0.5:
            first, last = max(0, start), min(len(data), start + SECTOR)
            parts[first:last] = bytes(last - first)
    return ("write", inode, at, bytes(parts))


def _apply(content: bytearray, step: tuple[Any, ...]) -> None:
    if step[0] == "cut":
        del content[step[2] :]
        content.extend(bytes(step[2] - len(content)))
        return
    _, _, at, data = step
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


def _names(past: list[tuple[Any, ...]], chance: random.Random, contents: dict[int, bytes]) -> dict[str, bytes]:
    kinds = ("create", "rename", "link", "unlink")
    changes = [i for i, step in enumerate(past) if step[0] in kinds]
    surely = max((i for i, step in enumerate(past) if step[0] == "folder"), default=-1)
    sure, open_ = [i for i in changes if i < surely], [i for i in changes if i > surely]
    found: dict[str, int] = {}
    for i in sure + open_[: chance.randint(0, len(open_))]:
        step = past[i]
        if step[0] == "create":
            found[step[1]] = step[2]
        elif step[0] == "unlink":
            found.pop(step[1], None)
        else:
            inode = found.pop(step[1]) if step[0] == "rename" else found[step[1]]
            found[step[2]] = inode
    return {name: contents.get(inode, b"") for name, inode in found.items()}
