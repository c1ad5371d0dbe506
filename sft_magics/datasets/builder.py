"""From rows to a Dataset: checked, split, fingerprinted, written as one Parquet file, with a profile to show."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors, portable, references
from sft_magics.core.records import Dataset, Example, Finding
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import checks, splits
from sft_magics.datasets.checks import Checked
from sft_magics.datasets.fingerprints import fingerprint, ids
from sft_magics.datasets.loaded import Loaded, Progress
from sft_magics.datasets.pictures.image_files import shorter_side
from sft_magics.datasets.sources import load
from sft_magics.datasets.tables import parquet

if TYPE_CHECKING:
    from pandas import DataFrame

EXAMPLES_PER_CLASS = 3
MOST_EXAMPLES = 30
FEW_EXAMPLES = 8
_EXAMPLE_CHARACTERS = 300
_BINS = 24
Row = tuple[str, str, str, str, str, str, str]  # id, text, label, split, content, pixels, mask


@dataclass
class Rows:
    """Labeled texts on their way to a file; `splits` are those that were given, None where none was.

    For images `texts` are paths, `hashes` the SHA-256 of each file and `sides` its shorter side. `pixels`, `masks`,
    `classes` and `names` are as in `Loaded`; `classes` is empty where each row has one class, its label.
    """

    texts: list[str]
    labels: list[str]
    splits: list[str | None]
    findings: tuple[Finding, ...] = ()
    empty_classes: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    hashes: list[str] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)
    pixels: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    classes: list[list[str]] = field(default_factory=list)
    names: tuple[str, ...] = ()


def build(
    name: str,
    source: Any,
    *,
    workspace: Workspace,
    text: str | None = None,
    label: str | None = None,
    split: str | None = None,
    validation: float = 0.15,
    test: float = 0.0,
    seed: int = 0,
    broken: str = "refuse",
    task: str | None = None,
    boxes: str = "auto",
    progress: Progress | None = None,
) -> Dataset:
    """Load `source` (see `sources.load`), check and split it, write its rows, and return the record; registers nothing.

    `validation` and `test` are the fractions that the hash puts aside, the first above 0, the two together below 1; a
    split column of the source goes before them, and its test rows stay a third split. Raises DataProblem, NotFound,
    UsageProblem, WorkspaceProblem.
    """
    references.check_name(name, "dataset")
    _check_shares(validation, test)
    loaded = load(
        source, text=text, label=label, split=split, broken=broken, task=task, progress=progress, boxes=boxes,
        keep=workspace.root / "pictures",
    )  # fmt: skip
    check_task(loaded, task)
    if boxes != "auto" and not any(found.code == "boxes" for found in loaded.findings):
        raise errors.UsageProblem(
            f"{loaded.source} is no table of boxes: --boxes does not go with it.", f"%sft_data {name} {loaded.source}"
        )
    about = {"columns": loaded.columns, "license": loaded.license}
    rows = Rows(
        loaded.texts, loaded.labels, loaded.splits, loaded.findings, loaded.empty_classes, about, loaded.hashes,
        loaded.sides, loaded.pixels, loaded.masks, loaded.classes, loaded.names,
    )  # fmt: skip
    if test and splits.TEST in loaded.splits:
        raise errors.UsageProblem(
            f"{loaded.source} has test rows of its own.", "leave --test out, or add --split none."
        )
    return _settle(name, rows, loaded.source, workspace, (validation, test), seed, task=loaded.task)


def check_task(loaded: Loaded, task: str | None) -> None:
    """Refuse a source that holds rows of another task than the one that was asked for."""
    if task is not None and loaded.task != task:
        raise errors.DataProblem(
            f"{loaded.source} holds rows for {loaded.task}, not for {task}.",
            "leave --task out, or name another source.",
        )


def combine(
    name: str,
    parts: "Sequence[DataFrame]",
    *,
    workspace: Workspace,
    source: str,
    parents: Sequence[str] = (),
    validation: float = 0.15,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    license: str = "",  # noqa: A002 - the record's field
    task: str = "text-classification",
) -> Dataset:
    """Join frames with the columns text, label and perhaps split into one Dataset, such as rows and their feedback.

    Of images `text` is the path of a file, and the columns sha256 and pixels what it holds and shows. A row that has a
    split keeps it, the others are split by hash. What a later part repeats is not added again: it stays in its split,
    and the later part's label wins. `labels` fixes the order of the first labels. Raises as `build` does, and Refused
    for rows without a class each.
    """
    references.check_name(name, "dataset")
    _check_shares(validation, 0.0)
    if task not in CLASSIFIERS:
        raise errors.Refused(f"Rows for {task} are not joined: they have no single class.", "name one dataset.")
    rows = Rows([], [], [], about={"parents": tuple(parents), "license": license})
    relabeled = _join(rows, parts)
    if len(rows.hashes) not in (0, len(rows.texts)):
        raise errors.DataProblem(f"{source} joins texts and pictures.", "name parts that hold the same.")
    rows.sides = [shorter_side(path) for path in rows.texts] if rows.hashes else []
    if not rows.texts:
        raise errors.DataProblem(f"There are no rows to make {name} of.", "give parts that have a text and a label.")
    if relabeled:
        verb = "row took its label" if relabeled == 1 else "rows took their label"
        rows.findings = (Finding("info", "relabeled", f"{relabeled:,} {verb} from a later part."),)
    return _settle(name, rows, source, workspace, (validation, 0.0), seed, first=tuple(labels or ()), task=task)


def _join(rows: Rows, parts: "Sequence[DataFrame]") -> int:
    """Add the rows of all parts; return how many took another label from a later one."""
    relabeled = 0
    where: dict[str, list[int]] = {}
    for part in parts:
        before = dict(where)
        for (text, label, split), sha, shown in zip(
            _triples(part), _column(part, "sha256"), _column(part, "pixels"), strict=True
        ):
            key = sha or splits.normalized(text)
            if key in before:
                relabeled += any(rows.labels[i] != label for i in before[key])
                for i in before[key]:
                    rows.labels[i] = label
                continue
            where.setdefault(key, []).append(len(rows.texts))
            rows.texts.append(text)
            rows.labels.append(label)
            rows.splits.append(split)
            rows.hashes += [sha] if sha else []
            rows.pixels += [shown] if sha else []
    return relabeled


def _column(part: "DataFrame", name: str) -> list[str]:
    return [str(cell) for cell in part[name]] if name in part.columns else [""] * len(part)


def _triples(part: "DataFrame") -> list[tuple[str, str, str | None]]:
    missing = [name for name in ("text", "label") if name not in part.columns]
    if missing:
        raise errors.DataProblem(f"A part to combine has no column '{missing[0]}'.", "give frames with text and label.")
    given = part["split"].tolist() if "split" in part.columns else [None] * len(part)
    known = (splits.TRAIN, splits.VALIDATION, splits.TEST)
    return [
        (str(text), str(label), split if split in known else None)
        for text, label, split in zip(part["text"].tolist(), part["label"].tolist(), given, strict=True)
    ]


def _settle(
    name: str,
    rows: Rows,
    source: str,
    ws: Workspace,
    shares: tuple[float, float],
    seed: int,
    *,
    task: str,
    first: tuple[str, ...] = (),
) -> Dataset:
    """Split, check and write the rows; return the record. `shares` are those of validation and test."""
    single = task in CLASSIFIERS
    kinds = rows.labels if single else [""] * len(rows.labels)
    if single:
        checks.check_classes(source, rows.labels)
    keys = _shown_alike(rows) or rows.hashes or [splits.normalized(text) for text in rows.texts]
    assigned = splits.assign(keys, kinds, rows.splits, shares[0], seed, shares[1])
    noun = "image" if rows.hashes else "text"
    checked = Checked(keys, rows.texts, kinds, assigned, rows.empty_classes, noun, None if single else rows.classes)
    checks.check_trained(source, checked)
    none = [""] * len(rows.texts)
    more = (rows.pixels or none, rows.masks or none)
    ordered = sorted(zip(rows.hashes or rows.texts, rows.labels, assigned, rows.texts, *more, strict=True))
    mark = fingerprint((content, label, split) for content, label, split, *_ in ordered)
    names = ids([content for content, *_ in ordered])
    table = sorted(
        (key, text, label, split, content, shown, mask)
        for key, (content, label, split, text, shown, mask) in zip(names, ordered, strict=True)
    )
    file = Path("datasets") / name / f"{mark[: parquet.NAME_DIGITS]}.parquet"
    width = 7 if rows.masks else 6 if rows.hashes else 4
    parquet.write(ws.root / file, list(zip(*table, strict=True))[:width])
    if rows.hashes:
        table = [_kept(row, ws.root) for row in table]
    labels = _label_order(rows.labels, first) if single else rows.names
    counts = Counter(assigned)
    met = [[label] for label in rows.labels] if single else rows.classes
    pairs = Counter((split, label) for split, row in zip(assigned, met, strict=True) for label in row)
    present = [split for split in (splits.TRAIN, splits.VALIDATION, splits.TEST) if counts[split]]
    lengths, edges = histogram(rows.sides or [len(text.split()) for text in rows.texts])
    return Dataset(
        name=name,
        source=source,
        task=task,
        labels=labels,
        counts={split: counts[split] for split in present},
        class_counts={split: {label: pairs[split, label] for label in labels} for split in present},
        fingerprint=mark,
        file=file.as_posix(),
        created_at=time.time(),
        findings=(*rows.findings, *checks.findings(checked)),
        examples=_examples(table, labels) if single else _first_rows(table),
        lengths=lengths,
        length_edges=edges,
        **rows.about,
    )


def _shown_alike(rows: Rows) -> list[str]:
    """Return a key for each picture: the first hash of those that show the same, whatever their format."""
    first: dict[str, str] = {}
    shown = [pixels or content for pixels, content in zip(rows.pixels, rows.hashes, strict=False)]
    for key, content in zip(shown, rows.hashes, strict=False):
        first[key] = min(first.get(key, content), content)
    return [first[key] for key in shown]


def _check_shares(validation: float, test: float) -> None:
    if not 0.0 < validation < 1.0:
        raise errors.UsageProblem(f"--validation cannot be {validation}: it is a fraction.", "write --validation 0.15.")
    if not 0.0 <= test < 1.0 - validation:
        raise errors.UsageProblem(
            f"--test cannot be {test} beside --validation {validation}: rows to train on must be left.",
            "write --test 0.15.",
        )


def _kept(row: Row, root: Path) -> Row:
    """Return a row of a picture as a record keeps it: paths inside the workspace are relative."""
    key, text, label, split, content, shown, mask = row
    return key, portable.relative(text, root), label, split, content, shown, portable.relative(mask, root)


def _first_rows(table: Sequence[Row]) -> tuple[Example, ...]:
    """Return a few rows that have no single class, as they are in the table."""
    return tuple(Example(text, label, split, mask=mask) for _, text, label, split, _, _, mask in table[:FEW_EXAMPLES])


def _label_order(labels: Sequence[str], first: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels: `first` as they are, then the rest by number if all are numbers, else by name."""
    rest = set(labels) - set(first)
    try:
        return (*first, *sorted(rest, key=lambda label: (float(label), label)))
    except ValueError:
        return (*first, *sorted(rest))


