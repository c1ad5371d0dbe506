"""All packaged samples, whatever their task: fetched or drawn once, then read from the cache."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.datasets import columns
from sft_magics.datasets.annotations import boxes, masks, scene_sources
from sft_magics.datasets.pictures import image_files, image_sources
from sft_magics.datasets.pictures.orientation import Scene
from sft_magics.datasets.samples import docstrings, image_samples, text_samples

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded, Progress


def every() -> tuple[str, ...]:
    """Return the names of all samples."""
    return (*text_samples.SAMPLES, *image_samples.SAMPLES, "docstrings")


def load(source: str, progress: "Progress") -> "Loaded":
    """Load `sample:NAME`; raises NotFound, DataProblem."""
    name = source.removeprefix(text_samples.PREFIX)
    if name not in every():
        raise errors.not_found(
            "sample", name, every(), "type one of " + ", ".join(text_samples.PREFIX + known for known in every()) + "."
        )
    if name in text_samples.SAMPLES:
        return _texts(source, name, progress)
    if name == "docstrings":
        return _docstrings(source)
    found = _kind_of(name)(image_samples.folder_of(name, progress), progress)
    return replace(found, source=source, license=image_samples.SAMPLES[name][2])


def _kind_of(name: str) -> "Callable[[Path, Progress], Loaded]":
    if name in image_samples.TILES:
        return lambda folder, say: masks.load(str(folder), "refuse", say)
    if name in image_samples.ISLANDS:
        return _islands
    return lambda folder, say: image_sources.load_folder(folder, "refuse", say)


def _texts(source: str, name: str, progress: "Progress") -> "Loaded":
    from sft_magics.datasets.loaded import Loaded

    texts, labels, license_ = text_samples.read_sample(name, progress)
    return Loaded(source, texts, labels, [None] * len(texts), {}, license_)


def _docstrings(source: str) -> "Loaded":
    from sft_magics.datasets.loaded import Loaded

    prompts, answers = docstrings.read()
    empty: list[list[str]] = [[] for _ in prompts]
    return Loaded(
        source, prompts, answers, [None] * len(prompts), {}, docstrings.LICENSE, task=CAUSAL_LM, classes=empty
    )


def _islands(folder: Path, progress: "Progress") -> "Loaded":
    scenes = [
        Scene(path, boxes.loads(path.with_suffix(".json").read_text()), columns.SPLITS.get(path.parent.name))
        for path in image_files.below(folder)
    ]
    return scene_sources.loaded(str(folder), scenes, (), "refuse", progress)
