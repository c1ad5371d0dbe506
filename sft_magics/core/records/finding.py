"""A finding: something worth knowing about rows."""

from dataclasses import dataclass

from sft_magics.core.records.tabular import Tabular


@dataclass(frozen=True)
class Finding(Tabular):
    """Something a check of the data says; `level` is "info", "warning" or "error"."""

    level: str
    code: str
    message: str