def _examples(table: Sequence[Row], labels: Sequence[str]) -> tuple[Example, ...]:
    """Return the first few rows of each class in the order of ids, which is as good as drawn by lot."""
    most = max(1, min(EXAMPLES_PER_CLASS, MOST_EXAMPLES // len(labels)))
    found: dict[str, list[Example]] = {label: [] for label in labels[:MOST_EXAMPLES]}
    for _, text, label, split, *_ in table:
        kept = found.get(label)
        if kept is not None and len(kept) < most:
            shown = text if len(text) <= _EXAMPLE_CHARACTERS else text[: _EXAMPLE_CHARACTERS - 3] + "..."
            kept.append(Example(shown, label, split))
    return tuple(example for kept in found.values() for example in kept)


def histogram(values: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Count `values` in bins; return (counts, edges), one edge more than counts.

    Bin i holds edges[i] <= value < edges[i+1]. Bins are equally wide up to the 99th percentile; the last takes what is
    beyond.
    """
    most = sorted(values)[int(0.99 * (len(values) - 1))]
    width = max(1, -(-(most + 1) // _BINS))
    bins = -(-(most + 1) // width)
    counts = [0] * bins
    for value in values:
        counts[min(value // width, bins - 1)] += 1
    return tuple(counts), (*range(0, bins * width, width), max(bins * width, max(values) + 1))
