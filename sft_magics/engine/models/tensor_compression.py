"""Tensors in fewer bytes, to the bit: the form in which the checkpoint of a run that rests is kept.

Floating-point numbers of a kind share their high bytes (sign and exponent), while their low bytes look random. So each
tensor is split into planes, the first bytes of all its elements, then the second and so on, and every plane that zstd
makes smaller is kept that way. Weights are first combined by exclusive or with the weights of a `reference`, a file
that is on the disk anyway: what training did not change becomes zeros, and equal tensors take no room at all.

    NAME.compressed    a safetensors file: "TENSOR|PLANE" -> uint8; its metadata has dtype, shape and what was combined

AdamW's moments of a fine-tuned BERT take about 0.85 of their bytes, its weights about half.
"""

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

SUFFIX = ".compressed"
_CODEC = "zstd"
_PART = 1 << 22  # bytes of a plane that decide whether the whole is worth it
_GAINS = 0.98


def packed(
    tensors: Mapping[str, torch.Tensor], reference: Path | None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return planes and metadata of `tensors` (on the CPU, any dtype and shape), for a safetensors file.

    Tensors that `reference`, a safetensors file, has under the same name, shape and dtype are combined with those.
    """
    planes: dict[str, torch.Tensor] = {}
    about: dict[str, Any] = {}
    with _References(reference) as references:
        for name, tensor in tensors.items():
            other = references.like(name, tensor)
            data = _bytes(tensor) if other is None else _bytes(tensor) ^ _bytes(other)
            about[name] = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), other is not None]
            for number, plane in enumerate(data.T.contiguous() if data.numel() else ()):
                planes[f"{name}|{number}"] = _smaller(plane)
    return planes, {"format": "pt", "about": json.dumps(about)}


def unpacked(path: Path, reference: Path | None) -> dict[str, torch.Tensor]:
    """Return the tensors of the file `path`, on the CPU; `reference` is the file they were combined with."""
    found: dict[str, torch.Tensor] = {}
    with safe_open(path, framework="pt") as file, _References(reference) as references:
        for name, (kind, shape, combined) in json.loads(file.metadata()["about"]).items():
            dtype: torch.dtype = getattr(torch, kind)
            count = math.prod(shape)
            width = dtype.itemsize if count else 0
            planes = [_restored(file.get_tensor(f"{name}|{number}"), count) for number in range(width)]
            data = torch.stack(planes, 1) if planes else torch.empty(0, 1, dtype=torch.uint8)
            tensor = data.reshape(-1).view(dtype).reshape(shape)
            if combined:
                data = _bytes(tensor) ^ _bytes(references.get(name))
                tensor = data.reshape(-1).view(dtype).reshape(shape)
            found[name] = tensor
    return found


class _References:
    """The tensors of a safetensors file, read one by one; of none where there is no file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Any = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "_References":
        if self._path is not None:
            self._file = self._open.enter_context(safe_open(self._path, framework="pt"))
            self._names = set(self._file.keys())
        return self

    def __exit__(self, *problem: object) -> None:
        self._open.close()

    def like(self, name: str, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor of that name if it has the shape and dtype of `tensor`."""
        if self._file is None or name not in self._names:
            return None
        found = self.get(name)
        return found if (found.shape, found.dtype) == (tensor.shape, tensor.dtype) else None

    def get(self, name: str) -> torch.Tensor:
        """Return the tensor of that name."""
        found: torch.Tensor = self._file.get_tensor(name)
        return found


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor, elements x bytes of each, uint8."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).reshape(flat.numel(), tensor.element_size())


def _smaller(plane: torch.Tensor) -> torch.Tensor:
    """Return a plane compressed, or as it is where that gains little."""
    import pyarrow as pa

    raw = plane.numpy()
    if raw.nbytes > _PART and len(pa.compress(raw[:_PART], _CODEC, asbytes=True)) > _GAINS * _PART:
        return plane
    made = pa.compress(raw, _CODEC, asbytes=True)
    return plane if len(made) > _GAINS * raw.nbytes else torch.frombuffer(bytearray(made), dtype=torch.uint8)


def _restored(stored: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` bytes of a plane."""
    import pyarrow as pa

    if stored.numel() == count:
        return stored
    made = pa.decompress(stored.numpy(), decompressed_size=count, codec=_CODEC, asbytes=True)
    return torch.frombuffer(bytearray(made), dtype=torch.uint8)
