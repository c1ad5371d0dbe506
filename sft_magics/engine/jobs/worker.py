"""What a job's process asks of the engine: train, predict, inspect, and find the best of an unfinished run.

A spec is plain JSON; what happens is told to a sink, whose answer may be "stop".
"""

import contextlib
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from sft_magics.core import errors, unread
from sft_magics.core.codec import plain
from sft_magics.core.commands import Listen, nothing
from sft_magics.core.events import Progress, Remark, Sink
from sft_magics.core.records import Metric
from sft_magics.datasets import identity
from sft_magics.engine import tasks
from sft_magics.engine.inference import scoring
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.inputs import measured_rows, truncation
from sft_magics.engine.kernels import install
from sft_magics.engine.models import pretrained, tensor_files
from sft_magics.engine.runtime import hardware, memory
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks import Encoded
from sft_magics.engine.training import activation_checkpointing, checkpoints
from sft_magics.engine.training.loop import Loop, TrainingSetup


@dataclass(frozen=True)
class Trained:
    """How a run ended: its best weights in `folder`, and the scores of those weights on the validation rows."""

    folder: Path
    stopped: bool
    step: int
    steps: int
    validation_ids: list[str]  # none where the data has no validation rows
    validation_scores: list[Any]
    metrics: dict[str, Metric]  # of the validation rows, in full
    environment: dict[str, Any]
    edits: list[dict[str, Any]]  # what was changed as it trained, each with its step
    preprocessing: dict[str, Any]
    fresh: tuple[str, ...]
    concern: str = ""  # a sentence where the answers are no better than a constant one
    chosen: dict[str, Any] = field(default_factory=dict)  # the options that were left to the run, as it settled them


def train(spec: dict[str, Any], sink: Sink, folder: Path, listen: Listen = nothing) -> Trained:
    """Fine-tune as `spec` says, in `folder`; goes on from the newest whole checkpoint there.

    `spec` has task, start, labels, data (a Parquet file with id, text, label, split) and options (see
    `lifecycle.training.recipe.Recipe`). `listen` is asked before every step what was told; options may hold `edits`, to
    be made again at their steps. Raises ModelProblem, DataProblem, RunProblem.
    """
    with out_of_memory(spec), hardware.repeatable(wanted=bool(spec["options"].get("deterministic"))):
        if not spec.get("resume", True):
            for old in ("checkpoints", "best"):
                shutil.rmtree(folder / old, ignore_errors=True)
            (folder / "edits.json").unlink(missing_ok=True)
        loop, ids = prepare(spec, sink, folder, listen)
        if not loop.run():
            return _trained(loop, ids, [], loop.state.step, stopped=True)
        return _trained(loop, ids, _best_scores(loop), loop.state.best_step, stopped=False)


def assemble(spec: dict[str, Any], sink: Sink, folder: Path, weights: str, target: str) -> None:
    """Make a whole model, in `folder / target`, of the weights that a checkpoint of the run `spec` kept."""
    with out_of_memory(spec):
        loop, _ = prepare(spec, lambda event: "" if isinstance(event, Remark) else sink(event), folder)
        tensor_files.load_weights(loop.task.model, folder / weights)
        checkpoints.replace(folder / target, loop.task.save)
        if (rows := identity.read(folder / weights)) is not None:
            identity.write(folder / target, rows)
        shutil.rmtree(folder / weights, ignore_errors=True)


def best_of(spec: dict[str, Any], sink: Sink, folder: Path) -> Trained:
    """Return the best state an unfinished run left: its best evaluation, else its newest whole checkpoint."""
    with out_of_memory(spec):
        loop, ids = prepare(spec, sink, folder)
        checkpoints.recover(loop.best)
        whole = next((path for path, good in checkpoints.newest(loop.checkpoints) if good), None)
        if whole is not None:
            loop.state = checkpoints.restore(whole, loop.task.model, None, loop.plan.hardware.device)
            loop.rewind()
        if loop.best.exists():
            loop.keeper.complete()
        else:
            if whole is None:
                raise errors.RunProblem(
                    f"{folder.name} left no whole checkpoint.", f"%sft_finetune --resume {folder.name}"
                )
            loop.save_best()
            loop.state.best_step = loop.state.step
        return _trained(loop, ids, _best_scores(loop), loop.state.best_step, stopped=True)


def predict(spec: dict[str, Any], sink: Sink) -> tuple[list[Any], dict[int, int]]:
    """Return the answers to `spec["texts"]` (of images, their paths) by the weights in `spec["folder"]`.

    The second part has, by the place of each text that is longer than the version reads, the tokens not read; a remark
    says so too unless `spec["remarks"]` is false.
    """
    with out_of_memory(spec):
        predictor = Predictor(Path(spec["folder"]))
        scores = predictor.scores(spec["texts"], _telling(sink))
        if predictor.unread and spec.get("remarks", True):
            sink(Remark("warning", unread.truncated(predictor.unread)))
        return scores, predictor.unread


def reference(folder: Path, inputs: list[Any], *, alone: bool = False) -> list[Any]:
    """Return torch's answers in fp32, by which other engines are judged; `alone`: each input in a batch of its own."""
    with out_of_memory({}):
        predictor = Predictor(folder, precision="fp32", device="cpu")
        return [predictor.scores([one])[0] for one in inputs] if alone else predictor.scores(inputs)


