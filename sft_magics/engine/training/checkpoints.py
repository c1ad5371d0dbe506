"""Checkpoints that are whole or not there: staged, hashed, synced, renamed; the newest whose hashes match is used.

    checkpoints/step-00000123/
        model.safetensors       the weights that learn, and what is counted beside them
        optimizer.safetensors   AdamW's moments and step counts
        random.safetensors      the states of the random generators
        average.safetensors     the average of the weights, where one is kept
        state.json              step, best so far, rate scale, ...
        manifest.json           sha256 of each of the others; written last

The checkpoint that a run leaves when it is paused or stopped is the only one, and compressed to the bit (see
`tensor_compression`): its tensors lie in model.compressed and so on, and reference.safetensors is a second name (a hard
link) of the best weights, which the model's tensors are combined with. It takes room of its own only once the run goes
on and finds better ones.

Nothing in it is pickled. A disk that refuses is an OSError that names its reason, and leaves the older ones in place.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from sft_magics.core import codec
from sft_magics.core.workspace import sync_folder, write_durably
from sft_magics.engine.models import tensor_compression, tensor_files
from sft_magics.engine.training import optimizers

KEEP = 2
MODEL, MANIFEST = "model.safetensors", "manifest.json"
AVERAGE = "average"


@dataclass
class TrainState:
    """Where a run is, besides its tensors: `summed_*` since the epoch began, `best_*` of the best evaluation so far.

    `history` has of each evaluation the mean training loss before it, the validation loss and the epoch; `evaluations`
    counts them, and `best_evaluation` is the number of the best one, from 1 on. `chosen` has the options that were left
    to the run, as it settled them, and `untrained` is the validation loss before training, where it was measured.
    """

    step: int = 0
    rate_scale: float = 1.0
    skipped: int = 0
    summed_loss: float = 0.0
    summed_steps: int = 0
    best_step: int | None = None
    best_quality: float = -1.0
    best_loss: float = float("inf")
    evaluations: int = 0
    best_evaluation: int = 0
    untrained: float | None = None
    history: list[list[float]] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    average: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Write a checkpoint below `folder` durably, keep the newest two, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{state.step:08d}"
    staged = folder / f".staged-{state.step:08d}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        tensor_files.save_tensors(moving(model, optimizer), staged / "model.safetensors")
        tensor_files.save_tensors(optimizers.memory_of(optimizer, names), staged / "optimizer.safetensors")
        tensor_files.save_tensors(_random_states(), staged / "random.safetensors")
        if average is not None:
            tensor_files.save_tensors(average, staged / f"{AVERAGE}.safetensors")
        write_durably(staged / "state.json", codec.dumps(asdict(state)).encode())
        _seal(staged)
        shutil.rmtree(final, ignore_errors=True)
        staged.rename(final)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    sync_folder(folder)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def rest(checkpoint: Path, best: Path) -> None:
    """Compress the checkpoint of a run that ends before its time, and remove the older ones: they are not needed.

    `best` is the folder of the run's best weights. A disk that refuses leaves everything as it was; a kill leaves one
    whole checkpoint at least.
    """

    def write(folder: Path) -> None:
        folder.mkdir()
        reference = _linked(best / MODEL, folder / tensor_files.REFERENCE)
        for file in sorted(checkpoint.iterdir()):
            if file.suffix == ".safetensors":
                planes, about = tensor_compression.packed(load_file(file), reference if file.name == MODEL else None)
                tensor_files.save_tensors(planes, folder / f"{file.stem}{tensor_compression.SUFFIX}", about)
            elif file.name != MANIFEST:
                shutil.copyfile(file, folder / file.name)
        _seal(folder)

    with contextlib.suppress(OSError):
        replace(checkpoint, write)
        if _whole(checkpoint):
            for old in sorted(checkpoint.parent.glob("step-*")):
                if old != checkpoint:
                    remove(old)


def _linked(file: Path, target: Path) -> Path | None:
    """Give a file a second name; None where there is no file, or no hard links are to be had."""
    try:
        target.hardlink_to(file)
    except OSError:
        return None
    return target


def save_part(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the tensors that learn, of a model whose others are where the run starts, and what they hash to."""
    folder.mkdir(parents=True, exist_ok=True)
    tensor_files.save_tensors(tensors, folder / "model.safetensors")
    _seal(folder)


def _seal(folder: Path) -> None:
    """Put the files of a folder on the disk, and beside them what they hash to."""
    hashes = {file.name: _hash_and_sync(file) for file in sorted(folder.iterdir())}
    write_durably(folder / "manifest.json", codec.dumps(hashes).encode())


def newest(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield each checkpoint below `folder`, newest first, with whether its hashes match."""
    for old in folder.glob(".step-*-old"):  # a kill came while the one that rests was compressed
        recover(folder / old.name.removeprefix(".").removesuffix("-old"))
    for found in sorted(folder.glob("step-*"), reverse=True):
        yield found, _whole(found)


def restore(
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, device: torch.device
) -> TrainState:
    """Put the tensors and generator states of a whole checkpoint back, and return where it was."""
    tensor_files.load_weights(model, checkpoint)
    if optimizer is not None:
        names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        memory = {name: tensor.to(device) for name, tensor in tensor_files.part(checkpoint, "optimizer").items()}
        optimizers.remember(optimizer, names, memory)
        _put_random_states(tensor_files.part(checkpoint, "random"))
    data: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    return codec.build(TrainState, data)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint that is of no use."""
    shutil.rmtree(checkpoint, ignore_errors=True)


def replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `folder`, put it durably on the disk, then in the other's place."""
    staged, old = _beside(folder)
    for path in (staged, old):
        shutil.rmtree(path, ignore_errors=True)
    try:
        write(staged)
        for file in sorted(f for f in staged.rglob("*") if f.is_file()):
            _sync(file)
        sync_folder(staged)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    staged.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put the former `folder` back where a kill between the two renames of `replace` left none."""
    _, old = _beside(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}-new"), folder.with_name(f".{folder.name}-old")


def moving(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the tensors that training changes: all but the frozen weights, which come from where the run starts.

    Those that learn later on (`--unfreeze`) are among them: a run that goes back has to find them as they were.
    """
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    kept = {name for name, parameter in model.named_parameters() if id(parameter) in moved}
    kept |= {name for name, _ in model.named_buffers()}
    return tensor_files.weights_of(model, kept)


def _whole(checkpoint: Path) -> bool:
    try:
        hashes: dict[str, str] = json.loads((checkpoint / "manifest.json").read_text())
        return bool(hashes) and all(_hash(checkpoint / name) == value for name, value in hashes.items())
    except (OSError, ValueError):
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _hash_and_sync(path: Path) -> str:
    _sync(path)
    return _hash(path)


def _random_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _put_random_states(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
