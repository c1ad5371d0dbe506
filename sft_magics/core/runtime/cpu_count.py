"""How many threads gain anything here: what a process may use of the processor."""

import os
import sys
from pathlib import Path


def usable() -> int:
    """Return the physical cores this process may use: its affinity, cut to a container's CPU quota.

    Two threads of one core share its multipliers, so matrix products gain nothing from the second.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota()))


def _siblings(cpu: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota() -> int:
    """Return the whole cores a container's CPU quota allows (cgroup v2, else v1); a large number without one."""
    base = Path("/sys/fs/cgroup")
    try:
        if (base / "cpu.max").exists():
            quota, period = (base / "cpu.max").read_text().split()
        else:
            quota, period = ((base / "cpu" / f"cpu.cfs_{part}_us").read_text() for part in ("quota", "period"))
        cores = int(quota) // int(period)  # "max" and -1 mean no quota
    except (OSError, ValueError):
        return sys.maxsize
    return cores if int(quota) > 0 else sys.maxsize
