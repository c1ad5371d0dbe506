"""From a source to clean rows: a sample, a file or a DataFrame becomes texts and labels, and says what it left out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.datasets import columns, hub
from sft_magics.datasets.annotations import annotated_tables, readers
from sft_magics.datasets.chats import chat_tables
from sft_magics.datasets.loaded import Loaded, Progress, silent
from sft_magics.datasets.pictures import image_sources, inline_images
from sft_magics.datasets.samples import sample_catalog, text_samples
from sft_magics.datasets.tables import answered, cells, files
from sft_magics.datasets.tables.files import read_file
from sft_magics.datasets.tables.table import Columns

if TYPE_CHECKING:
    from pandas import DataFrame


def load(
    source: Any,
    *,
    text: str | None = None,
    label: str | None = None,
    split: str | None = None,
    broken: str = "refuse",
    task: str | None = None,
    progress: Progress | None = None,
    keep: Path | None = None,
    boxes: str = "auto",
) -> Loaded:
    """Load rows to learn from: `sample:NAME`; a .csv, .tsv, .jsonl or .parquet path or a DataFrame of labeled texts, of
    image paths and labels, or of prompts and responses or chats; a folder with a folder of images for each class, with
    images and masks, or in the VOC or YOLO layout; a COCO .json; a data set of the Hugging Face library, saved by it or
    not, or `hub:owner/name`. Tables may hold the pictures themselves, which are written below `keep`, masks and boxes.

    `text`, `label` and `split` name columns; without them they are found by name and content. `split="none"` ignores a
    split column. `task` says which reading is meant where a table allows two. Labels become strings (1.0 becomes "1").
    Rows without a text or a label are left out and reported in `findings`. Images that cannot be read, boxes and masks
    that do not fit theirs are refused by name, or left out with `broken="skip"`. `boxes` says what the four numbers of
    a box in a table mean: xywh, xyxy, or auto. Raises DataProblem and NotFound.
    """
    say = progress or silent
    if isinstance(source, str) and source.startswith(text_samples.PREFIX):
        _no_columns("A sample", source, text, label, split)
        return sample_catalog.load(source, say)
    marked = None if files.is_table(source) else readers.reader(source, task, keep)
    if marked is not None:
        _no_columns("A source of marked images", source, text, label, split)
        return marked(str(source), broken, say)
    if image_sources.is_folder(source) and not hub.reads(source):
        _no_columns("A folder of images", source, text, label, split)
        return image_sources.load_folder(source, broken, say)
    table, left = hub.read(source) if hub.reads(source) else (read_columns(source), ())
    found = load_table(
        table, source, text=text, label=label, split=split, broken=broken, task=task, progress=say, keep=keep,
        boxes=boxes,
    )  # fmt: skip
    return replace(found, findings=(*left, *found.findings, *_unread(table, found)))


def _unread(table: Columns, found: Loaded) -> tuple[Finding, ...]:
    """Name the columns that nothing is learned from."""
    used = {part for name in found.columns.values() for part in (name, *name.split(" + "))}
    left = [name for name in table.values if name not in used and any(v is not None for v in table.values[name])]
    if not left:
        return ()
    shown = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
    return (Finding("info", "unread_columns", f"Columns not read: {shown}."),)


def load_table(
    table: Columns, source: Any, *, text: str | None, label: str | None, split: str | None, broken: str = "refuse",
    task: str | None = None, progress: Progress | None = None, keep: Path | None = None, boxes: str = "auto",
) -> Loaded:  # fmt: skip
    """Return the rows of the columns of `source`, as `load` does."""
    say = progress or silent
    unpacked = inline_images.unpacked(table, keep, say)
    return _of_table(unpacked, annotated_tables.LoadRequest(source, text, label, split, broken, say, boxes, keep), task)


def _of_table(table: Columns, chosen: annotated_tables.LoadRequest, task: str | None) -> Loaded:
    text, label, split = chosen.text, chosen.label, chosen.split
    if task == CAUSAL_LM or (task is None and not text and not label and chat_tables.found_in(table)):
        return chat_tables.load(table, text, label, split)
    marked = annotated_tables.reader(table, task, label)
    if marked is not None:
        return marked(table, chosen)
    roles = columns.assign(table, text or image_column(table, label), label, split)
    found = _clean(table, roles)
    if image_sources.paths_in(table, roles.text):
        return image_sources.resolve(found, table, chosen.source, chosen.broken, chosen.progress)
    return found


def _no_columns(what: str, source: Any, *given: str | None) -> None:
    if any(given):
        raise errors.UsageProblem(
            f"{what} has no columns to choose: --text, --label and --split do not go with it.",
            f"%sft_data NAME {source}",
        )


def image_column(table: Columns, label: str | None) -> str | None:
    """Return the only column that holds the names of image files, if there is one."""
    found = [name for name in table.values if name != label and image_sources.paths_in(table, name)]
    return found[0] if len(found) == 1 else None


def read_columns(source: Any) -> Columns:
    """Read a file, a frame or a data set of the hub's as columns, all of them; raises DataProblem and NotFound."""
    if hub.reads(source):
        return hub.read(source)[0]
    if isinstance(source, str | Path):
        _check_is_file(str(source))
        return read_file(Path(source).expanduser(), str(source))
    return _from_frame(source)


