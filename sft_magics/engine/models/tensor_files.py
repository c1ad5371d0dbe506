"""Tensors as safetensors files, plain or compressed, and back into a model."""

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sft_magics.engine.models import tensor_compression

REFERENCE = "reference.safetensors"


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    """Write a safetensors file with metadata; a full or read-only disk is an OSError, as everywhere else."""
    try:
        save_file(tensors, path, metadata=about or {"format": "pt"})
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def weights_of(model: nn.Module, only: set[str] | None = None) -> dict[str, torch.Tensor]:
    """Return the model's tensors once each, on the CPU, all or `only` some: shared ones under their first name."""
    seen: set[int] = set()
    found = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            if only is None or name in only:
                found[name] = tensor.detach().cpu().contiguous()
    return found


def load_weights(model: nn.Module, folder: Path) -> None:
    """Copy the tensors of `folder/model.safetensors` into the model; every name must be one of the model's."""
    put(model, part(folder))


def part(folder: Path, name: str = "model") -> dict[str, torch.Tensor]:
    """Return the tensors of `folder/NAME.safetensors`, on the CPU, compressed or not."""
    made = folder / f"{name}{tensor_compression.SUFFIX}"
    if not made.exists():
        return load_file(folder / f"{name}.safetensors")
    reference = folder / REFERENCE
    return tensor_compression.unpacked(made, reference if reference.exists() else None)


def put(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy tensors into the model; every name must be one of the model's."""
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
