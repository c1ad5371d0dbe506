"""How much of what the machine can compute a step makes use of: of a GPU this is called MFU (Chowdhery et al. 2022).

The machine's peak is measured, not looked up: products of matrices in the run's own number format, with its threads.
"""

import time
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.training import compiling, trial_steps

if TYPE_CHECKING:
    from sft_magics.engine.training.loop import Loop

_SECONDS = 0.5
_SIDE = {"cpu": 1536, "cuda": 8192}  # large enough that its products are limited by arithmetic, not by memory


def peak(hardware: Hardware, seconds: float = _SECONDS) -> float:
    """Return the floating-point operations a second that a product of square matrices reaches here, at best."""
    side = _SIDE.get(hardware.device.type, 2048)
    dtype = torch.bfloat16 if hardware.bf16 else torch.float32
    one, two = (torch.rand(side, side, device=hardware.device).to(dtype) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    with torch.inference_mode():
        while time.perf_counter() < end or not best:
            began = time.perf_counter()
            made = one @ two
            float(made[0, 0])  # a GPU has to have computed it
            best = max(best, 2.0 * side**3 / (time.perf_counter() - began))
    return best


def operations(loop: "Loop") -> float:
    """Return the floating-point operations of forward and backward of a step of middling size, counted as it runs.

    A product and a sum are two; what is computed again counts again. Weights, buffers and chance stay as they were.
    """
    batch = loop.batch_of(_middling(loop))
    with (
        compiling.paused(loop.task.model),
        trial_steps.untouched(loop.task.model),
        FlopCounterMode(display=False) as counter,
    ):
        loop.gradients.in_parts(batch, trial_steps.size(batch))
    return float(counter.get_total_flops())


def _middling(loop: "Loop") -> int:
    lengths = loop.plan.train.lengths
    sizes = [len(rows) * max(lengths[i] for i in rows) for rows in loop.batches_of(0)]
    return sorted(range(len(sizes)), key=sizes.__getitem__)[len(sizes) // 2]
