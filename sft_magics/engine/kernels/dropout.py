"""Dropout whose chance costs little on a CPU (Srivastava et al. 2014).

torch draws a number for every value, which took an eighth of a step of a small text model. Here 64 bits decide on four
values: each is dropped by 16 bits of its own, so a rate is met to 1 in 65,536, and what stays is scaled by that. Bits
come from SFC64, seeded by torch's generator at each call; so its state in a checkpoint decides on all that follows.
"""

from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

_EACH = 4  # values that 64 bits decide on
_STEPS = 1 << 16
_BITS: dict[torch.dtype, Any] = {torch.bfloat16: np.uint16, torch.float32: np.uint32}


def dropped(rows: torch.Tensor, rate: float) -> torch.Tensor:
    """Return `rows` (bfloat16 or float32, on the CPU) with about `rate` of the values 0 and the others scaled up."""
    if torch.compiler.is_compiling():
        return nn.functional.dropout(rows, rate)
    return rows * _chances(rows.shape, rows.numel(), rows.dtype, rate)


def _chances(shape: torch.Size, count: int, dtype: torch.dtype, rate: float) -> torch.Tensor:
    """Return what each value is multiplied by."""
    seed = int(torch.empty((), dtype=torch.int64).random_())
    bits = np.random.SFC64(seed).random_raw(-(-count // _EACH)).view(np.uint16)[:count]
    lost = min(_STEPS - 1, round(rate * _STEPS))
    scale = torch.tensor(_STEPS / (_STEPS - lost), dtype=dtype)
    kind = _BITS[dtype]
    pattern = scale.view(torch.uint16 if kind is np.uint16 else torch.uint32).item()
    return torch.from_numpy(np.multiply(bits >= lost, kind(pattern), dtype=kind)).view(dtype).view(shape)


def quicken(model: nn.Module) -> None:
    """Let the dropouts of a model on the CPU use this."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(self: nn.Dropout, rows: torch.Tensor) -> torch.Tensor:
    if not self.training or not self.p or rows.dtype not in _BITS or self.p >= 1:
        return nn.functional.dropout(rows, self.p, self.training)
    return dropped(rows, self.p)
