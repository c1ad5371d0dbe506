"""A table as columns, whatever file or frame it came from."""

from dataclasses import dataclass, field
from typing import Any

from sft_magics.datasets.pictures.image_files import NONE_KEPT, Kept


@dataclass(frozen=True)
class Columns:
    """A table as plain lists: `values` maps each column's name to its cells, None where a cell is missing.

    `declared` holds, for a categorical column, every class its type declares, met or not. `headed` says that the names
    are the first line of a text file, `kept` what is known of pictures that came without files.
    """

    where: str
    values: dict[str, list[Any]]
    declared: dict[str, list[Any]] = field(default_factory=dict)
    headed: bool = False
    kept: Kept = NONE_KEPT

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))
