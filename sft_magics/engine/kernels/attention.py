"""Attention of short texts on a CPU, registered with transformers: scores, softmax, dropout, a weighted sum.

torch's fused attention has no dropout on a CPU and takes long ways around it; for short texts the plain products are
quicker. Longer ones go to torch's, whose memory grows with the length and not with its square.
"""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from sft_magics.engine.kernels import dropout as quick

NAME = "sft_short"
LONG = 256


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Return what each token takes from the others, rows x tokens x heads x width, as transformers asks for it.

    `query`, `key` and `value` are rows x heads x tokens x width; the mask is added to the scores. One answer's next
    token, which sees more keys than it asks for, is torch's too.
    """
    rate = dropout if module.training else 0.0
    if query.shape[2] > LONG or query.shape[2] != key.shape[2] or query.device.type != "cpu":
        said, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=rate, scaling=scaling, **more
        )
        return said, None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if groups := query.shape[1] // key.shape[1] - 1:  # several heads share a key and a value
        key, value = (t.repeat_interleave(groups + 1, 1) for t in (key, value))
    return plain(query, key, value, attention_mask, rate, scale), None


def plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, rate: float, scale: float
) -> torch.Tensor:
    """Return what `attend` does; the mask is added to the scores, or says which keys are seen."""
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if mask is not None:
        lowest = torch.finfo(scores.dtype).min  # the mask's own is infinite in a shorter format
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, lowest)
        else:
            scores = scores + mask.to(scores.dtype).clamp_min(lowest)
    shares = scores.softmax(-1)
    if rate:
        shares = quick.dropped(shares, rate)
    return torch.matmul(shares, value).transpose(1, 2).contiguous()


def quicken(model: nn.Module) -> None:
    """Let a model of transformers' that attends by torch's fused attention use this, also one within peft's."""
    for found in (m for m in model.modules() if isinstance(m, PreTrainedModel)):
        if found.config._attn_implementation == "sdpa":
            found.set_attn_implementation(NAME)
        return


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
