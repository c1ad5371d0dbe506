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
from torch.autograd.function import once_differentiable

_How = tuple[tuple[int, int], tuple[int, int]]
_LARGE = 5  # from this size of kernel on
_ROWS = 16  # so many rows lead torch to oneDNN
_SMALL = 33  # and up to this size of map, the gradient's own convolution is the faster one


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution; `how` is its stride and its padding."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: _How
    ) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.how = how
        added = None if bias is None else bias.to(rows.dtype)
        return nn.functional.conv2d(rows, weight.to(rows.dtype), added, *how, 1, weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_rows = _of_rows(gradients[0], rows, weight, ctx.how) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(gradients[0], rows, weight, ctx.how) if ctx.needs_input_grad[1] else None
        of_bias = _flat(gradients[0]).sum(0).to(weight.dtype) if ctx.needs_input_grad[2] else None
        return of_rows, of_weight, of_bias, None


class _Pointwise(torch.autograd.Function):
    """A 1 x 1 convolution of rows whose channels come last in memory; what it says is no view of another tensor.

    Of a view autograd remembers what it is a view of, and an activation in place behind it then copies everything.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        kept = weight.flatten(1).to(rows.dtype)
        ctx.save_for_backward(rows, kept)
        ctx.shape, ctx.kind, ctx.bias_kind = weight.shape, weight.dtype, None if bias is None else bias.dtype
        count, _, high, wide = rows.shape
        said = torch.empty((count, len(kept), high, wide), dtype=rows.dtype, memory_format=torch.channels_last)
        flat, read = _flat(said), _flat(rows)
        if bias is None:
            torch.mm(read, kept.t(), out=flat)
        else:
            torch.addmm(bias.to(rows.dtype), read, kept.t(), out=flat)
        return said

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        flat = _flat(gradients[0])
        lying = (rows.shape[0], *rows.shape[2:], rows.shape[1])
        of_rows = (flat @ weight).view(lying).permute(0, 3, 1, 2) if ctx.needs_input_grad[0] else None
        of_weight = (flat.t() @ _flat(rows)).to(ctx.kind).view(ctx.shape) if ctx.needs_input_grad[1] else None
        of_bias = flat.sum(0).to(ctx.bias_kind) if ctx.needs_input_grad[2] else None
        return of_rows, of_weight, of_bias


def _flat(rows: torch.Tensor) -> torch.Tensor:
    """Return a row for each place of a map, a view where channels come last in memory."""
    return rows.permute(0, 2, 3, 1).reshape(-1, rows.shape[1])


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
    """Let the convolutions of a model on the CPU use these, those that they can stand for and nothing else does."""
    for module in model.modules():
        known = isinstance(module, nn.Conv2d) and (_is_pointwise(module) or _is_depthwise(module))
        if known and "forward" not in vars(module):
            module.forward = MethodType(_own, module)


def knows(module: nn.Module) -> bool:
    """Say whether `computed` can stand for a module: a convolution whose picture is filled up with zeros, if at all."""
    known = type(module) is nn.Conv2d or type(module).__name__ == "Conv2dSame"  # timm's, which pads as it reads
    return known and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def kind_of(module: nn.Conv2d, rows: torch.Tensor) -> torch.dtype:
    """Return the number format in which `computed` wants the weight of a module that reads these rows."""
    short = torch.is_autocast_enabled(rows.device.type) and not _is_depthwise(module)
    return torch.get_autocast_dtype(rows.device.type) if short else module.weight.dtype


def computed(module: nn.Conv2d, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return what a convolution that is known says of rows, with this weight and bias in its own ones' place."""
    if _is_pointwise(module):
        return _pointwise(module, rows, weight, bias)
    rows, padding = padded(module, rows)
    if _is_depthwise(module):
        return _depthwise(rows, weight, bias, (module.stride, padding))  # type: ignore[arg-type]
    return nn.functional.conv2d(rows, weight, bias, module.stride, padding, module.dilation, module.groups)


def _own(self: nn.Conv2d, rows: torch.Tensor) -> torch.Tensor:
    return computed(self, rows, self.weight, self.bias)


def _is_pointwise(module: nn.Conv2d) -> bool:
    alone = module.kernel_size == module.stride == (1, 1) and module.groups == 1
    return type(module) is nn.Conv2d and knows(module) and alone and module.padding == (0, 0)


def _is_depthwise(module: nn.Conv2d) -> bool:
    apart = module.groups == module.in_channels == module.out_channels > 1
    return knows(module) and apart and module.bias is None and module.dilation == (1, 1)


def padded(module: nn.Conv2d, rows: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return the rows as the module reads them, and what is still to be added around."""
    if type(module) is nn.Conv2d:
        return rows, (int(module.padding[0]), int(module.padding[1]))
    from timm.layers.padding import pad_same  # late: a model of texts has no use for timm

    if torch.is_autocast_enabled(rows.device.type):
        rows = rows.to(torch.get_autocast_dtype(rows.device.type))
    return pad_same(rows, list(module.kernel_size), list(module.stride), list(module.dilation)), (0, 0)


def _pointwise(module: nn.Conv2d, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A 1 x 1 convolution as the product it is, where channels come last in memory."""
    lying = rows.permute(0, 2, 3, 1)
    said: torch.Tensor
    if not lying.is_contiguous():
        said = module._conv_forward(rows, weight, bias)
    elif torch.is_autocast_enabled(rows.device.type) or rows.dtype != torch.float32:
        said = _cast(_Pointwise, rows, weight, bias)
    elif len(rows) >= _ROWS or torch.get_num_threads() > 1:
        said = module._conv_forward(rows, weight, bias)
    else:
        count, high, wide, channels = lying.shape
        lines = lying.reshape(count * high, 1, wide, channels).permute(0, 3, 1, 2)
        told = module._conv_forward(lines, weight, bias).permute(0, 2, 3, 1)
        said = told.reshape(count, high, wide, -1).permute(0, 3, 1, 2)
    return said


def _depthwise(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: _How) -> torch.Tensor:
    return _cast(_Depthwise, rows, weight, bias, how)


def _cast(kind: type[torch.autograd.Function], rows: torch.Tensor, *more: object) -> torch.Tensor:
    """Apply a function to rows in the number format of the run."""
    if torch.is_autocast_enabled(rows.device.type):
        rows = rows.to(torch.get_autocast_dtype(rows.device.type))
    with torch.autocast(rows.device.type, enabled=False):
        return kind.apply(rows, *more)  # type: ignore[no-any-return]
