"""Evaluate and predict: for every stage, in the engine's process or through an endpoint, never in the kernel."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sft_magics.core import answering, errors, measures
from sft_magics.core import workspace as places
from sft_magics.core.records import Dataset, Evaluation, Prediction, Predictions, Version
from sft_magics.core.signatures import FromNamespace, Names
from sft_magics.core.tasks import CLASSIFIERS, IMAGE_TASKS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle import answers, measuring, work
from sft_magics.lifecycle.data import WorkspaceOption

if TYPE_CHECKING:
    from pandas import DataFrame

    from sft_magics.registry import Registry

_WORST = 8


def evaluate(
    version: Annotated[str, "a version: reviews:1, reviews@live, or reviews for the newest", Names("version")],
    *,
    data: Annotated[str | None, "a dataset; without it the one it was trained on", Names("dataset")] = None,
    split: Annotated[
        Literal["auto", "train", "validation", "all"], "which rows; auto: never those it learned from"
    ] = "auto",
    workspace: WorkspaceOption = None,
) -> Evaluation:
    """Measure a version: its task's metrics with 95 % intervals, per class, and the confusion matrix if there is one.

    Classifiers: accuracy, precision, recall, F1. Masks: IoU, precision and recall of pixels. Boxes: AP at an overlap of
    one half, COCO's AP, precision and recall. Language models: perplexity and the share of tokens that come first.

    With --split auto it takes the validation rows of data that it, or a version it came from, was trained on, and all
    rows of any other dataset.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    found = registry.version(version)
    began = time.monotonic()
    if found.task not in CLASSIFIERS:
        dataset, part = rows_for(registry, found, data, split)
        seen = measuring.measure(ws, found, dataset, part, _WORST)
        return Evaluation(
            found.ref, dataset.name, part, seen.n, found.labels, seen.metrics, seen.confusion, seen.worst,
            time.monotonic() - began, found.task,
        )  # fmt: skip
    name, part, said = answered(ws, registry, found, data, split)
    return _evaluation(found, name, part, said, time.monotonic() - began)


def rows_for(registry: "Registry", version: Version, data: str | None, split: str = "auto") -> tuple[Dataset, str]:
    """Return the data set that is meant, and the split of it to take: never rows it learned from, unless asked."""
    dataset = registry.dataset(data or version.data)
    if split != "auto":
        return dataset, split
    return dataset, "validation" if dataset.name in learned_from(registry, version) else "all"


def answered(
    ws: Workspace, registry: "Registry", version: Version, data: str | None, split: str = "auto"
) -> tuple[str, str, list[Prediction]]:
    """Return the dataset's name, the split that was taken, and the answers to its rows, with their truths."""
    dataset, part = rows_for(registry, version, data, split)
    if dataset.task != version.task:
        measuring.check_same_task(version, dataset)
    rows = rows_of(ws, dataset, part)
    check_labels(version, dataset.name, list(rows["label"]))
    scores = score(ws, [version], list(rows["text"]), f"evaluating {version.ref} on {dataset.name}")[0]
    said = [
        answering.classified(text, version.labels, s, truth=label)
        for text, label, s in zip(rows["text"], rows["label"], scores, strict=True)
    ]
    return dataset.name, part, said


def predict(
    version: Annotated[str, "a version, or an endpoint's name with --endpoint", Names("version")],
    *texts: Annotated[Any, "texts in quotes, files or folders of images, a DataFrame or list by name", FromNamespace()],
    data: Annotated[
        Any, "a dataset, or a DataFrame, list or file with texts", Names("dataset"), FromNamespace()
    ] = None,
    endpoint: Annotated[bool, "ask the endpoint of this name; answers are logged and have ids"] = False,
    workspace: WorkspaceOption = None,
) -> Predictions:
    """Ask a version, or an endpoint, for its answers to some texts.

    Answers of an endpoint carry the ids that `feedback` takes; `pandas.DataFrame(answers.columns())` is their table.
    """
    ws = places.find(workspace)
    asked, truths = _texts(ws, texts, data)
    began = time.monotonic()
    if endpoint:
        return _through_endpoint(ws, version, asked, truths)
    from sft_magics.registry import Registry

    found = Registry(ws).version(version)
    if found.task in IMAGE_TASKS:
        asked, truths = _files(asked, truths)
    scores = score(ws, [found], asked, f"predicting with {found.ref}")[0]
    shown = tuple(answers.answer(found, text, s, truth) for text, s, truth in zip(asked, scores, truths, strict=True))
    return Predictions(found.ref, answers.pictured(shown, found, truths), seconds=time.monotonic() - began)


def _files(asked: list[str], truths: list[str | None]) -> tuple[list[str], list[str | None]]:
    """Return the files of images, those in a folder by name in the place of the folder."""
    from sft_magics.datasets import pictures_below

    found = [
        (file, truth)
        for path, truth in zip(asked, truths, strict=True)
        for file in (pictures_below(path) if Path(path).expanduser().is_dir() else [path])
    ]
    if not found:
        raise errors.DataProblem(f"There are no images in {', '.join(asked[:3])}.", "name a folder that has some.")
    return [file for file, _ in found], [truth for _, truth in found]


