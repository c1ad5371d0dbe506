"""How much memory may still be taken: what the machine has, no more than a container leaves of it. No torch here."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil


def free_memory() -> int:
    """Return the bytes that are free on this machine, or in the containers around this process if that is less."""
    return max(0, min([int(psutil.virtual_memory().available), *_containers()]))


def _containers() -> Iterator[int]:
    """Yield what each cgroup around this process leaves it; what the files' cache holds there can be had back."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            if kinds in ("", "memory"):
                root = Path("/sys/fs/cgroup") / kinds
                here = root / place.lstrip("/")
                yield from (n for at in (here, *here.parents) if at.is_relative_to(root) for n in _left(at))


def _left(group: Path) -> Iterator[int]:
    for most, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
            limit, taken = (int((group / name).read_text()) for name in (most, used))
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield limit - taken + int(stat.get(cache, 0))
