"""Low-rank changes (Hu et al. 2022) as one step of computing: peft's own layer casts, scales and adds in ten.

Three quarters of what a step on a small language model computes beside its large products was that. The function is the
same, in the number format of the frozen weights.
"""

import sys
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from peft.tuners.lora.layer import Linear

_NAME = "default"


class _Changed(torch.autograd.Function):
    """x W' + b + scale (x A') B', with gradients for x, A and B: W is frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:  # fmt: skip
        kind = weight.dtype
        rows, a, b = x.reshape(-1, x.shape[-1]).to(kind), a.to(kind), b.to(kind)
        low = rows @ a.t()
        said = nn.functional.linear(rows, weight, bias).addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, low)
        ctx.scale, ctx.shape, ctx.kind = scale, x.shape, x.dtype
        return said.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, a, b, low = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, weight.shape[0]).to(weight.dtype)
        lower = (gradient @ b).mul_(ctx.scale)
        of_rows = None
        if ctx.needs_input_grad[0]:
            of_rows = (gradient @ weight).addmm_(lower, a).view(ctx.shape).to(ctx.kind)
        of_b = (gradient.t() @ low).mul_(ctx.scale)
        return of_rows, None, None, lower.t() @ rows, of_b, None


def quicken(model: nn.Module) -> None:
    """Let the changed linear layers of a model use this, those that it can stand for."""
    layers = sys.modules.get("peft.tuners.lora.layer")
    if layers is None:  # nobody has imported peft, so no layer is one of its own; it takes a second to import
        return
    for module in model.modules():
        if isinstance(module, layers.Linear) and _fits(module):
            module.forward = MethodType(_forward, module)


def _fits(module: "Linear") -> bool:
    base = module.get_base_layer()
    plain = type(base) is nn.Linear and not base.weight.requires_grad
    alone = list(module.lora_A) == [_NAME] and not module.lora_variant and not module.fan_in_fan_out
    return plain and alone and isinstance(module.lora_dropout[_NAME], nn.Identity) and not module.lora_bias[_NAME]


def _forward(self: "Linear", x: torch.Tensor, *more: Any, **options: Any) -> torch.Tensor:
    base: Any = self.get_base_layer()
    computed = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
    if self.disable_adapters or self.merged or more or options or base.weight.dtype != computed:
        return type(self).forward(self, x, *more, **options)
    a, b = self.lora_A[_NAME].weight, self.lora_B[_NAME].weight
    said: torch.Tensor = _Changed.apply(x, base.weight, base.bias, a, b, float(self.scaling[_NAME]))
    return said
