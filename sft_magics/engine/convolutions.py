"""Convolutions that learn quickly on a CPU: the same function, by other kernels than torch takes.

The backward pass of depthwise convolutions is by far the slowest part of a small vision net: on a core with AMX the
gradient of a 5 x 5 kernel took 18 ms in bfloat16 where the forward pass took 0.3, and that of a strided one's input
30 to 70. So forward stays in the number format of the run; what is slow is computed in float32, and the gradient of a
large kernel as a convolution of the input with the gradient of the output, one channel for each row and channel.

1 x 1 convolutions in bfloat16 are matrix products: nothing is laid out anew for them, which counts where maps are
small. In float32 torch takes another library's product for fewer than 16 rows on one thread, which on an AMD EPYC is
1.6 times as slow as oneDNN's convolution; the lines of the pictures, taken for rows, lead it to the latter.

Where losses have to be those of a plain loop to the last bit this is not used.
"""

from types import MethodType
from typing import Any

import torch
from torch import nn

_How = tuple[tuple[int, int], tuple[int, int]]
_LARGE = 5  # from this size of kernel on
_ROWS = 16  # so many rows lead torch to oneDNN
_SMALL = 33  # and up to this size of map, the gradient's own convolution is the faster one


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution without bias; `how` is its stride and its padding."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, how: _How) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.how = how
        return nn.functional.conv2d(rows, weight.to(rows.dtype), None, *how, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        rows, weight = ctx.saved_tensors
        of_rows = _of_rows(gradients[0], rows, weight, ctx.how) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(gradients[0], rows, weight, ctx.how) if ctx.needs_input_grad[1] else None
        return of_rows, of_weight, None


def _of_rows(gradient: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor, how: _How) -> torch.Tensor:
    kind = rows.dtype if how[0] == (1, 1) else torch.float32
    shaped = rows if rows.dtype == kind else torch.empty_like(rows, dtype=kind)  # of the rows only the shape is read
    return _plain(gradient.to(kind), shaped, weight.to(kind), how, 0).to(rows.dtype)


def _of_weight(gradient: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor, how: _How) -> torch.Tensor:
    count, channels, high, wide = gradient.shape
    kernel = weight.shape[-1]
    stride, padding = how
    if kernel < _LARGE:
        return _plain(gradient, rows, weight.to(rows.dtype), how, 1).to(weight.dtype)
    if max(high, wide) >= _SMALL or stride[0] != stride[1]:
        return _plain(gradient.float(), rows.float(), weight.float(), how, 1).to(weight.dtype)
    # The output's gradient is the kernel: what its places have in common with the input's, shifted by each tap.
    seen, kernels = (t.to(torch.float32, memory_format=torch.contiguous_format) for t in (rows, gradient))
    taps = nn.functional.conv2d(
        seen.view(1, count * channels, *rows.shape[2:]), kernels.view(count * channels, 1, high, wide),
        None, 1, padding, stride, count * channels,
    )[:, :, :kernel, :kernel]  # fmt: skip
    return taps.reshape(count, channels, kernel, kernel).sum(0).view_as(weight).to(weight.dtype)


def _plain(gradient: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor, how: _How, which: int) -> torch.Tensor:
    """Return torch's own gradient of the rows (0) or the weight (1)."""
    asked = [which == 0, which == 1, False]
    found: torch.Tensor = torch.ops.aten.convolution_backward(
        gradient, rows, weight, None, *how, (1, 1), False, (0, 0), weight.shape[0], asked
    )[which]
    return found


def quicken(model: nn.Module) -> None:
    """Let the convolutions of a model on the CPU use these, those that they can stand for."""
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or module.padding_mode != "zeros" or isinstance(module.padding, str):
            continue
        if _is_pointwise(module):
            module.forward = MethodType(_pointwise, module)  # type: ignore[method-assign]
        elif _is_depthwise(module):
            module.forward = MethodType(_depthwise, module)  # type: ignore[method-assign]


def _is_pointwise(module: nn.Conv2d) -> bool:
    alone = module.kernel_size == module.stride == (1, 1) and module.groups == 1
    return type(module) is nn.Conv2d and alone and module.padding == (0, 0)


def _is_depthwise(module: nn.Conv2d) -> bool:
    known = type(module) is nn.Conv2d or type(module).__name__ == "Conv2dSame"  # timm's, which pads as it reads
    apart = module.groups == module.in_channels == module.out_channels > 1
    return known and apart and module.bias is None and module.dilation == (1, 1)


def _pointwise(self: nn.Conv2d, rows: torch.Tensor) -> torch.Tensor:
    """A 1 x 1 convolution as the product it is, where channels come last in memory."""
    lying = rows.permute(0, 2, 3, 1)
    said: torch.Tensor
    if not lying.is_contiguous():
        said = self._conv_forward(rows, self.weight, self.bias)
    elif torch.is_autocast_enabled(rows.device.type) or rows.dtype != torch.float32:
        said = nn.functional.linear(lying, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
    elif len(rows) >= _ROWS or torch.get_num_threads() > 1:
        said = self._conv_forward(rows, self.weight, self.bias)
    else:
        count, high, wide, channels = lying.shape
        lines = lying.reshape(count * high, 1, wide, channels).permute(0, 3, 1, 2)
        told = self._conv_forward(lines, self.weight, self.bias).permute(0, 2, 3, 1)
        said = told.reshape(count, high, wide, -1).permute(0, 3, 1, 2)
    return said


def _depthwise(self: nn.Conv2d, rows: torch.Tensor) -> torch.Tensor:
    if torch.is_autocast_enabled(rows.device.type):
        rows = rows.to(torch.get_autocast_dtype(rows.device.type))
    padding = (int(self.padding[0]), int(self.padding[1]))
    if type(self) is not nn.Conv2d:
        from timm.layers.padding import pad_same  # late: a model of texts has no use for timm

        rows = pad_same(rows, list(self.kernel_size), list(self.stride), list(self.dilation))
        padding = (0, 0)
    with torch.autocast(rows.device.type, enabled=False):
        return _Depthwise.apply(rows, self.weight, (self.stride, padding))  # type: ignore[no-any-return]
