"""Steps that are tried before the first real one, and leave no trace: weights, buffers and chance stay as they were."""

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import nn

from sft_magics.engine.runtime.memory import Meter
from sft_magics.engine.tasks import Batch
from sft_magics.engine.training.gradients import Gradients


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back what forward and backward change: gradients, buffers, the random generators, the mode."""
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    device = next(model.parameters()).device
    training = model.training
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            model.train()
            yield
        finally:
            model.zero_grad(set_to_none=True)
            model.train(training)
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])


def first(batch: Batch, rows: int) -> Batch:
    """Return the first rows of a batch."""
    return {name: tensor[:rows] for name, tensor in batch.items()}


def size(batch: Batch) -> int:
    """Return how many rows a batch has."""
    return len(next(iter(batch.values())))


def memory_of(gradients: Gradients, batch: Batch) -> int:
    """Return the bytes that forward and backward of a batch take at most, its gradients among them."""
    gradients.task.model.zero_grad(set_to_none=True)
    with Meter() as meter:
        gradients.in_parts(batch, size(batch))
    return int(meter.peak)


def seconds_of(gradients: Gradients, batch: Batch, times: int = 2) -> float:
    """Return the seconds that forward and backward of a batch take: the shortest of some, after a first one."""
    found = []
    for _ in range(1 + times):
        _finished(gradients)
        began = time.perf_counter()
        gradients.in_parts(batch, size(batch))
        _finished(gradients)
        found.append(time.perf_counter() - began)
    return min(found[1:])


def _finished(gradients: Gradients) -> None:
    if gradients.hardware.device.type == "cuda":
        torch.cuda.synchronize(gradients.hardware.device)
