"""How far weights moved from one trained folder to another, block by block."""

import re
from pathlib import Path
from typing import Any

import torch

from sft_magics.engine.models import weight_loading

# Numbers stand alone, but in some nets of torchvision's: `encoder_layer_3`, `denselayer3`, `block2-3`.
_BLOCK = re.compile(r"^(?:[^.]+\.)*?(?:encoder_layer_|denselayer|block\d+-)?\d+(?=\.)")


def changes(before: Path, after: Path) -> list[dict[str, Any]]:
    """Return block, parameters, norm of the change and that over the norm before, in the order of the first folder.

    A block is all that stands under the first number of a name (`encoder.layer.3`), or one module. Tensors that only
    one of them has, or that have another shape, are left out.
    """
    one, two = tensors(before), tensors(after)
    sums: dict[str, list[float]] = {}
    for name, old in one.items():
        new = two.get(name)
        if new is None or new.shape != old.shape or not old.is_floating_point():
            continue
        moved = float((new.double() - old.double()).square().sum())
        total = sums.setdefault(block(name), [0.0, 0.0, 0.0])
        total[0] += old.numel()
        total[1] += moved
        total[2] += float(old.double().square().sum())
    return [
        {"block": b, "parameters": int(n), "norm": moved**0.5, "relative": (moved / whole) ** 0.5 if whole else 0.0}
        for b, (n, moved, whole) in sums.items()
    ]


def largest_difference(before: Path, after: Path) -> tuple[bool, float]:
    """Return whether two folders hold the same tensors to the bit, and the largest difference of any number."""
    one, two = tensors(before), tensors(after)
    if one.keys() != two.keys() or any(one[n].shape != two[n].shape for n in one):
        return False, float("inf")
    same = all(torch.equal(one[n], two[n]) for n in one)
    gaps = [float((one[n].double() - two[n].double()).abs().max()) for n in one if one[n].numel()]
    return same, max(gaps, default=0.0)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a trained folder, checked out or plain."""
    return weight_loading.load(folder) | weight_loading.load_adapter(folder)


def block(name: str) -> str:
    """Return the block that a tensor belongs to."""
    found = _BLOCK.match(name)
    return found[0] if found else name.rpartition(".")[0] or name


def numbered(name: str) -> bool:
    """Say whether a tensor belongs to a block that is one of several."""
    return _BLOCK.match(name) is not None