def evaluate(spec: dict[str, Any], sink: Sink) -> dict[str, Any]:
    """Measure the weights in `spec["folder"]` on `spec["texts"]` (of images, their paths), whose truths are
    `spec["targets"]`.

    Returns metrics, confusion, n, how many are `wrong` (their badness above `spec["wrong"]`), and the `spec["worst"]`
    rows that are answered worst, with their answers.
    """
    with out_of_memory(spec):
        predictor = Predictor(Path(spec["folder"]))
        texts, targets = list(spec["texts"]), list(spec["targets"])
        found = predictor.report(texts, targets, _telling(sink))
        worst = predictor.answerable(texts, sorted(range(len(texts)), key=lambda i: -found.badness[i]), spec["worst"])
        answers = predictor.scores([texts[i] for i in worst])
        shown = [
            {"text": texts[i], "target": targets[i], "badness": found.badness[i], "answer": answer}
            for i, answer in zip(worst, answers, strict=True)
        ]
        wrong = sum(bad > spec["wrong"] for bad in found.badness)
        sums = {"n": len(texts), "wrong": wrong, "confusion": found.confusion}
        return {"metrics": plain(found.metrics), **sums, "worst": shown}


def _telling(sink: Sink) -> Callable[[int, int], None]:
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 0.2 or done == total:
            told = time.monotonic()
            sink(Progress("answers", done, total))

    return progress


def inspect(spec: dict[str, Any], sink: Sink) -> dict[str, Any]:
    """Load the weights of `spec["start"]` once, and return what a model card says of them."""
    sink(Progress("loading the weights", 0))
    task = tasks.find(spec["task"]).load(spec["start"], spec["labels"], {})
    task.probe()
    return {
        "source": spec["start"].get("source", spec["start"]["path"]),
        **pretrained.card(spec["start"]),
        **task.facts(),
        "recipe": task.recipe(spec["start"]),
    }


def prepare(spec: dict[str, Any], sink: Sink, folder: Path, listen: Listen = nothing) -> tuple[Loop, list[str]]:
    """Load and encode everything; return the loop and the ids of the validation rows."""
    options = spec["options"]
    chosen = hardware.choose(options["device"], options["precision"], options["threads"])
    sink(Progress("loading the weights", 0))
    kind = tasks.find(spec["task"])
    kind.check_options(options)
    activation_checkpointing.check(options)
    task = kind.load(spec["start"], spec["labels"], options)
    if options.get("recompute"):
        activation_checkpointing.enable(task.model, str(spec["start"].get("source", spec["start"]["path"])))
    task.suit(bf16=chosen.bf16)
    torch.manual_seed(options["seed"])
    sink(Progress("reading the data", 0))
    parts = measured_rows.parts(spec, sink)
    frames = [parts.learned, parts.measured]
    encoded = [task.encode(list(part["text"]), list(part[task.column])) for part in frames]
    lasting = folder if spec.get("kind", "finetune") == "finetune" else None
    frames, encoded = truncation.settle(task, frames, encoded, options, lasting, sink)
    ids = list(frames[1]["id"]) if parts.honest else []
    classes = task.classes(encoded[0]) if options.get("sampling") == "balanced" else None
    encoded = _settled(task, encoded, options, chosen, sink)
    sink(Remark("info", f"Computing in {chosen.precision} on {chosen.name()}, {chosen.threads} threads: {chosen.why}."))
    for remark in (*hardware.repeatable_remarks(options, chosen), *task.remarks(encoded[0])):
        sink(Remark("info", remark))
    for warning in task.warnings(encoded[0]):
        sink(Remark("warning", warning))
    return Loop(TrainingSetup(task, encoded[0], encoded[1], options, folder, chosen, sink, listen, classes)), ids


def _settled(
    task: tasks.Task, encoded: list[Encoded], options: dict[str, Any], chosen: Hardware, sink: Sink
) -> list[Encoded]:
    """Let the task see what it learns from, and return the rows as it learns from them."""
    if options.get("class_weights", "none") == "auto":
        task.balance(encoded[0])
    if chosen.bf16 or chosen.free:
        task.economize(encoded[0], options)
    if options.get("method", "full") != "head":
        return encoded
    sink(Progress("computing the features", 0))
    install.place(task.model, chosen)
    with scoring.quickened(task, encoded[0], chosen):
        return [task.freeze(part, chosen, learned=not i) for i, part in enumerate(encoded)]


def _best_scores(loop: Loop) -> list[Any]:
    if loop.best_measured is not None:
        return loop.best_measured.scores
    loop.task.restore(loop.best)
    return loop.measure().scores


def _trained(loop: Loop, ids: list[str], scores: list[Any], step: int | None, *, stopped: bool) -> Trained:
    if loop.task.pretrained_answers:
        loop.task.untrained = loop.state.untrained
    return Trained(
        folder=loop.best,
        stopped=stopped,
        step=loop.state.step if step is None else step,
        steps=loop.plan.steps,
        validation_ids=ids,
        validation_scores=scores if ids else [],
        metrics=loop.task.report(loop.plan.validation, scores).metrics if ids and scores else {},
        environment=environment(loop.plan.hardware),
        edits=loop.edits.written(),
        preprocessing=loop.task.preprocessing(),
        fresh=loop.task.fresh,
        concern=loop.task.concern(loop.plan.validation, scores) if scores else "",
        chosen=loop.state.chosen,
    )


def environment(machine: Hardware) -> dict[str, Any]:
    """Return what was computed with: versions and hardware."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "system": platform.platform(),
        **machine.facts(),
    }


@contextlib.contextmanager
def out_of_memory(spec: dict[str, Any]) -> Iterator[None]:
    """Say in a sentence when memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
        batch = spec.get("options", {}).get("batch")
        step = (
            f"use --batch {max(1, batch // 2)}, or a smaller --max-length or --image-size."
            if batch
            else "give fewer texts at once."
        )
        raise errors.RunProblem("The memory of this machine is not enough for this job.", step) from error
