"""The training loop: steps, evaluations, checkpoints, stops. It knows a task only by its seam."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sft_magics.core import errors
from sft_magics.core.events import CheckpointSaved, EpochDone, Progress, Remark, RunPlanned, Sink, StepDone
from sft_magics.engine import checkpoints, optimizers
from sft_magics.engine.batching import epoch_batches, padding_waste
from sft_magics.engine.checkpoints import Progressed
from sft_magics.engine.evaluation import Measured, measure
from sft_magics.engine.hardware import Hardware
from sft_magics.engine.tasks import Batch, Encoded, Task

_TELL_SECONDS = 0.1
_BAD_IN_A_ROW = 3
_SMOOTHING = 0.9


@dataclass
class Plan:
    """What to do: encoded rows, options, and the folder to do it in."""

    task: Task
    train: Encoded
    validation: Encoded
    options: dict[str, Any]
    folder: Path
    hardware: Hardware
    sink: Sink
    batches: int = field(init=False)
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.batches = math.ceil(len(self.train.lengths) / self.options["batch"])
        self.steps = max(1, math.ceil(self.options["epochs"] * self.batches - 1e-9))


class Loop:
    """One run of the plan, from the beginning or from its newest whole checkpoint."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = Progressed()
        self.task = plan.task
        self.task.model.to(plan.hardware.device)
        self.optimizer = optimizers.adamw(self.task.model, plan.options["lr"], plan.options["weight_decay"])
        self.stopping = False
        self._bad = 0
        self._parts = 1
        self._order: tuple[int, list[list[int]]] = (-1, [])
        self._pending: list[torch.Tensor] = []
        self._told_at = time.monotonic()
        self._rows = 0
        self._speed = 0.0
        self._saved_at = time.monotonic()

    @property
    def checkpoints(self) -> Path:
        """Where this run's checkpoints lie."""
        return self.plan.folder / "checkpoints"

    @property
    def best(self) -> Path:
        """Where the best weights so far lie."""
        return self.plan.folder / "best"

    def run(self) -> bool:
        """Train to the end of the plan; False when it was stopped before."""
        self._resume()
        self._announce()
        self.task.model.train()
        while self.state.step < self.plan.steps:
            if self.stopping:
                self._checkpoint("stop")
                return False
            self._one_step()
            at_end = self.state.step % self.plan.batches == 0 or self.state.step == self.plan.steps
            if at_end:
                self._evaluate()
                self._checkpoint("epoch")
            elif time.monotonic() - self._saved_at >= self.plan.options["checkpoint_seconds"]:
                self._checkpoint("time")
        return True

    def _say(self, event: Any) -> None:
        if self.plan.sink(event) == "stop":
            self.stopping = True

    def _resume(self, reason: str = "") -> None:
        for found, whole in checkpoints.newest(self.checkpoints):
            if not whole:
                self._say(Remark("warning", f"Checkpoint {found.name} is damaged and was passed over."))
                continue
            self.state = checkpoints.restore(found, self.task.model, self.optimizer, self.plan.hardware.device)
            self._say(Remark("info", f"{reason or 'Going on'} from the checkpoint of step {self.state.step}."))
            return

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
                padding_waste=padding_waste(self.plan.train.lengths, self._batches_of(0)),
            )
        )

    def _batches_of(self, epoch: int) -> list[list[int]]:
        if self._order[0] != epoch:
            options = self.plan.options
            self._order = (epoch, epoch_batches(self.plan.train.lengths, options["batch"], options["seed"], epoch))
        return self._order[1]

    def _one_step(self) -> None:
        epoch, place = divmod(self.state.step, self.plan.batches)
        indices = self._batches_of(epoch)[place]
        options = self.plan.options
        lr = optimizers.rate(self.state.step, self.plan.steps, options["lr"], options["warmup"]) * self.state.rate_scale
        optimizers.set_rate(self.optimizer, lr)
        loss = self._gradients(indices)
        norm = torch.nn.utils.clip_grad_norm_(self.task.model.parameters(), 1.0, foreach=True)
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            self._bad_step(loss)
            return
        self._bad = 0
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self._rows += len(indices)
        self._pending.append(loss)
        self._tell(lr)

    def _gradients(self, indices: list[int]) -> torch.Tensor:
        """Return the batch's loss with its gradients in place; a GPU that runs out of memory takes it in more parts."""
        while True:
            try:
                return self._in_parts(indices)
            except torch.cuda.OutOfMemoryError:
                if self._parts >= len(indices):
                    raise
                self.optimizer.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                self._parts *= 2
                size = -(-self.plan.options["batch"] // self._parts)
                self._say(
                    Remark("warning", f"The GPU's memory is full: batches are taken in parts of {size}; steps stay the same.")
                )

    def _in_parts(self, indices: list[int]) -> torch.Tensor:
        size = -(-len(indices) // self._parts)
        total = torch.zeros((), device=self.plan.hardware.device)
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            batch = self._to_device(self.task.collate(self.plan.train, part))
            with self.plan.hardware.autocast():
                loss = self.task.loss(batch)
            share = loss * (len(part) / len(indices))
            share.backward()  # type: ignore[no-untyped-call]
            total += share.detach()
        return total

    def _to_device(self, batch: Batch) -> Batch:
        device = self.plan.hardware.device
        if device.type != "cuda":
            return {k: v.to(device) for k, v in batch.items()}
        return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}

    def _bad_step(self, loss: torch.Tensor) -> None:
        self._bad += 1
        self.state.step += 1
        self.state.skipped += 1
        what = "loss" if not bool(torch.isfinite(loss)) else "gradient"
        self._say(Remark("warning", f"Step {self.state.step}: the {what} is not a number; the step was left out."))
        if self._bad < _BAD_IN_A_ROW:
            return
        if self.state.rate_scale < 1.0:
            raise errors.RunProblem(
                f"The {what} is not a number again and again, at half the rate too; the run was ended.",
                f"%sft_finetune MODEL --lr {self.plan.options['lr'] / 10:g}, or --precision fp32.",
            )
        self._bad = 0
        # With no checkpoint yet it goes on with the weights it has: bad steps were left out, so they are sound.
        self._resume("Three in a row: going back, at half the rate,")
        self.state.rate_scale = 0.5

    def _tell(self, lr: float) -> None:
        now = time.monotonic()
        seconds = now - self._told_at
        if seconds < _TELL_SECONDS and self.state.step < self.plan.steps:
            return
        losses = torch.stack(self._pending).tolist()
        current = self._rows / max(seconds, 1e-6)
        self._speed = current if not self._speed else _SMOOTHING * self._speed + (1 - _SMOOTHING) * current
        left = (self.plan.steps - self.state.step) * self.plan.options["batch"] / self._speed
        self._pending, self._rows, self._told_at = [], 0, now
        self.state.losses = [*self.state.losses, *losses][-200:]
        self._say(
            StepDone(
                step=self.state.step,
                epoch=self.state.step / self.plan.batches,
                loss=sum(losses) / len(losses),
                lr=lr,
                rows_per_second=self._speed,
                seconds_left=left,
                memory_mb=_memory_mb(self.plan.hardware),
            )
        )

    def _evaluate(self) -> None:
        found = self.measure()
        recent = self.state.losses[-self.plan.batches :]
        better = (found.accuracy, -found.loss) > (self.state.best_accuracy, -self.state.best_loss)
        if better:
            self.state.best_step, self.state.best_accuracy, self.state.best_loss = (
                self.state.step, found.accuracy, found.loss,
            )  # fmt: skip
            self.save_best()
        self._say(
            EpochDone(
                step=self.state.step,
                epoch=self.state.step / self.plan.batches,
                train_loss=sum(recent) / len(recent) if recent else math.nan,
                validation_loss=found.loss,
                metrics={"accuracy": found.accuracy, "f1": found.f1},
                best=better,
            )
        )
        for remark in found.remarks:
            self._say(Remark("warning", remark))
        self._told_at = time.monotonic()

    def measure(self) -> Measured:
        """Measure the weights as they are on the validation rows."""
        told = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told >= 0.5 or done == total:
                told = time.monotonic()
                self._say(Progress("validating", done, total))

        found = measure(self.task, self.plan.validation, self.plan.hardware, progress)
        self.task.model.train()
        return found

    def save_best(self) -> None:
        """Write the weights as they are to `best`, whole or not at all."""
        replace(self.best, self.task.save)

    def _checkpoint(self, why: str) -> None:
        path = checkpoints.save(self.checkpoints, self.task.model, self.optimizer, self.state)
        self._saved_at = time.monotonic()
        self._say(CheckpointSaved(self.state.step, str(path.relative_to(self.plan.folder)), why))
        self._told_at = time.monotonic()


def replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `folder`, then put it in its place."""
    import shutil

    staged, old = folder.with_name(f".{folder.name}-new"), folder.with_name(f".{folder.name}-old")
    for path in (staged, old):
        shutil.rmtree(path, ignore_errors=True)
    write(staged)
    if folder.exists():
        folder.rename(old)
    staged.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _memory_mb(hardware: Hardware) -> float:
    if hardware.device.type == "cuda":
        return torch.cuda.max_memory_allocated(hardware.device) / 1e6
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6