def read_table(source: Any) -> "DataFrame":
    """Read a file or a frame as a DataFrame with every column, cells as they are; raises DataProblem and NotFound."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(c, dtype=object) for name, c in read_columns(source).values.items()})


def id_label_pairs(source: Any, label: str | None = None) -> list[tuple[str, str]]:
    """Return (id, label) a row of a file or frame; rows that lack either are passed over.

    The columns are id, or the request_id of answers that were written to a file, and `label`, or the one that looks
    like it. Ids and labels become strings as in `load`. Raises DataProblem and NotFound.
    """
    table = read_columns(source)
    columns.check_exists(table, "label", label)
    key = answered.id_column(table)
    if key is None:
        step = f"rename its columns to id and label: {table.where} needs both."
        for name in ("id", label or "label"):
            columns.check_exists(table, name, name, step)
        key, found = "id", label or "label"
    else:
        asked = {name for name in table.values if name.lower() in columns.TEXT_NAMES}
        found = label or columns.find_label(table, answered.written(table) | asked)
    pairs = zip(cells.labels_of(table, key), cells.labels_of(table, found), strict=True)
    return [(one, right) for one, right in pairs if one is not None and right is not None]


def _check_is_file(source: str) -> None:
    """Say what is meant when a source is neither a file nor has the look of one."""
    if Path(source).suffix or "/" in source or Path(source).expanduser().exists():
        return
    known = f"Did you mean '{text_samples.PREFIX}{source}'?" if source in sample_catalog.every() else ""
    here = [p.name for p in Path().iterdir() if p.suffix in (".csv", ".tsv", ".jsonl", ".parquet")]
    hint = known or errors.did_you_mean(source, [Path(name).stem for name in here] + here).strip()
    raise errors.NotFound(
        f"'{source}' is neither a file here, nor a DataFrame in this notebook. {hint}".rstrip(),
        "give the path of a .csv, .tsv, .jsonl or .parquet file, a DataFrame by its name, or sample:reviews.",
    )


# Frames


def _as_frame(source: Any) -> Any:
    """Turn a polars frame, an Arrow table, a dict of lists or a list of dicts into a pandas DataFrame, if it is one."""
    import pandas as pd

    if hasattr(source, "to_pandas"):
        return source.to_pandas()
    if isinstance(source, Mapping) or (isinstance(source, list) and source and isinstance(source[0], Mapping)):
        try:
            return pd.DataFrame(source, dtype=object)
        except ValueError as error:
            raise errors.DataProblem(f"This dict is not a table: {error}.", "give lists of the same length.") from error
    return source


def _from_frame(source: Any) -> Columns:
    import pandas as pd

    frame = _as_frame(source)
    if not isinstance(frame, pd.DataFrame):
        raise errors.DataProblem(
            f"A {type(source).__name__} is no data set.",
            "give a file, a DataFrame with a text and a label column, or sample:reviews.",
        )
    if frame.empty:
        raise errors.DataProblem("The DataFrame has no rows.", "give one that has rows and columns.")
    names = [str(name) for name in frame.columns]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise errors.DataProblem(f"The DataFrame has two columns called '{twice}'.", "rename or drop one of them.")
    values, declared = {}, {}
    for i, name in enumerate(names):
        series = frame.iloc[:, i]
        values[name] = [None if gone else v for v, gone in zip(series.tolist(), series.isna().tolist(), strict=True)]
        if isinstance(series.dtype, pd.CategoricalDtype):
            declared[name] = series.dtype.categories.tolist()
    return Columns("DataFrame", values, declared)


# Rows


def _clean(table: Columns, roles: columns.Roles) -> Loaded:
    texts = cells.texts_of(table, roles.text)
    labels = cells.labels_of(table, roles.label)
    parts = table.values[roles.split] if roles.split else [None] * len(texts)
    splits = [None if cells.is_missing(v) else columns.SPLITS[str(v).strip().lower()] for v in parts]
    keep = [i for i, (text, label) in enumerate(zip(texts, labels, strict=True)) if text and label is not None]
    if not keep:
        raise errors.DataProblem(
            f"No row of {table.where} has both a text ({roles.text}) and a label ({roles.label}).",
            "name other columns with --text and --label.",
        )
    known = {labels[i] for i in keep}
    declared = [str(v) for v in table.declared.get(roles.label, ())]
    return Loaded(
        source=table.where,
        texts=[texts[i] for i in keep],
        labels=[str(labels[i]) for i in keep],
        splits=[splits[i] for i in keep],
        columns=roles.as_dict(),
        findings=_left_out(texts, labels),
        empty_classes=tuple(v for v in declared if v not in known),
    )


def _left_out(texts: list[str], labels: list[str | None]) -> tuple[Finding, ...]:
    no_text = sum(not text for text in texts)
    no_label = sum(label is None for text, label in zip(texts, labels, strict=True) if text)
    findings = []
    if no_text:
        findings.append(Finding("warning", "empty_texts", f"{no_text:,} rows without a text were left out."))
    if no_label:
        findings.append(Finding("warning", "missing_labels", f"{no_label:,} rows without a label were left out."))
    return tuple(findings)
