"""Normalizations that cost less while a model learns on a CPU.

One that is held still (`still` says so of a part of a model) is a factor and an offset for each channel. They are taken
into the weight and the bias of the convolution before it, and the gradients out of them again, so that nothing reads or
writes the maps for it: of a step of FCOS on EfficientNet-Lite0 that was a fourteenth.

Groups are normalized in float32: given bfloat16 torch's kernels take twice the time.
"""

import functools
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sft_magics.engine.kernels import conv_bn_pairs, convolutions

_SEEN = (1, 3, 64, 64)


class _Folded(torch.autograd.Function):
    """The weight and bias of a convolution with those of a normalization in them.

    `weight` is out x in x high x wide; `scale`, `offset`, `mean` and `spread` (one over the deviation) have a number
    for each channel that comes out. The weight comes out in the number format `kind`.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, mean: torch.Tensor,
        spread: torch.Tensor, kind: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        factor = scale * spread
        ctx.save_for_backward(weight, factor, mean, spread)
        return (weight * factor.view(-1, 1, 1, 1)).to(kind), torch.addcmul(offset, mean, factor, value=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, factor, mean, spread = ctx.saved_tensors
        of_weight, of_bias = gradients
        own = of_weight * factor.view(-1, 1, 1, 1) if ctx.needs_input_grad[0] else None
        of_factor = torch.addcmul((of_weight * weight).sum((1, 2, 3)), mean, of_bias, value=-1)
        return own, of_factor * spread, of_bias, of_bias * -factor if ctx.needs_input_grad[3] else None, None, None


def quicken(model: nn.Module) -> None:
    """Let the normalizations of a model on the CPU be computed this way, those that can be."""
    for module in model.modules():
        if type(module) is nn.GroupNorm:
            module.forward = MethodType(_in_full, module)  # type: ignore[method-assign]
    for part in _still(model):
        for pair in _foldable(part):
            _fold(pair)


def _foldable(part: nn.Module) -> list[conv_bn_pairs.Pair]:
    """Return what can be folded in a part that is held still, nothing where it cannot read a small picture."""
    if not any(conv_bn_pairs.normalizes(module) for module in part.modules()):
        return []
    learning = [m for m in part.modules() if m.training]
    seen = torch.randn(_SEEN, generator=torch.Generator().manual_seed(0))
    part.eval()
    try:
        return conv_bn_pairs.foldable(part, functools.partial(part, seen), _fold)
    except Exception:  # noqa: BLE001  a body may want pictures of a certain size, and says so in any way
        return []
    finally:
        for module in learning:  # each as it was: what is held still is not all that a part has
            module.training = True


def _still(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the bodies of a model whose normalization keeps the statistics that it came with."""
    return (m.body for m in model.modules() if getattr(m, "still", False))  # type: ignore[misc]


def _fold(pair: conv_bn_pairs.Pair) -> None:
    activation = getattr(pair.norm, "act", None) or nn.Identity()
    pair.convolution.forward = functools.partial(_read, pair)  # type: ignore[method-assign]
    pair.norm.forward = activation.forward


def _read(pair: conv_bn_pairs.Pair, rows: torch.Tensor) -> torch.Tensor:
    convolution: nn.Conv2d = pair.convolution
    norm: Any = pair.norm
    spread = (norm.running_var + norm.eps).rsqrt()
    mean = norm.running_mean if convolution.bias is None else norm.running_mean - convolution.bias
    weight, bias = _Folded.apply(
        convolution.weight, norm.weight, norm.bias, mean, spread, convolutions.kind_of(convolution, rows)
    )
    return convolutions.computed(convolution, rows, weight, bias)


def _in_full(self: nn.GroupNorm, rows: torch.Tensor) -> torch.Tensor:
    said = nn.functional.group_norm(rows.float(), self.num_groups, self.weight, self.bias, self.eps)
    return said.to(rows.dtype)
