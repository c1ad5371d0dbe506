"""AdamW with decay where it belongs (Loshchilov and Hutter 2019), plain SGD, and the schedules of the rate."""

import math
from typing import Any

import torch
from torch import nn


def build(model: nn.Module, options: dict[str, Any]) -> torch.optim.Optimizer:
    """Return the optimizer that `options` name: "adamw", or "sgd" with momentum; both take lr and weight_decay."""
    if options.get("optimizer", "adamw") == "adamw":
        return adamw(model, options["lr"], options["weight_decay"])
    weights = [p for p in model.parameters() if p.requires_grad]
    decay, momentum = options["weight_decay"], options.get("momentum", 0.9)
    return torch.optim.SGD(weights, lr=options["lr"], momentum=momentum, weight_decay=decay)


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Return fused AdamW: no decay on biases and normalization weights, betas (0.9, 0.999), eps 1e-8."""
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def rate(step: int, steps: int, peak: float, warmup: float, schedule: str = "linear") -> float:
    """Return the learning rate of step `step` (from 0): a linear rise over `warmup` of the steps, then by `schedule`.

    "linear" and "cosine" fall to 0 (Loshchilov and Hutter 2017), "constant" stays.
    """
    rising = int(warmup * steps + 0.5)
    if step < rising:
        return peak * (step + 1) / rising
    left = max(0.0, (steps - step) / max(1, steps - rising))
    if schedule == "constant":
        return peak
    return peak * (left if schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * left)))


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
        # And they take what is shaped like the weights to lie in memory as those do.
        alike = value.shape == parameter.shape
        place = torch.empty_like(parameter, dtype=value.dtype) if alike else torch.empty_like(value)
        optimizer.state[parameter][part] = place.to(parameter.device).copy_(value)
