"""Labeled rows of any source to measure versions on: what `sources.load` reads, and what `%sft_predict --to` wrote."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_magics.core import errors
from sft_magics.core.tasks import IMAGE_TASKS, OBJECT_DETECTION
from sft_magics.datasets import hub, sources
from sft_magics.datasets.annotations import boxes, readers
from sft_magics.datasets.columns import NO_SPLIT
from sft_magics.datasets.loaded import Loaded, silent
from sft_magics.datasets.pictures import image_files, image_sources
from sft_magics.datasets.tables.table import Columns

_ANSWERS = ("prediction", "confidence", "version")  # columns that every file of answers has
_MORE = ("request_id", "boxes", "mask")
_SCORES = re.compile(r"(?:score|share)_.+")
_OURS = ("id", "text", "label", "split")


def labeled_rows(
    source: Any, *, task: str, text: str | None = None, label: str | None = None, keep: Path | None = None
) -> Loaded:
    """Return the rows of a file, folder or frame with their truths, whatever split they have; see `sources.load`.

    Of a file of answers the columns that the answers added are passed over. Raises DataProblem, NotFound, UsageProblem.
    """
    if not _is_table(source, task):
        return sources.load(source, text=text, label=label, task=task, keep=keep)
    table = without_answers(sources.read_columns(source))
    if set(_OURS) <= set(table.values) and "sha256" in table.values and not (text or label):
        return _of_ours(table, task, source)
    return sources.load_table(table, source, text=text, label=label, split=NO_SPLIT, task=task, keep=keep)


def _is_table(source: Any, task: str) -> bool:
    if isinstance(source, str) and source.startswith("sample:"):
        return False
    if readers.reader(source, task) is not None:
        return False
    return not image_sources.is_folder(source) and not hub.reads(source)


def without_answers(table: Columns) -> Columns:
    """Return a table without the columns that `%sft_predict --to` added to it, if it did.

    A column of answers has strokes behind its name where the rows had a column of that name before.
    """
    if not all(any(_stem(name) == answer for name in table.values) for answer in _ANSWERS):
        return table
    added = {name for name in table.values if _SCORES.fullmatch(name)}
    added |= {_last(table.values, answer) for answer in (*_ANSWERS, *_MORE)}
    return replace(table, values={name: cells for name, cells in table.values.items() if name not in added})


def _stem(name: str) -> str:
    return name.rstrip("_")


def _last(values: Mapping[str, Any], answer: str) -> str:
    """Return the name of this kind with the most strokes: the answers' own."""
    return max((name for name in values if _stem(name) == answer), key=len, default="")


def _of_ours(table: Columns, task: str, source: Any) -> Loaded:
    """Return rows of images as a dataset of this workspace has them: paths, and truths as its file keeps them."""
    paths = [str(cell) for cell in table.values["text"]]
    found = image_files.look_at(paths, silent, table.kept)
    wrong = [look for look in found if look.wrong]
    if wrong:
        raise image_sources.broken_images(str(source), wrong, table.kept)
    truths = [str(cell) for cell in table.values["label"]]
    if task not in IMAGE_TASKS:
        raise errors.DataProblem(f"{table.where} holds images, and {task} reads none.", "name another file.")
    return Loaded(
        source=table.where, texts=paths, labels=truths, splits=[None] * len(paths), columns={},
        hashes=[look.sha256 for look in found], pixels=[look.pixels for look in found], task=task,
        masks=[str(cell) for cell in table.values.get("mask", ())],
        names=tuple(sorted({box.label for cell in truths for box in boxes.loads(cell)}))
        if task == OBJECT_DETECTION
        else (),
    )  # fmt: skip
