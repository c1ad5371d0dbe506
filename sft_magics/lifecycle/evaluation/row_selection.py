"""The rows that versions are measured on: which dataset or file, which split, without what they were trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sft_magics.core import errors
from sft_magics.core.records import Dataset, Finding, Overlap, Version
from sft_magics.core.tasks import CLASSIFIERS, SEMANTIC_SEGMENTATION
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import seen_rows
from sft_magics.lifecycle.jobs.seen_rows import LEAVE_OUT, Seen

if TYPE_CHECKING:
    from pandas import DataFrame

    from sft_magics.registry import Registry

Split = Literal["auto", "train", "validation", "test", "all"]
TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True)
class Wanted:
    """What was asked for: a dataset by name, a file, folder or frame; its columns; the split; what of seen rows."""

    data: Any = None
    split: Split = "auto"
    seen: Seen = LEAVE_OUT
    text: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows to measure, with the columns text, label and, of images, sha256; what they are called; what was left."""

    name: str
    split: str
    frame: "DataFrame"
    overlap: Overlap
    findings: tuple[Finding, ...] = ()
    dataset: bool = True

    @property
    def texts(self) -> list[str]:
        """What is asked: texts, prompts, or the paths of images."""
        return [str(text) for text in self.frame["text"]]

    @property
    def truths(self) -> list[str]:
        """What is right: classes, answers, boxes as JSON, or the paths of masks."""
        return [str(cell) for cell in self.frame["mask" if "mask" in self.frame.columns else "label"]]

    @property
    def tests(self) -> int:
        """How many of them are test rows of a dataset of this workspace."""
        return int((self.frame["split"] == TEST).sum()) if self.dataset else 0


def choose(ws: Workspace, registry: "Registry", versions: Sequence[Version], wanted: Wanted) -> Rows:
    """Return the rows to measure versions of one task on; raises DataProblem where there are none.

    With the split auto they are all rows that none of the versions was trained on, except test rows: of the dataset
    they were trained on its validation rows.
    """
    found = _read(ws, registry, versions, wanted)
    marks = seen_rows.marks(ws, versions, found.frame)
    part, keep = _part(found.frame["split"].to_numpy(), marks.seen, wanted.split)
    if not keep.any():
        step = f"%sft_data {found.name} SOURCE --test 0.15 puts some aside." if part == TEST else "write --split all."
        raise errors.DataProblem(f"Dataset {found.name} has no {part} rows.", step)
    overlap = marks.overlap(keep, include=wanted.seen != LEAVE_OUT)
    if not overlap.measured:
        raise errors.DataProblem(
            f"No row of {found.name} ({part}) is left to measure: {overlap.brief}.",
            "add --seen include to measure them all the same, or name other rows with --data.",
        )
    rows = found.frame[keep if overlap.included else keep & ~marks.seen].reset_index(drop=True)
    if versions[0].task in CLASSIFIERS:
        for version in versions:
            _check_labels(version, found.name, rows["label"])
    return Rows(found.name, part, rows, overlap, found.findings, found.dataset)


def log_test(registry: "Registry", version: Version, rows: Rows, how: str) -> None:
    """Write into the history that someone looked at test rows, if there were any among these."""
    if rows.tests:
        registry.log_test(version.ref, rows.name, rows.tests, how)


def _part(splits: Any, seen: Any, wanted: Split) -> tuple[str, Any]:
    """Return what the rows of a split are called, and which they are, (rows,), bool."""
    import numpy as np

    if wanted == "all":
        return wanted, np.ones(len(splits), bool)
    if wanted != "auto":
        return wanted, splits == wanted
    usable = splits != TEST
    train, validation = splits == TRAIN, splits == VALIDATION
    if train.any() and validation.any() and seen[train].all():
        return VALIDATION, validation
    return "all" if usable.all() else "train and validation", usable


def _read(ws: Workspace, registry: "Registry", versions: Sequence[Version], wanted: Wanted) -> Rows:
    """Return all rows that are meant, of any split."""
    dataset = _own(registry, versions) if wanted.data is None else _named(registry, wanted.data)
    if dataset is None:
        return _of_source(ws, versions, wanted)
    if wanted.text or wanted.label:
        raise errors.UsageProblem(
            f"{dataset.name} is a dataset, whose columns are known: --text and --label are for files.",
            f"leave them out, or name the file instead of {dataset.name}.",
        )
    from sft_magics.datasets import rows, unchanged

    for version in versions:
        check_same_task(version, dataset.ref, dataset.task, dataset.labels)
    frame = rows(ws, dataset, None)
    unchanged.check(frame, dataset.name)
    return Rows(dataset.ref, "all", frame, Overlap())


def _own(registry: "Registry", versions: Sequence[Version]) -> Dataset:
    """Return the dataset that the first of these versions was trained on whose dataset is here."""
    for version in versions:
        try:
            return registry.data_of(version)
        except errors.SftError:
            continue
    refs = " and ".join(version.ref for version in versions)
    raise errors.DataProblem(
        f"The data that {refs} was trained on is not in this workspace.",
        "name other rows: --data DATASET or --data FILE.",
    )


def _named(registry: "Registry", data: Any) -> Dataset | None:
    """Return the dataset of a name, None for a file, folder or frame; raises NotFound for what is neither."""
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, str):
        return None
    try:
        return registry.dataset(data)
    except errors.SftError:
        path = Path(data).expanduser()
        if data.startswith(("sample:", "hub:")) or path.suffix or path.exists():
            return None
        raise


def _of_source(ws: Workspace, versions: Sequence[Version], wanted: Wanted) -> Rows:
    from sft_magics.datasets import frame_of
    from sft_magics.datasets.labeled import labeled_rows

    version = versions[0]
    keep = ws.root / "pictures"
    loaded = labeled_rows(wanted.data, task=version.task, text=wanted.text, label=wanted.label, keep=keep)
    name = loaded.source
    if wanted.split not in ("auto", "all"):
        raise errors.UsageProblem(f"{name} is no dataset and has no splits.", "leave --split out.")
    for one in versions:
        check_same_task(one, name, loaded.task, loaded.names)
    frame = frame_of(loaded.texts, loaded.labels, loaded.hashes, loaded.pixels)
    frame["split"] = ""
    if loaded.masks:
        frame["mask"] = loaded.masks
    return Rows(name, "all", frame, Overlap(), loaded.findings, dataset=False)


def check_same_task(version: Version, name: str, task: str, labels: Sequence[str]) -> None:
    """Refuse rows of another task; those of masks or boxes whose classes the version does not know, too."""
    if task != version.task:
        raise errors.DataProblem(
            f"{name} is for {task}, and {version.ref} for {version.task}.",
            "%sft_data lists the datasets and what they are for.",
        )
    if task in CLASSIFIERS:  # only the labels of the rows that are measured matter, see `_check_labels`
        return
    numbered = task == SEMANTIC_SEGMENTATION and tuple(labels) != version.labels[: len(labels)]
    if numbered or not set(labels) <= set(version.labels):
        raise errors.DataProblem(
            f"{name} has the classes {', '.join(labels[:10])}, and {version.ref} knows "
            f"{', '.join(version.labels[:10])}.",
            "rename the classes, or take other data.",
        )


def _check_labels(version: Version, name: str, labels: Iterable[str]) -> None:
    """Refuse truths that a classifier cannot answer."""
    unknown = sorted(set(labels) - set(version.labels))
    if unknown:
        raise errors.DataProblem(
            f"{name} has labels that {version.ref} does not know: {', '.join(unknown[:5])}.",
            f"{version.ref} knows {', '.join(version.labels[:10])}; rename the labels or take other data.",
        )
