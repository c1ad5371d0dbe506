"""Moments as people write them: `2026-11-17`, `2026-11-17 14:30`, or how long ago: `90m`, `2h`, `3d`."""

import datetime
import re
import time

from sft_magics.core import errors

_AGO = re.compile(r"(\d{1,6})\s*(m|h|d|w)(?:in|ours?|ays?|eeks?)?(?:\s+ago)?")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse(text: str) -> float:
    """Return a moment in seconds since the epoch; a date alone is the end of that day. Raises UsageProblem."""
    if found := _AGO.fullmatch(text.strip()):
        return time.time() - int(found[1]) * _SECONDS[found[2]]
    try:
        read = datetime.datetime.fromisoformat(text.strip())
        if len(text.strip()) <= len("2026-11-17"):
            read = read.replace(hour=23, minute=59, second=59, microsecond=999_999)
        return read.timestamp()
    except (ValueError, OverflowError, OSError):
        raise errors.UsageProblem(
            f"'{text[:40]}' is no moment: it reads 2026-11-17, \"2026-11-17 14:30\", or 2h, 3d for so long ago.",
            'write for example --at "2026-11-17 14:30".',
        ) from None
