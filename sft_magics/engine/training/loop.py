"""The training loop: steps, evaluations, checkpoints, stops. It knows a task only by its seam."""

import contextlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sft_magics.core import errors
from sft_magics.core.commands import Listen, nothing
from sft_magics.core.events import CheckpointSaved, EpochDone, Event, Progress, Remark, RunPlanned, Sink, StepDone
from sft_magics.engine.inference import scoring
from sft_magics.engine.inputs.batching import balanced, epoch_batches, padding_waste
from sft_magics.engine.kernels import install
from sft_magics.engine.models import tensor_files, used_embeddings
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks import Batch, Encoded, Measured, Task
from sft_magics.engine.training import (
    autotune,
    checkpoints,
    compiling,
    diagnostics,
    evaluation_schedule,
    gradual_unfreezing,
    optimizers,
)
from sft_magics.engine.training.checkpoint_writer import CheckpointWriter
from sft_magics.engine.training.checkpoints import TrainState
from sft_magics.engine.training.ema import Average
from sft_magics.engine.training.gradients import Gradients
from sft_magics.engine.training.live_edits import Edits, ScheduleState, steps_of
from sft_magics.engine.training.prefetch import Loader

_TELL_SECONDS = 0.1
_BAD_IN_A_ROW = 3
_SMOOTHING = 0.9


@dataclass
class TrainingSetup:
    """What to do: encoded rows, options, the folder to do it in, and what is told meanwhile; edits change it."""

    task: Task
    train: Encoded
    validation: Encoded
    options: dict[str, Any]
    folder: Path
    hardware: Hardware
    sink: Sink
    listen: Listen = nothing
    classes: list[int] | None = None  # of each training row, where every class is drawn alike
    batches: int = field(init=False)
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.batches = math.ceil(len(self.train.lengths) / self.options["batch"])
        self.steps = steps_of(self.options["epochs"], self.batches)


