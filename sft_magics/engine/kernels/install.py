"""Place a model where it computes, with the kernels that are faster there."""

import torch
from torch import nn

from sft_magics.engine.kernels import (
    attention,
    convolutions,
    dropout,
    first_token_only,
    fused_lora,
    fused_qkv,
    normalization,
)
from sft_magics.engine.runtime.hardware import Hardware

_FAST = (convolutions, normalization, dropout, attention, first_token_only, fused_lora, fused_qkv)


def place(model: nn.Module, hardware: Hardware) -> None:
    """Move a model to the device: channels last, and on a CPU with the kernels that are faster there.

    Where fp32 was asked for the model keeps its own kernels, so that the losses are those of a plain loop to the last
    bit.
    """
    model.to(hardware.device)
    if not (hardware.bf16 or hardware.free):
        return
    model.to(memory_format=torch.channels_last)
    if hardware.device.type == "cpu":
        for kernel in _FAST:
            kernel.quicken(model)