def _through_endpoint(ws: Workspace, name: str, asked: list[str], truths: list[str | None]) -> Predictions:
    from sft_magics.registry import Registry
    from sft_magics.serving import control as serving
    from sft_magics.serving.client import EndpointClient

    began = time.monotonic()
    endpoint = serving.endpoint(ws, name)
    version = Registry(ws).version(endpoint.version)
    pictured = version.task in IMAGE_TASKS
    if pictured:
        asked, truths = _files(asked, truths)
    sent = [_bytes(path) for path in asked] if pictured else asked
    with work.telling(f"asking endpoint {name}") as say, EndpointClient(endpoint) as client:
        rows = client.predict(sent, progress=lambda done, total: say("answers", done, total))
        said = client.version
    known = tuple(
        answers.beside(version.task, replace(row, text=text), truth)
        for row, text, truth in zip(rows, asked, truths, strict=True)
    )
    shown = answers.pictured(known, version, truths)
    return Predictions(said, shown, endpoint=name, seconds=time.monotonic() - began)


def _bytes(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise errors.DataProblem(f"The image {path} cannot be read ({error.strerror}).", "name a file.") from error


def score(ws: Workspace, versions: Sequence[Version], texts: list[str], title: str) -> list[list[Any]]:
    """Return what each version says of each text, from one process that loads the versions in turn."""
    from sft_magics.registry import ArtifactStore

    store = ArtifactStore(ws.artifacts)
    spec = {
        "kind": "predict",
        "task": versions[0].task,
        "folders": [str(store.checkout(v.artifact)) for v in versions],
        "texts": texts,
    }
    scores: list[list[Any]] = work.ask(ws, title, spec)["scores"]
    return scores


def rows_of(ws: Workspace, dataset: Dataset, split: str) -> "DataFrame":
    """Return the rows of one split, or of all; raises DataProblem when there are none."""
    from sft_magics.datasets import rows

    found = rows(ws, dataset, None if split == "all" else split)
    if found.empty:
        raise errors.DataProblem(f"Dataset {dataset.name} has no {split} rows.", "write --split all.")
    return found


def check_labels(version: Version, where: str, labels: Sequence[str]) -> None:
    """Refuse truths that the version cannot say."""
    unknown = sorted(set(labels) - set(version.labels))
    if unknown:
        raise errors.DataProblem(
            f"{where} has labels that {version.ref} does not know: {', '.join(unknown[:5])}.",
            f"{version.ref} knows {', '.join(version.labels[:10])}; rename the labels or take other data.",
        )


def learned_from(registry: "Registry", version: Version) -> set[str]:
    """Return the names of all datasets that this version or one it came from was trained on."""
    names: set[str] = set()
    queue = [version.ref]
    while queue:
        found = registry.version(queue.pop())
        queue += [found.ancestor] if found.ancestor else []
        data = [found.data, *(found.environment.get("cloned") or {}).get("data", ())]
        while data:
            name = data.pop()
            if name not in names:
                names.add(name)
                data += registry.dataset(name).parents
    return names


def _evaluation(version: Version, data: str, split: str, said: list[Prediction], seconds: float) -> Evaluation:
    counts = measures.confusion([str(a.truth) for a in said], [a.label for a in said], version.labels)
    wrong = sorted((a for a in said if a.label != a.truth), key=lambda a: -a.confidence)
    return Evaluation(
        version.ref, data, split, len(said), version.labels, measures.classification(counts, version.labels), counts,
        answers.pictured(wrong[:_WORST], version), seconds, version.task,
    )  # fmt: skip


def _texts(ws: Workspace, texts: tuple[Any, ...], data: Any) -> tuple[list[str], list[str | None]]:
    asked: list[str] = []
    truths: list[str | None] = []
    for item in texts:
        more, known = _one(item)
        asked += more
        truths += known
    if data is not None:
        more, known = _from_data(ws, data)
        asked += more
        truths += known
    if not asked:
        raise errors.UsageProblem(
            "There is no text to predict.", '%sft_predict reviews:1 "a moving, funny film", or --data NAME.'
        )
    return asked, truths


def _one(item: Any) -> tuple[list[str], list[str | None]]:
    if isinstance(item, str):
        return [item], [None]
    if hasattr(item, "columns"):
        from sft_magics.datasets import texts_of

        return texts_of(item)
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
    return words, [None] * len(words)


def _from_data(ws: Workspace, data: Any) -> tuple[list[str], list[str | None]]:
    data = data.name if isinstance(data, Dataset) else data
    if not isinstance(data, str):
        return _one(data)
    from sft_magics.registry import Registry

    registry = Registry(ws)
    names = [d.name for d in registry.datasets()]
    if data in names:
        rows = rows_of(ws, registry.dataset(data), "all")
        return list(rows["text"]), list(rows["mask" if "mask" in rows else "label"])
    if Path(data).suffix:
        from sft_magics.datasets import texts_of

        return texts_of(data)
    raise errors.not_found("dataset", data, names, f"%sft_data {data} FILE loads one.")
