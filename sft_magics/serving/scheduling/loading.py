"""A version on its way into an endpoint: loaded, warmed up, and held to its word before it answers."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_magics.core import errors, postprocessing
from sft_magics.core.records import Prediction
from sft_magics.core.runtime import exports
from sft_magics.core.tasks import CAUSAL_LM, CLASSIFIERS, IMAGE_TASKS
from sft_magics.serving.hosts.hosted import RemotePredictor
from sft_magics.serving.hosts.starting import Start
from sft_magics.serving.messages import SwapOrder
from sft_magics.serving.scheduling import golden_examples

_WARM_UP = ["warm up", "a sentence of about the length that many sentences have, to touch more of the memory " * 2]
_SIDE = 96


@dataclass(frozen=True)
class LoadedVersion:
    """A version that answers."""

    version: str
    ref: str
    labels: tuple[str, ...]
    predictor: RemotePredictor
    engine: str = exports.TORCH
    why: str = ""  # it is this engine

    @property
    def task(self) -> str:
        """What the version is for."""
        return self.predictor.task


def load(order: SwapOrder, threads: int | None, start: Start) -> LoadedVersion:
    """Load a version into a process that `start` starts; raises SftError, or what the engine raises."""
    folder = Path(order.folder)
    if not folder.is_dir():
        raise errors.EndpointProblem(
            f"There is no folder {folder} to load {order.version} from.", "deploy the version again: %sft_deploy REF"
        )
    predictor = RemotePredictor(start, folder, threads, order.engine)
    labels = tuple(predictor.labels)
    if order.labels and labels != order.labels:
        raise errors.ModelProblem(
            f"{order.version} was recorded with the labels {', '.join(order.labels)}, "
            f"but its files say {', '.join(labels)}.",
            "deploy another version, or train this one again; %sft_versions lists them.",
        )
    return LoadedVersion(order.version, order.ref, labels, predictor, order.engine, order.why)


def check_task(live: LoadedVersion, before: LoadedVersion) -> None:
    """Refuse to follow a version of another task, for which those who ask now have not asked; raises ModelProblem."""
    if live.task != before.task:
        raise errors.ModelProblem(
            f"{live.version} is for {live.task}, and this endpoint answers {before.task}.",
            "deploy it with --name for an endpoint of its own.",
        )


def prove(live: LoadedVersion, order: SwapOrder) -> None:
    """Let a version answer its stored examples; raises ModelProblem unless it says what it said when it was made."""
    examples = golden_examples.load(order.examples, live.task)
    if not examples:
        return
    golden_examples.judge(live, examples, _now(live, examples))


def _now(live: LoadedVersion, examples: list[golden_examples.Example]) -> list[Prediction]:
    if live.task != CAUSAL_LM:
        said = live.predictor.scores([example.reads for example in examples])
        return [postprocessing.answer(live.task, live.labels, "", one) for one in said]
    from sft_magics.core.sampling import Sampling

    found = []
    for example in examples:
        how = Sampling(max_new_tokens=int(example.said["tokens"]))
        pieces = list(live.predictor.stream(str(example.reads), how))
        sure = math.exp(sum(piece.sure for piece in pieces) / len(pieces))
        found.append(Prediction("", "".join(piece.text for piece in pieces), sure, {}))
    return found


def warm_up(live: LoadedVersion) -> None:
    """Let a version answer what is made up, in the thread that will ask it; raises ModelProblem for nonsense."""
    if live.task == CAUSAL_LM:
        from sft_magics.core.sampling import Sampling

        list(live.predictor.stream(_WARM_UP[0], Sampling(max_new_tokens=2)))
        return
    asked = probe(live.task) if live.task in IMAGE_TASKS else list(_WARM_UP)
    said = live.predictor.scores(asked)
    if live.task in CLASSIFIERS:
        _check(live.version, said, len(asked), len(live.labels))
    for one in said:
        postprocessing.answer(live.task, live.labels, "", one)


def probe(task: str) -> list[Any]:
    """Return one made-up input that a model of this task can answer."""
    return [_picture()] if task in IMAGE_TASKS else [_WARM_UP[0]]


def _check(version: str, scores: list[list[float]], count: int, width: int) -> None:
    """Raise ModelProblem unless what was asked came back as probabilities."""
    fits = len(scores) == count and all(len(row) == width for row in scores)
    if not fits or not all(abs(sum(row) - 1) < 0.01 for row in scores):  # not-a-number fails this as well
        raise errors.ModelProblem(
            f"{version} loads, but its scores are not probabilities of its {width} labels.",
            "deploy another version; %sft_versions lists them.",
        )


def _picture() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").resize((_SIDE, _SIDE)).convert("RGB").save(file, "PNG")
    return file.getvalue()
