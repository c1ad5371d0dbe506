"""Moments as text, in the local time zone; records may hold times that no clock can show."""

import time


def clock_time(at: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return seconds since the epoch as text; "an unknown time" where the platform's calendar does not reach."""
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "an unknown time"
