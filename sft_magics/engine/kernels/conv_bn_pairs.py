"""Which convolution feeds which normalization, and whether one can take the other over.

It is seen by running the model on a row; whether the model says the same without the normalizations is measured on that
row, so one that uses a convolution's output elsewhere too stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from sft_magics.engine.kernels import convolutions

_CLOSE = 1e-3  # of the largest number that a layer says of the row


@dataclass(frozen=True)
class Pair:
    """A convolution and the normalization that takes its output."""

    convolution: nn.Conv2d
    norm: nn.Module


@torch.inference_mode()
def foldable(model: nn.Module, probe: Callable[[], object], fold: Callable[[Pair], None]) -> list[Pair]:
    """Return what can be folded in a model that only reads: none where it would not say the same of the `probe`.

    `fold` is tried and taken back.
    """
    with torch.autocast("cpu", enabled=False):
        pairs, said = _watched(model, probe)
        before = kept(pairs)
        try:
            for pair in pairs:
                fold(pair)
            return pairs if _agree(said, _watched(model, probe)[1]) else []
        finally:
            restore(before)


def kept(pairs: list[Pair]) -> list[tuple[nn.Module, Any]]:
    """Return how the modules of pairs are called now, for `restore`."""
    return [(module, vars(module).get("forward")) for pair in pairs for module in (pair.convolution, pair.norm)]


def restore(kept: list[tuple[nn.Module, Any]]) -> None:
    """Let modules be called as they were."""
    for module, forward in kept:
        module.__dict__.pop("forward", None)
        if forward is not None:
            module.forward = forward


def _agree(said: list[torch.Tensor], again: list[torch.Tensor]) -> bool:
    return len(said) == len(again) and all(_close(a, b) for a, b in zip(said, again, strict=True))


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    largest = one.abs().max() if one.numel() else torch.zeros(())
    return bool(((one - other).abs() <= _CLOSE * largest.clamp(min=1e-6)).all())


def _watched(model: nn.Module, probe: Callable[[], object]) -> tuple[list[Pair], list[torch.Tensor]]:
    """Run a model, and return its pairs and what it and its layers say, but for the convolutions of the pairs."""
    outputs: list[tuple[nn.Module, torch.Tensor]] = []
    pairs: dict[nn.Module, Pair] = {}
    counts: dict[nn.Module, int] = {}

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        counts[module] = counts.get(module, 0) + 1
        if normalizes(module) and (source := next((m for m, o in outputs if o is inputs[0]), None)) is not None:
            pairs[module] = Pair(source, module)  # type: ignore[arg-type]
        if isinstance(output, torch.Tensor):
            outputs.append((module, output))  # kept, so that no other tensor can be taken for it

    inside = {part for m in model.modules() if normalizes(m) for part in m.children()}  # timm's hold their activation
    hooks = [m.register_forward_hook(after) for m in model.modules() if _is_watched(m) and m not in inside]
    try:
        found = [t for t in tree_leaves(probe()) if isinstance(t, torch.Tensor)]
    finally:
        for hook in hooks:
            hook.remove()
    once = [p for p in pairs.values() if _folds(p) and counts[p.convolution] == counts[p.norm] == 1]
    hidden = {p.convolution for p in once}
    said = [*(o for m, o in outputs if m not in hidden), *found]
    return once, [o.float() for o in said if o.is_floating_point()]


def _is_watched(module: nn.Module) -> bool:
    return normalizes(module) or not any(True for _ in module.children())


def normalizes(module: nn.Module) -> bool:
    """Say whether a module normalizes each channel by what it counted."""
    return isinstance(module, nn.BatchNorm2d) or type(module).__name__ == "FrozenBatchNorm2d"  # torchvision's


def _folds(pair: Pair) -> bool:
    numbers = ("running_mean", "running_var", "weight", "bias")
    return convolutions.knows(pair.convolution) and all(getattr(pair.norm, name) is not None for name in numbers)
