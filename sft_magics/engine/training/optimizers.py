"""AdamW with decay where it belongs (Loshchilov and Hutter 2019), plain SGD, and the schedules of the rate."""

import math
from typing import Any

import torch
from torch import nn

from sft_magics.engine.models import layer_groups

_RISING = 0.3


def build(model: nn.Module, options: dict[str, Any]) -> torch.optim.Optimizer:
    """Return the optimizer that `options` name: "adamw", or "sgd" with momentum; both take lr and weight_decay."""
    falling = float(options.get("layer_decay") or 1.0)
    if options.get("optimizer", "adamw") == "adamw":
        return adamw(model, options["lr"], options["weight_decay"], falling)
    decay, momentum = options["weight_decay"], options.get("momentum", 0.9)
    groups = [{"params": found, "scale": scale} for scale, found in _by_depth(model, falling)]
    return torch.optim.SGD(groups, lr=options["lr"], momentum=momentum, weight_decay=decay)


def adamw(model: nn.Module, lr: float, weight_decay: float, layer_decay: float = 1.0) -> torch.optim.AdamW:
    """Return fused AdamW: no decay on biases and normalization weights, betas (0.9, 0.999), eps 1e-8."""
    groups = []
    for scale, weights in _by_depth(model, layer_decay):
        groups.append({"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay, "scale": scale})
        groups.append({"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0, "scale": scale})
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def _by_depth(model: nn.Module, falling: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Return the weights that learn, level by level, each with its share of the rate: `falling` a level from the head.

    Levels are those of `layer_groups.of`; one that learns nothing counts as well. With 1 all is one group.
    """
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if falling == 1.0:
        return [(1.0, list(weights.values()))]
    found = [[weights[name] for name in level if name in weights] for level in layer_groups.of(model)]
    return [(falling ** (len(found) - 1 - depth), level) for depth, level in enumerate(found) if level]


def rate(step: int, steps: int, peak: float, warmup: float, schedule: str = "linear") -> float:
    """Return the learning rate of step `step` (from 0): a linear rise over `warmup` of the steps, then by `schedule`.

    "linear" and "cosine" fall to 0 (Loshchilov and Hutter 2017), "constant" stays. "one-cycle" rises by a cosine over
    30 % of the steps from a 25th of the peak, and falls to a 10,000th of that (Smith and Topin 2019); `warmup` is not
    asked then.
    """
    return along(step, steps, peak, rise(steps, warmup, schedule), schedule)


def rise(steps: int, warmup: float, schedule: str) -> float:
    """Return over how many of the steps the rate rises."""
    return _RISING * steps - 1.0 if schedule == "one-cycle" else int(warmup * steps + 0.5)


def along(step: int, steps: int, peak: float, rising: float, schedule: str) -> float:
    """Return the rate of step `step` of `steps` that rises over the first `rising` (0: it begins at its peak)."""
    if schedule == "one-cycle":
        return _one_cycle(step, steps, peak, rising)
    if step < rising:
        return peak * (step + 1) / rising
    left = max(0.0, (steps - step) / max(1, steps - rising))
    if schedule == "constant":
        return peak
    return peak * (left if schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * left)))


def _one_cycle(step: int, steps: int, peak: float, top: float) -> float:
    low, lowest = peak / 25, peak / 25e4
    if step <= top and top > 0:
        return _between(low, peak, step / top)
    return _between(peak, lowest, (step - top) / max(1.0, steps - 1 - top))


def _between(one: float, other: float, share: float) -> float:
    return other + (one - other) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def shorten(optimizer: torch.optim.Optimizer, norm: torch.Tensor, longest: float) -> None:
    """Let the gradients, whose common norm is `norm`, be at most `longest` at the next step (Pascanu et al. 2013); 0
    leaves them as they are.

    Fused AdamW divides them as it reads them, which saves a pass over the memory.
    """
    if isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]:
        # Set at every step: the scale of the step before would stay in force.
        optimizer.grad_scale = ((norm + 1e-6) / longest).clamp_min(1.0) if longest else None  # type: ignore[attr-defined]
        return
    if not longest:
        return
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grads_with_norm_(weights, longest, norm, foreach=True)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of all groups, each by its scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)


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
    optimizer.state.clear()  # a run that goes back has no moments of weights that did not learn yet
    for key, value in tensors.items():
        name, _, part = key.rpartition("|")
        parameter = parameters[name]
        # Fused AdamW keeps its step count beside the weights.
        # And they take what is shaped like the weights to lie in memory as those do.
        alike = value.shape == parameter.shape
        place = torch.empty_like(parameter, dtype=value.dtype) if alike else torch.empty_like(value)
        optimizer.state[parameter][part] = place.to(parameter.device).copy_(value)
