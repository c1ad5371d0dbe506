"""The gradients of a batch, computed in as many parts as memory needs; the step that follows is the whole batch's."""

from collections.abc import Callable
from typing import Any

import torch

from sft_magics.core import errors
from sft_magics.core.events import Event, Remark
from sft_magics.core.runtime import malloc_trim
from sft_magics.engine.runtime import memory
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks import Batch, Task
from sft_magics.engine.training import compiling

_ALONE = "Expected more than 1 value per channel when training"  # as torch says it
_OTHER_NORM = " BatchNorm counts over each part alone: the gradients differ a little from the whole's."


class Gradients:
    """Puts gradients in place; `parts` are those of a whole batch of `options["batch"]` rows."""

    def __init__(self, task: Task, options: dict[str, Any], hardware: Hardware, say: Callable[[Event], None]) -> None:
        self.task = task
        self.hardware = hardware
        self.batch = int(options["batch"])
        self.parts = 1
        self.masked = False  # the newest batch: nothing of it is learned
        self._normed = memory.has_batch_norm(task.model)
        self.least = 2 if self._normed and self.batch > 1 else 1  # rows that a step needs
        self._say = say
        micro = options.get("micro_batch") or 0
        self.take(0 if micro == "auto" else int(micro))

    def take(self, micro: int) -> None:
        """Compute so many rows at once from now on; 0: all."""
        self.parts = -(-self.batch // micro) if micro else 1

    @property
    def micro(self) -> int:
        """How many rows are computed at once; 0: all."""
        return 0 if self.parts == 1 else -(-self.batch // self.parts)

    def of(self, batch: Batch, rows: int) -> torch.Tensor:
        """Return the batch's mean loss with its gradients in place; when memory runs out it is taken in more parts.

        When a compiled model fails it is computed as it is; an error that is the model's own comes again then.

        Raises what torch raises when memory is not enough for a single row either, or for the two that BatchNorm needs.
        """
        normed = self._normed
        while True:
            broken = ""
            try:
                return self.in_parts(batch, rows)
            except Exception as error:
                if _ALONE in str(error):
                    raise errors.RunProblem(
                        "BatchNorm cannot train on a single row: its mean and variance are those of the batch.",
                        "write --batch 8, or --micro-batch 2 or more.",
                    ) from error
                if not memory.ran_out(error) and compiling.running(self.task.model):
                    broken = type(error).__name__
                elif not memory.ran_out(error) or self.parts >= rows // (2 if normed else 1):
                    raise
            # Outside the handler: the exception's traceback would hold the tensors that have to go.
            self.forget()
            if broken:
                self.uncompiled(f"Compiled steps do not work here ({broken})")
                continue
            self.parts *= 2
            whose = "The GPU's memory" if self.hardware.device.type == "cuda" else "The memory"
            what = f"{whose} is full: batches are taken in parts of {self.micro} rows; the steps stay the same."
            self._say(Remark("warning", what + _OTHER_NORM * normed))

    def uncompiled(self, why: str) -> None:
        """Compute steps as they are from now on, and say why."""
        compiling.stop(self.task.model)
        self._say(Remark("warning", f"{why}: the run goes on without compiling."))

    def forget(self) -> None:
        """Drop the gradients, and give freed memory back: a GPU's to be one piece, a CPU's to whoever needs it."""
        self.task.model.zero_grad(set_to_none=True)
        if self.hardware.device.type == "cuda":
            torch.cuda.empty_cache()
        malloc_trim.give_back()

    def in_parts(self, batch: Batch, rows: int) -> torch.Tensor:
        """Return the batch's mean loss with its gradients in place, computed in the parts that are set."""
        ranges = self._ranges(rows)
        whole = self.task.weight(batch)
        self.masked, whole = not whole, whole or 1.0
        total = torch.zeros((), device=self.hardware.device)
        for start, end in ranges:
            part = self._to_device({k: v[start:end] for k, v in batch.items()})
            with self.hardware.autocast():
                loss = self.task.loss(part)
            share = loss if len(ranges) == 1 else loss * (self.task.weight(part) / whole)
            share.backward()
            total += share.detach()
        return total

    def _ranges(self, rows: int) -> list[tuple[int, int]]:
        """Return the first row of each part and the one behind it; no part is too small for BatchNorm."""
        size = -(-rows // self.parts)
        found = [(start, min(start + size, rows)) for start in range(0, rows, size)]
        if len(found) > 1 and self._normed and rows - found[-1][0] == 1:
            found[-2:] = [(found[-2][0], rows)]
        return found

    def _to_device(self, batch: Batch) -> Batch:
        device = self.hardware.device
        if device.type != "cuda":
            return {k: v.to(device) for k, v in batch.items()}
        return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}
