"""What every reader of a source returns: its rows, one entry a row, and what it says while it reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sft_magics.core.records import Finding

if TYPE_CHECKING:
    from pandas import DataFrame

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Loaded:
    """Labeled texts, one entry a row, in the order of the source.

    `splits` holds train, validation, test or None (not said) a row. `columns` maps text, label and split to the names
    of the source's columns. `empty_classes` are declared by a categorical column and met in no row. For images `texts`
    holds the path of each file, `hashes` its SHA-256, `sides` its shorter side in pixels and `pixels` a hash of what it
    shows, whatever its format. `masks` holds the path of each mask, `classes` what is met in each row (of boxes once
    for each), and `names` all classes in their order.
    """

    source: str
    texts: list[str]
    labels: list[str]
    splits: list[str | None]
    columns: dict[str, str]
    license: str = ""
    findings: tuple[Finding, ...] = ()
    empty_classes: tuple[str, ...] = ()
    hashes: list[str] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)
    pixels: list[str] = field(default_factory=list)
    task: str = "text-classification"
    masks: list[str] = field(default_factory=list)
    classes: list[list[str]] = field(default_factory=list)
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def frame(self) -> "DataFrame":
        """The rows as a DataFrame with the columns text, label and split."""
        frame = frame_of(self.texts, self.labels)
        frame["split"] = self.splits
        return frame


def frame_of(
    texts: Sequence[str], labels: Sequence[str], hashes: Sequence[str] = (), pixels: Sequence[str] = ()
) -> "DataFrame":
    """Return texts with their labels as `combine` takes them; of images paths, `hashes` of the files, and of `pixels`.

    `pixels` are those of `image_files.look`.
    """
    import pandas as pd

    more = {"sha256": list(hashes)} if hashes else {}
    more |= {"pixels": list(pixels)} if pixels else {}
    return pd.DataFrame({"text": list(texts), "label": list(labels), **more}, dtype="str")


def silent(what: str, done: int, total: int) -> None:
    """Hear nothing."""
