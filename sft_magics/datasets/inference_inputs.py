"""What a table asks of a version: texts, files of images, prompts or chats, one a row, and the truths beside them."""

from typing import Any

from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, TEXT_CLASSIFICATION
from sft_magics.datasets import columns
from sft_magics.datasets.chats import chat_tables
from sft_magics.datasets.loaded import silent
from sft_magics.datasets.pictures import image_sources
from sft_magics.datasets.samples import sample_catalog, text_samples
from sft_magics.datasets.sources import image_column, read_columns
from sft_magics.datasets.tables import cells
from sft_magics.datasets.tables.table import Columns


def texts_of(
    source: Any, *, text: str | None = None, label: str | None = None, task: str = TEXT_CLASSIFICATION
) -> tuple[list[str], list[str | None]]:
    """Return what each row of a file or frame asks (nothing for a missing cell), and its label if it has any.

    Texts, prompts or names of images come from the column `text`, else from one that is found by its name and content;
    relative names begin where the file lies. Labels come from the column `label` names, else from one called label;
    they are None where there is none. Raises DataProblem and NotFound.
    """
    if isinstance(source, str) and source.startswith(text_samples.PREFIX):
        found = sample_catalog.load(source, silent)
        return found.texts, list(found.labels)
    table = read_columns(source)
    for flag, given in (("text", text), ("label", label)):
        columns.check_exists(table, flag, given)
    if task == CAUSAL_LM and (asked := chat_tables.asked_in(table, text)) is not None:
        return asked, [None] * len(asked)
    name = text or (image_column(table, label) if task in IMAGE_TASKS else None)
    name = name or columns.find_text(table, {label} if label else set(), label)
    named = label or ("label" if "label" in table.values and name != "label" else None)
    texts = cells.texts_of(table, name)
    if task in IMAGE_TASKS:
        texts = _placed(texts, table, source)
    return texts, cells.labels_of(table, named) if named else [None] * len(texts)


def _placed(paths: list[str], table: Columns, source: Any) -> list[str]:
    base = image_sources.base_of(source)
    return [image_sources.placed(path, base, table.kept) if path else path for path in paths]
