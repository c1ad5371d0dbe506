"""Loads the tensors of a model's folder: a plain one, or one checked out from the store.

Of a plain folder the same file is taken that transformers takes, and never one of a sub-folder:

    model.safetensors               else
    model.safetensors.index.json    the shards it names, else
    pytorch_model.bin               else
    pytorch_model.bin.index.json    the shards it names

The tensors of a checked-out folder come straight from the store's packs, each verified on its way in. The weights of a
LoRA adapter lie in a sub-folder of a known name, `ADAPTER`, and are loaded apart.
"""

import contextlib
import json
import mmap
import os
import zlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file

from sft_magics.core import errors
from sft_magics.core.runtime import weights
from sft_magics.core.runtime.weights import Stored

ADAPTER = "adapter"
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"
_POINTER = b"version https://git-lfs"
_ADAPTER_FILE = f"{ADAPTER}/adapter_model.safetensors"

_THREADS = 4
_POPULATE_READ = 22  # Linux 5.14: map all pages that are there at once, instead of at each first touch
_TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_OTHER = "use another version (%sft_versions lists them); %sft_registry --verify checks all."


def load(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a model's folder by name, without those of an adapter.

    Raises ModelProblem when there are none, a file or shard is missing, or stored bytes are not those that were saved.
    """
    stored = weights.read(folder)
    chosen = files(folder, () if stored is None else stored.files)
    found = {} if stored is None else _checked_out(folder, stored, chosen)
    for file in chosen:
        if stored is None or file not in stored.files:
            found.update(_of_file(folder, file))
    return found


def load_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the LoRA adapter beside a model, none where there is no adapter."""
    stored = weights.read(folder)
    if stored is not None:
        return _checked_out(folder, stored, [_ADAPTER_FILE])
    return load_file(folder / _ADAPTER_FILE) if (folder / _ADAPTER_FILE).is_file() else {}


def files(folder: Path, stored: Collection[str] = ()) -> list[str]:
    """Return the files that hold a model's tensors (see above); `stored` names those that lie in the store's packs.

    Raises ModelProblem where there is none, or an index cannot be read.
    """
    for whole in _WHOLE:
        if whole in stored or (folder / whole).is_file():
            return [whole]
        if (folder / f"{whole}{_INDEX}").is_file():
            return _shards(folder, f"{whole}{_INDEX}")
    other = sorted({*stored, *(file.name for file in folder.glob("*.safetensors"))})
    if other:
        raise errors.ModelProblem(
            f"The folder {folder} has {', '.join(other[:3])}, but no model.safetensors and no index that names shards.",
            "name a folder that holds a whole model; if that file is one, rename it to model.safetensors.",
        )
    raise errors.ModelProblem(
        f"The folder {folder} holds no weights (model.safetensors).",
        "name a folder or a hub id that holds a whole model.",
    )


def _shards(folder: Path, index: str) -> list[str]:
    try:
        found = sorted({str(name) for name in json.loads((folder / index).read_text())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.ModelProblem(
            f"{folder / index} cannot be read ({type(error).__name__}: {error}).", "download or copy it again."
        ) from error
    outside = [name for name in found if Path(name).name != name]
    if outside or not found:
        what = f"{outside[0]}, which is not a file of its folder" if outside else "no shard"
        raise errors.ModelProblem(f"{folder / index} names {what}.", "download or copy it again.")
    return found


def _of_file(folder: Path, name: str) -> dict[str, torch.Tensor]:
    path = folder / name
    if not path.is_file():
        raise errors.ModelProblem(
            f"The folder {folder} is not whole: its index names {name}, which is not there.", "download it again."
        )
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise errors.ModelProblem(f"{path} is a pointer of Git LFS, not the weights themselves.", "git lfs pull")
    if name.endswith(".safetensors"):
        return load_file(path)
    found = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise errors.ModelProblem(
            f"{path} holds something other than the tensors of a model.",
            "save them by save_pretrained, as model.safetensors.",
        )
    return found


def _checked_out(folder: Path, index: weights.Index, chosen: Collection[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of `chosen` files from the store's packs."""
    try:
        return _load(folder, index, chosen)
    except FileNotFoundError:  # a collection moved tensors to another pack, and renewed the index first
        renewed = weights.read(folder)
    try:
        return _load(folder, renewed or index, chosen)
    except FileNotFoundError as error:
        raise errors.ModelProblem(f"The weights in {folder} are no longer there.", _OTHER) from error


def _load(folder: Path, index: weights.Index, chosen: Collection[str]) -> dict[str, torch.Tensor]:
    packs = [_mapped(folder / weights.pack(name)) for name in index.packs]
    tensors = [pair for file, found in index.files.items() if file in chosen for pair in found.items()]
    shares = weights.shares([stored.size for _, stored in tensors], min(_THREADS, os.cpu_count() or 1))

    def read(share: list[int]) -> list[tuple[str, torch.Tensor]]:
        return [(name, _read(name, stored, packs[stored.pack])) for name, stored in (tensors[i] for i in share)]

    with ThreadPoolExecutor(len(shares)) as pool:
        return dict(pair for pairs in pool.map(read, shares) for pair in pairs)


def _mapped(path: Path) -> mmap.mmap:
    """Map a pack: its pages come from the system's cache without a copy, and what is written to them stays here."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        found = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(fd)
    with contextlib.suppress(OSError, ValueError):  # an older kernel; the pages come one by one
        found.madvise(_POPULATE_READ)
    return found


def _read(name: str, stored: Stored, pack: mmap.mmap) -> torch.Tensor:
    if stored.dtype not in _TYPES:
        raise errors.ModelProblem(f"The tensor {name} has the type {stored.dtype}, which torch lacks here.", _OTHER)
    dtype = _TYPES[stored.dtype]
    with memoryview(pack) as whole, whole[stored.start : stored.start + stored.size] as part:
        if len(part) != stored.size or zlib.crc32(part) != stored.crc32:
            raise errors.ModelProblem(f"The tensor {name} is damaged: its bytes are not those that were saved.", _OTHER)
        if not stored.size:
            return torch.empty(stored.shape, dtype=dtype)
        if stored.start % dtype.itemsize:
            return torch.frombuffer(bytearray(part), dtype=dtype).reshape(stored.shape)
    count = stored.size // dtype.itemsize
    return torch.frombuffer(pack, dtype=dtype, count=count, offset=stored.start).reshape(stored.shape)