class Loop:
    """One run of the plan, from the beginning or from its newest whole checkpoint."""

    def __init__(self, plan: TrainingSetup) -> None:
        self.plan = plan
        self.state = TrainState()
        self.task = plan.task
        install.place(self.task.model, plan.hardware)
        self.optimizer = optimizers.build(self.task.model, plan.options)
        used_embeddings.follow(self.task.model, self.optimizer)
        ema = float(plan.options.get("ema") or 0.0)
        self.average = Average(self.task.model, ema) if ema else None
        every = float(plan.options.get("unfreeze") or 0.0)
        self.thaw = gradual_unfreezing.GradualUnfreezing(self.task.model, every * plan.batches) if every else None
        self.keeper = CheckpointWriter(plan.folder, self.task, self.optimizer, self.say)
        planned = ScheduleState.planned(plan.options, plan.batches, plan.steps)
        self.edits = Edits(plan.folder, planned, self.keeper, self.say)
        self.gradients = Gradients(self.task, plan.options, plan.hardware, self.say)
        self.loader = Loader(self.batch_of, int(plan.options.get("workers", 0)), plan.steps)
        self.stopping = False
        self.best_measured: Measured | None = None  # of the weights in `best`, if this process measured them
        self._bad = 0
        self._order: tuple[int, list[list[int]]] = (-1, [])
        self._pending: list[torch.Tensor] = []
        self._told_at = self._saved_at = time.monotonic()
        self.doctor = diagnostics.Rounds(self.say)
        self._rows = 0
        self._speed = 0.0

    @property
    def checkpoints(self) -> Path:
        """Where this run's checkpoints lie."""
        return self.keeper.checkpoints

    @property
    def best(self) -> Path:
        """Where the best weights so far lie."""
        return self.keeper.best

    def run(self) -> bool:
        """Train to the end of the plan; False when it was stopped before."""
        try:
            return self._run()
        finally:
            self.loader.close()
            compiling.stop(self.task.model)

    def _run(self) -> bool:
        self._resume("Going on")
        autotune.settle(self)
        self._announce()
        evaluation_schedule.measure_untrained(self)
        gradual_unfreezing.learn(self.task.model)
        self._told_at = self._saved_at = self.doctor.since = time.monotonic()
        while self._goes_on():
            if self.stopping:
                self._checkpoint("stop")
                return False
            self._one_step()
            if evaluation_schedule.due(self.state.step, self.plan.batches, self.plan.steps, self.plan.options):
                self._evaluate()
                self._checkpoint("epoch")
            elif not self._bad and time.monotonic() - self._saved_at >= self.plan.options["checkpoint_seconds"]:
                self._checkpoint("time")
        self.keeper.complete()
        return True

    def _goes_on(self) -> bool:
        """Take up what was told, and say whether there are more steps to do."""
        told = self.plan.listen()
        self.stopping = self.stopping or told.ending
        self.edits.take_up(self.state.step, told.edits)
        self._steer()
        return self.state.step < self.plan.steps and not evaluation_schedule.no_better(self)

    def _steer(self) -> None:
        course = self.edits.course
        self.plan.options, self.plan.steps, self.loader.steps = course.options, course.steps, course.steps

    def rewind(self) -> None:
        """Go by the options that were in force before the step that comes next."""
        self.edits.rewind(self.state.step)
        self._steer()

    def seen(self, step: int) -> tuple[list[int], Batch]:
        """Return the rows of a step and the batch it gets of them."""
        epoch, place = divmod(step, self.plan.batches)
        return self.batches_of(epoch)[place], self.batch_of(step)

    def rehearse(self, step: int) -> float:
        """Take one step at the rate that is set, say nothing of it, and return its loss."""
        if self.thaw is not None:
            self.thaw.at(step)
        batch = self.loader.take(step)
        loss = float(self.gradients.of(batch, len(next(iter(batch.values())))))
        self._shorten()
        if math.isfinite(loss):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def measure(self) -> Measured:
        """Measure the weights as they are on the validation rows."""
        told = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told >= 0.5 or done == total:
                told = time.monotonic()
                self._say(Progress("validating", done, total))

        rows = self.plan.validation
        with compiling.paused(self.task.model), scoring.quickened(self.task, rows, self.plan.hardware):
            found = self.task.measure(rows, scoring.score(self.task, rows, self.plan.hardware, progress))
        gradual_unfreezing.learn(self.task.model)
        return found

    def save_best(self) -> None:
        """Write the weights as they are to `best`, whole or not at all."""
        checkpoints.replace(self.best, self.task.save)

    def say(self, event: Event) -> None:
        """Tell the sink, and hear whether it says to stop."""
        self._say(event)

    def _say(self, event: Event) -> None:
        if self.plan.sink(event) == "stop":
            self.stopping = True

    def _resume(self, how: str) -> bool:
        """Take up the newest whole checkpoint and drop damaged ones; False when there is none."""
        checkpoints.recover(self.best)
        for found, whole in checkpoints.newest(self.checkpoints):
            if whole:
                self.state = checkpoints.restore(found, self.task.model, self.optimizer, self.plan.hardware.device)
                if self.average is not None:
                    self.average.take(tensor_files.part(found, checkpoints.AVERAGE))
                self.rewind()
                self._say(Remark("info", f"{how} from the checkpoint of step {self.state.step}."))
                return True
            self._say(Remark("warning", f"The checkpoint {found.name} is damaged; it was passed over and removed."))
            checkpoints.remove(found)
        return False

    def _announce(self) -> None:
        options = self.plan.options
        self._say(
            RunPlanned(
                steps=self.plan.steps,
                epochs=options["epochs"],
                rows=len(self.plan.train.lengths),
                batch=options["batch"],
                lr=options["lr"],
                resumed_at=self.state.step,
                validation_rows=len(self.plan.validation.lengths),
                padding_waste=padding_waste(self.plan.train.lengths, self.batches_of(0)),
                device=self.plan.hardware.name(),
                precision=self.plan.hardware.precision,
                threads=self.plan.hardware.threads,
            )
        )

    def batches_of(self, epoch: int) -> list[list[int]]:
        """Return the rows of each batch of an epoch."""
        order = self._order  # a thread of the loader may be an epoch ahead
        if order[0] != epoch:
            options = self.plan.options
            classes, seed = self.plan.classes, options["seed"]
            rows = None if classes is None else balanced(classes, seed, epoch)
            order = (
                epoch,
                epoch_batches(self.plan.train.lengths, options["batch"], seed, epoch, rows, least=self.gradients.least),
            )
            self._order = order
        return order[1]

    def _rows_of(self, step: int) -> int:
        """Return how many rows a step learns from; a task may pack them into fewer."""
        size = int(self.plan.options["batch"])
        return min(size, len(self.plan.train.lengths) - step % self.plan.batches * size)

    def batch_of(self, step: int) -> Batch:
        """Return the tensors of a step, on the CPU."""
        epoch, place = divmod(step, self.plan.batches)
        return self.task.collate(self.plan.train, self.batches_of(epoch)[place], epoch)

    def _prepared(self) -> float:
        """Let learn what is to learn at the next step, at its rate, which is returned."""
        if self.thaw is not None and (opened := self.thaw.at(self.state.step)):
            self._say(Remark("info", opened))
        lr = self.edits.course.rate(self.state.step) * self.state.rate_scale
        optimizers.set_rate(self.optimizer, lr)
        return lr

    def _shorten(self) -> torch.Tensor:
        """Return the norm of the gradients; at the next step they are as long as the options allow."""
        learning = (p for group in self.optimizer.param_groups for p in group["params"])
        norm = torch.nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
        optimizers.shorten(self.optimizer, norm, float(self.plan.options.get("clip", 1.0)))
        return norm

    def _one_step(self) -> None:
        lr = self._prepared()
        batch = self.loader.take(self.state.step)
        rows = self._rows_of(self.state.step)
        size = len(next(iter(batch.values())))
        loss = self.gradients.of(batch, size)
        norm = self._shorten()
        sound = bool(torch.isfinite(loss) & torch.isfinite(norm))
        if sound:
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
        where = "" if sound else diagnostics.where_broken(self.task.model)
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if not sound:
            self._bad_step("gradient" if bool(torch.isfinite(loss)) else "loss", where)
            return
        self._bad = 0
        self._rows += rows
        if not self.gradients.masked:
            self._pending.append(loss)
        else:
            what = f"Step {self.state.step}: all labels of its batch are masked, so nothing was learned from it"
            self.doctor.once("masked", f"{what}; such steps do not count in the loss.")
        if time.monotonic() - self._told_at >= _TELL_SECONDS or self.state.step == self.plan.steps:
            self._tell(lr)

    def _bad_step(self, what: str, where: str) -> None:
        """Count a step whose gradients were thrown away; after three in a row go back, once, at half the rate."""
        self._bad += 1
        self.state.skipped += 1
        self._say(
            Remark("warning", f"Step {self.state.step}: the {what} is not a number{where}; the step was left out.")
        )
        if self._bad < _BAD_IN_A_ROW:
            return
        if self.state.rate_scale < 1.0:
            raise errors.RunProblem(
                f"The {what} is not a number again and again, at half the rate too; the run was ended.",
                f"%sft_finetune MODEL --lr {self.plan.options['lr'] / 10:g}, or --precision fp32.",
            )
        self._bad = 0
        self._pending = []
        self.loader.forget()
        if self._resume("Three steps in a row were not numbers: going back, at half the rate,"):
            self.state.rate_scale = 0.5
            self._announce()  # views drop the curve beyond the checkpoint
            return
        # With no checkpoint yet it goes on with the weights it has: bad steps were left out, so they are sound.
        self.state.rate_scale = 0.5
        self._say(Remark("warning", "Three steps in a row were not numbers: going on at half the rate."))

    def _tell(self, lr: float) -> None:
        if not self._pending:
            return
        losses = torch.stack(self._pending).tolist()
        seconds = max(time.monotonic() - self._told_at, 1e-6)
        current = self._rows / seconds
        self._speed = current if not self._speed else _SMOOTHING * self._speed + (1 - _SMOOTHING) * current
        self.doctor.losses += losses
        self._pending, self._rows, self._told_at = [], 0, time.monotonic()
        self.state.summed_loss += math.fsum(losses)
        self.state.summed_steps += len(losses)
        self._say(
            StepDone(
                step=self.state.step,
                epoch=self.state.step / self.plan.batches,
                loss=math.fsum(losses) / len(losses),
                lr=lr,
                rows_per_second=self._speed,
                seconds_left=(self.plan.steps - self.state.step) * self.plan.options["batch"] / self._speed,
                memory_mb=self.plan.hardware.memory_mb(),
            )
        )

    def _rate_now(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _evaluate(self) -> None:
        self._tell(self._rate_now())
        with self.average.inside() if self.average is not None else contextlib.nullcontext():
            self._judge()
        self._told_at = time.monotonic()

    def _judge(self) -> None:
        """Measure the weights as they are, and keep them if they are the best so far."""
        found = self.measure()
        state = self.state
        state.evaluations += 1
        better = (found.quality, -found.loss) > (state.best_quality, -state.best_loss)
        if better:
            state.best_evaluation = state.evaluations
            state.best_step, state.best_quality, state.best_loss = state.step, found.quality, found.loss
            self.best_measured = found
            self.keeper.keep_best()
        learned = state.summed_loss / state.summed_steps if state.summed_steps else math.nan
        state.summed_loss, state.summed_steps = 0.0, 0
        epoch = state.step / self.plan.batches
        self._say(EpochDone(state.step, epoch, learned, found.loss, found.metrics, better))
        state.history.append([learned, found.loss, epoch])
        doubts = {"answers": found.remarks, "guessing": self.task.doubts(self.plan.train, learned)}
        self.doctor.evaluated(state.history, doubts, self.plan.options, self.loader)

    def _checkpoint(self, why: str) -> None:
        self._tell(self._rate_now())
        autotune.note(self)
        average = None if self.average is None else self.average.state()

        def save() -> Path:
            return checkpoints.save(self.checkpoints, self.task.model, self.optimizer, self.state, average)

        path = self.keeper.checkpoint(save, self.state.step, last=why == "stop")
        if path is not None:
            self._say(CheckpointSaved(self.state.step, str(path.relative_to(self.plan.folder)), why))
        self._told_at = self._saved_at = time.monotonic()
