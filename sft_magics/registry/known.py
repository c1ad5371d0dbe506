"""What this process knows of the registries it has read, so that the next read goes on from there."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from sft_magics.registry.frames import Frame
from sft_magics.registry.state import State


@dataclass(frozen=True)
class Known:
    """A state and where in which file it was read: `stamp` of the journal, its last frame, and where that ends."""

    stamp: tuple[int, ...]
    last: Frame
    state: State
    base: int  # the sequence at which the journal begins
    snapshot: int  # and that of the snapshot, with its size
    size: int


class Cache:
    """What this process knows of each registry: the few it used last."""

    def __init__(self) -> None:
        self._known: dict[Path, Known] = {}
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()

    def get(self, path: Path) -> Known | None:
        """Return what is known of the registry at `path`."""
        return self._known.get(path)

    def put(self, path: Path, known: Known | None) -> None:
        """Remember what is known, or forget it."""
        with self._lock:
            self._known.pop(path, None)
            if known is not None:
                self._known[path] = known
            while len(self._known) > 8:
                del self._known[next(iter(self._known))]


cache = Cache()
