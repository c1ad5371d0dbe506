"""Query, key and value of an attention as one product: in bfloat16 their weights are copied anyway, here into one.

The input is then converted once and not thrice, its gradient comes out as one sum, and a product three times as wide is
nearer to what the processor can do. Which of the three a model asks for first does not matter.
"""

import threading
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn

from sft_magics.engine.kernels import first_token_only

_NAMES = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("q_proj", "k_proj", "v_proj"))


class _Joint(torch.autograd.Function):
    """x W' + b for several W and b side by side, in the number format of autocast; gradients as the weights are."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kind: torch.dtype, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        count = len(tensors) // 2
        rows = x.reshape(-1, x.shape[-1]).to(kind)
        weight, bias = (torch.cat([t.to(kind) for t in part]) for part in (tensors[:count], tensors[count:]))
        said = torch.addmm(bias, rows, weight.t())
        ctx.save_for_backward(rows, weight)
        ctx.widths = [len(t) for t in tensors[:count]]
        ctx.shape, ctx.kinds = x.shape, (x.dtype, *[t.dtype for t in tensors])
        return tuple(part.view(*x.shape[:-1], -1) for part in said.split(ctx.widths, 1))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        gradient = torch.cat([g.reshape(len(rows), -1) for g in gradients], 1)
        of_x = (gradient @ weight).view(ctx.shape).to(ctx.kinds[0]) if ctx.needs_input_grad[0] else None
        of_weights = (gradient.t() @ rows).split(ctx.widths)
        of_biases = gradient.sum(0).split(ctx.widths)
        found = zip((*of_weights, *of_biases), ctx.kinds[1:], strict=True)
        return of_x, None, *[tensor.to(kind) for tensor, kind in found]


class FusedProjection:
    """The linear layers of one attention that read the same input."""

    def __init__(self, layers: tuple[nn.Linear, ...]) -> None:
        self.layers = layers
        self._here = threading.local()  # models read in several threads: the input, and what of it is to be fetched

    def __call__(self, which: int, x: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
        """Return what layer `which` says of x, computing the others' part as well when x is new."""
        here = self._here
        if getattr(here, "known", None) is not x or which not in here.waiting:
            tensors = [*(layer.weight for layer in self.layers), *(layer.bias for layer in self.layers)]
            here.known, here.waiting = x, dict(enumerate(_Joint.apply(x, kind, *tensors)))
        said: torch.Tensor = here.waiting.pop(which)
        if not here.waiting:
            here.known = None
        return said


def groups(model: nn.Module) -> Iterator[tuple[nn.Linear, ...]]:
    """Yield the layers of each attention that read the same input, all with a bias or all without."""
    for module in model.modules():
        for all_names in _NAMES:
            names = (
                all_names[1:] if first_token_only.asks(module) else all_names
            )  # the first token's query is a product alone
            layers = tuple(found for name in names if type(found := getattr(module, name, None)) is nn.Linear)
            if len(layers) == len(names) and len({layer.bias is None for layer in layers}) == 1:
                yield layers


def quicken(model: nn.Module) -> None:
    """Let attentions whose layers learn whole compute them together, under autocast."""
    for layers in groups(model):
        biased: torch.Tensor | None = layers[0].bias
        if biased is not None and all(layer.weight.requires_grad for layer in layers):
            joint = FusedProjection(layers)
            for which, layer in enumerate(layers):
                layer.forward = MethodType(_forward(joint, which), layer)  # type: ignore[method-assign]


def _forward(joint: FusedProjection, which: int) -> Any:
    def forward(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return nn.functional.linear(x, self.weight, self.bias)
        return joint(which, x, torch.get_autocast_dtype(x.device.type))

    return forward
