"""Ask a version or an endpoint, for every stage: some texts, or the rows of a file, whose answers may go to another."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import Dataset, Endpoint, Prediction, Predictions, Version
from sft_magics.core.signatures import FromNamespace, Names, Sentence
from sft_magics.core.tasks import IMAGE_TASKS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.evaluation import answers, evaluate, prediction_files
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass
class _Asked:
    """What is asked, its truths where they are known, and the rows it comes from where that is one table.

    `column` is the table's column that is meant, if it was said.
    """

    task: str
    column: str | None = None
    texts: list[str] = field(default_factory=list)
    truths: list[str | None] = field(default_factory=list)
    rows: "DataFrame | None" = None
    sources: int = 0

    def add(self, texts: list[str], truths: list[str | None], rows: "DataFrame | None" = None) -> None:
        """Ask these too."""
        self.texts, self.truths = [*self.texts, *texts], [*self.truths, *truths]
        self.sources += 1
        self.rows = rows if self.sources == 1 else None


def predict(
    version: Annotated[str, "a version, or an endpoint's name with --endpoint", Names("version")],
    *texts: Annotated[
        Any, "texts in quotes, files or folders of images, a DataFrame or list by name", FromNamespace(), Sentence()
    ],
    data: Annotated[
        Any, "a dataset, or a DataFrame, list or file with texts", Names("dataset"), FromNamespace()
    ] = None,
    text: Annotated[str | None, "the table's column of texts, of names of images, or of prompts"] = None,
    endpoint: Annotated[bool, "ask the endpoint of this name; answers are logged and have ids"] = False,
    to: Annotated[str, "also write all answers to this file: .csv, .tsv, .jsonl or .parquet", Names("file")] = "",
    overwrite: Annotated[bool, "replace a file of that name"] = False,
    workspace: WorkspaceOption = None,
) -> Predictions:
    """Ask a version, or an endpoint, for its answers to some texts, or to all rows of a table or of a folder.

    With --to they are written beside the rows' own columns, into a file that is whole or not there: prediction,
    confidence, the score of each class, boxes as JSON, masks as PNG in a folder beside it.

    Answers of an endpoint carry the ids that `feedback` takes; `answers.to_pandas()` is their table.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    if overwrite and not to:
        raise errors.UsageProblem("--overwrite goes with a file to write.", "add --to answers.csv.")
    there = _endpoint(ws, version) if endpoint else None
    found = Registry(ws).version(there.version if there else version)
    place = prediction_files.target(to, overwrite=overwrite, source=data, task=found.task) if to else None
    asked = _gathered(ws, _Asked(found.task, text), texts, data)
    if found.task in IMAGE_TASKS:
        _find_files(asked)
    began = time.monotonic()
    said = _of_endpoint(there, found, asked) if there else _of_version(ws, found, asked)
    by = (said[-1].version or found.ref) if there else found.ref
    if place is not None:
        prediction_files.write(place, found.task, asked.rows, said, by)
    shown = answers.pictured(said, found, asked.truths)
    return Predictions(
        by, shown, endpoint=there.name if there else None, seconds=time.monotonic() - began, file=to if place else ""
    )


def _of_version(ws: Workspace, version: Version, asked: _Asked) -> list[Prediction]:
    found, beyond = evaluate.asked(ws, [version], asked.texts, f"predicting with {version.ref}")
    rows = enumerate(zip(asked.texts, found[0], asked.truths, strict=True))
    return [
        replace(answers.answer(version, text, score, truth), truncated_tokens=beyond[0].get(i, 0))
        for i, (text, score, truth) in rows
    ]


# Through an endpoint


def _endpoint(ws: Workspace, name: str) -> Endpoint:
    from sft_magics.serving.client import lifecycle as serving

    return serving.endpoint(ws, name)


def _of_endpoint(endpoint: Endpoint, version: Version, asked: _Asked) -> list[Prediction]:
    from sft_magics.serving.client import bulk

    sent = [_bytes(path) for path in asked.texts] if version.task in IMAGE_TASKS else asked.texts
    with client.telling(f"asking endpoint {endpoint.name}") as say:
        say("answers", 0, len(sent))
        rows = bulk.predict(endpoint, sent, lambda done, total: say("answers", done, total))
    return [
        answers.beside(version.task, replace(row, text=text), truth)
        for row, text, truth in zip(rows, asked.texts, asked.truths, strict=True)
    ]


def _bytes(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise errors.DataProblem(f"The image {path} cannot be read ({error.strerror}).", "name a file.") from error


# What is asked


def _gathered(ws: Workspace, asked: _Asked, texts: tuple[Any, ...], data: Any) -> _Asked:
    for item in texts:
        _add(asked, item)
    if data is not None:
        _add_data(ws, asked, data)
    if not asked.texts:
        raise errors.UsageProblem(
            "There is no text to predict.", '%sft_predict reviews:1 "a moving, funny film", or --data NAME.'
        )
    return asked


def _add(asked: _Asked, item: Any) -> None:
    if isinstance(item, str):
        asked.add([item], [None])
        return
    if hasattr(item, "columns"):
        _add_table(asked, item)
        return
    try:
        words = list(item)
    except TypeError:
        words = [item]
    bad = next((w for w in words if not isinstance(w, str)), None)
    if bad is not None:
        raise errors.DataProblem(
            f"A text to predict is a {type(bad).__name__}, not a string.",
            "give strings, or a DataFrame with a text column.",
        )
    asked.add(words, [None] * len(words))


def _add_table(asked: _Asked, source: Any) -> None:
    """Ask the texts of a file or frame, whose columns are kept."""
    from sft_magics.datasets import read_table, texts_of

    texts, truths = texts_of(source, text=asked.column, task=asked.task)
    asked.add(texts, truths, source if _is_frame(source) else read_table(source))


def _is_frame(source: Any) -> bool:
    import pandas as pd

    return isinstance(source, pd.DataFrame)


def _add_data(ws: Workspace, asked: _Asked, data: Any) -> None:
    data = data.ref if isinstance(data, Dataset) else data
    if not isinstance(data, str):
        _add(asked, data)
        return
    from sft_magics.registry import Registry

    registry = Registry(ws)
    names = [name for d in registry.datasets() for name in (d.name, d.ref)]
    if data in names:
        rows = evaluate.rows_of(ws, registry.dataset(data), "all")
        asked.add(list(rows["text"]), list(rows["mask" if "mask" in rows else "label"]), rows)
    elif Path(data).suffix:
        _add_table(asked, data)
    else:
        raise errors.not_found("dataset", data, names, f"%sft_data {data} FILE loads one.")


def _find_files(asked: _Asked) -> None:
    """Ask about the files of images, those in a folder by name in the place of the folder."""
    from sft_magics.datasets import pictures_below

    found = [
        (file, truth)
        for path, truth in zip(asked.texts, asked.truths, strict=True)
        for file in (pictures_below(path) if Path(path).expanduser().is_dir() else [path])
    ]
    if not found:
        raise errors.DataProblem(
            f"There are no images in {', '.join(asked.texts[:3])}.", "name a folder that has some."
        )
    if len(found) != len(asked.texts):
        asked.rows = None
    asked.texts, asked.truths = [file for file, _ in found], [truth for _, truth in found]
