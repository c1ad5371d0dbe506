"""Linear layers as a CPU's kernel for bfloat16 has them: laid out once, and not at every call."""

from collections.abc import Callable

import torch

Read = Callable[[torch.Tensor], torch.Tensor]


def laid_out(weight: torch.Tensor, bias: torch.Tensor | None, activation: tuple[str, str] = ("none", "")) -> Read:
    """Return what says x W' + b, and an activation of that as oneDNN calls it and its algorithm, in bfloat16."""
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(torch.bfloat16).contiguous(), None)
    short = None if bias is None else bias.detach().to(torch.bfloat16)
    name, algorithm = activation

    def read(x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(torch.bfloat16), blocks, short, name, [], algorithm
        )
        return said

    return read
