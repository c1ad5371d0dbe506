"""Which rows a version was trained on, itself or as one of its ancestors: no figure is made of them unless asked for.

The identities of these rows lie in the version's artifact, so they go wherever it goes, and nothing else is needed to
know them: no dataset, no parent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sft_magics.core import errors
from sft_magics.core.records import Overlap, Version
from sft_magics.core.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame

    from sft_magics.datasets.identity import Marks, TrainedOn

Seen = Literal["leave-out", "include"]
LEAVE_OUT: Seen = "leave-out"


def of(ws: Workspace, version: Version) -> "TrainedOn | None":
    """Return the identities of all rows that a version was trained on; None where they are not known."""
    from sft_magics.datasets import identity
    from sft_magics.registry import ArtifactStore

    return identity.read(ArtifactStore(ws.artifacts).checkout(version.artifact))


def marks(ws: Workspace, versions: Sequence[Version], rows: "DataFrame") -> "Marks":
    """Return which rows each of these versions was trained on."""
    from sft_magics.datasets import identity

    return identity.marks(rows, versions[0].task, {version.ref: of(ws, version) for version in versions})


def unseen(ws: Workspace, versions: Sequence[Version], rows: "DataFrame") -> "tuple[DataFrame, Overlap]":
    """Return the rows that none of these versions was trained on, and how many were left out."""
    found = marks(ws, versions, rows)
    return rows[~found.seen].reset_index(drop=True), found.overlap()


def write(folder: Path, spec: dict[str, Any]) -> Overlap | None:
    """Write beside a run's weights what they were trained on; return how many validation rows that are.

    The rows are those of the run's data and all that the weights it starts from were trained on. None where the data is
    no longer there; the list is then marked as not complete.
    """
    from sft_magics.datasets import identity, read_rows
    from sft_magics.engine.inputs import measured_rows

    before = identity.inherited(spec["start"])
    known = before is not None or spec.get("parent") is None
    before = before or identity.TrainedOn(complete=known)
    try:
        rows = read_rows(Path(spec["data_file"]), None)
    except errors.DataProblem:
        identity.write(folder, before | identity.TrainedOn(complete=False))
        return None
    identity.write(folder, before | identity.training_rows(rows, spec["task"]))
    return measured_rows.overlap(spec, rows)
