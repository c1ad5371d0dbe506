"""How many bytes a workspace takes: measured when work ends, kept, and read from there.

To walk a workspace with many pictures takes seconds, and the board asks at each look. So whoever has written or removed
much measures, and readers get the kept number with the moment it is from.
"""

import contextlib
import json
import time
from dataclasses import dataclass

from sft_magics.core.workspace import Workspace, write_durably

_FILE = "usage.json"


@dataclass(frozen=True)
class Usage:
    """The bytes on disk, and when they were counted, in seconds since the epoch."""

    bytes: int
    at: float


def measure(ws: Workspace) -> Usage:
    """Count the bytes of a workspace now and keep the number; a disk that refuses keeps none."""
    found = Usage(ws.disk_bytes(), time.time())
    with contextlib.suppress(OSError):
        write_durably(ws.root / _FILE, json.dumps({"bytes": found.bytes, "at": found.at}).encode())
    return found


def known(ws: Workspace) -> Usage:
    """Return the number that was kept last; count where there is none."""
    try:
        data = json.loads((ws.root / _FILE).read_bytes())
        return Usage(int(data["bytes"]), float(data["at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return measure(ws)
