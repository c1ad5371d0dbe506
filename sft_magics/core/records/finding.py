"""A finding: something worth knowing about rows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something a check of the data says; `level` is "info", "warning" or "error"."""

    level: str
    code: str
    message: str
