"""AdamW with decay where it belongs, and a linear schedule with warmup (Loshchilov and Hutter 2019)."""

import torch
from torch import nn


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Return fused AdamW: no decay on biases and normalization weights, betas (0.9, 0.999), eps 1e-8."""
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Return the learning rate of step `step` (from 0): a linear rise over `warmup` of the steps, then linear to 0."""
    rising = int(warmup * steps + 0.5)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * max(0.0, (steps - step) / max(1, steps - rising))


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def memory_of(optimizer: torch.optim.Optimizer, names: dict[torch.Tensor, str]) -> dict[str, torch.Tensor]:
    """Return the optimizer's state as named tensors, ready for safetensors."""
    return {
        f"{names[parameter]}|{key}": value.detach().contiguous()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def remember(
    optimizer: torch.optim.Optimizer, names: dict[torch.Tensor, str], tensors: dict[str, torch.Tensor]
) -> None:
    """Put named tensors back as the optimizer's state."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, _, part = key.rpartition("|")
        parameter = parameters[name]
        # Fused AdamW keeps its step count beside the weights.
        optimizer.state[parameter][part] = value.to(parameter.device)
