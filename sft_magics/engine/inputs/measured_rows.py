"""The rows that a run is measured on: validation rows that neither it nor a version it starts from was trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.events import Remark, Sink
from sft_magics.core.records import Overlap
from sft_magics.datasets import identity, read_rows, unchanged

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Parts:
    """The training rows, the rows measured after each epoch, and whether metrics of these are worth keeping."""

    learned: "DataFrame"
    measured: "DataFrame"
    honest: bool


def trained_on(spec: dict[str, Any], rows: "DataFrame") -> identity.TrainedOn:
    """Return the training rows of a run's data with those that the weights it starts from were trained on."""
    before = identity.inherited(spec["start"])
    own = identity.training_rows(rows, spec["task"])
    return own if before is None else own | before


def overlap(spec: dict[str, Any], rows: "DataFrame") -> Overlap:
    """Return how many validation rows of a run's data were trained on."""
    validation = rows[rows["split"] == "validation"]
    return identity.marks(validation, spec["task"], {"": trained_on(spec, rows)}).overlap()


def parts(spec: dict[str, Any], sink: Sink) -> Parts:
    """Read a run's data; test rows are never among the parts. Raises DataProblem without training rows.

    Validation rows that were trained on are left out. Where no other row is left, they choose the best weights all the
    same, and no metrics are kept.
    """
    rows = read_rows(Path(spec["data"]), None)
    unchanged.check(rows, Path(spec["data"]).parent.name)
    learned, validation = rows[rows["split"] == "train"], rows[rows["split"] == "validation"]
    if learned.empty:
        raise errors.DataProblem("The data has no training rows.", "%sft_data shows the split of a dataset.")
    if validation.empty:
        sink(Remark("warning", "There are no validation rows: the training rows are measured instead, which flatters."))
        return Parts(learned, learned, honest=False)
    marks = identity.marks(validation, spec["task"], {"": trained_on(spec, rows)})
    counted = marks.overlap()
    if not counted.measured:
        what = f"All {counted.rows:,} validation rows were trained on: they are measured, but no metrics are kept."
        sink(Remark("warning", what))
        return Parts(learned, validation, honest=False)
    for finding in counted.remarks:
        sink(Remark(finding.level, f"Validation: {finding.message}"))
    return Parts(learned, validation[~marks.seen], honest=True)
