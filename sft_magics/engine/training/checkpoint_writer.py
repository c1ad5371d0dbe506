"""What a run puts on the disk as it trains. A full disk is said, once, and training goes on.

The older whole checkpoint stays where it is. The best weights wait in memory meanwhile, and a checkpoint is written
only when they are on the disk: what it says of them is then true whenever the run is killed.

Where most weights are frozen, `best` holds those that learn while the run goes on, as a checkpoint does, and the whole
model only at its end: of a backbone that does not change one copy is enough.
"""

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from sft_magics.core.events import Event, Remark
from sft_magics.engine.models import tensor_files
from sft_magics.engine.tasks import Task
from sft_magics.engine.training import checkpoints

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FEW = 0.5  # share of the bytes below which only what learns is written


class CheckpointWriter:
    """Writes the checkpoints and the best weights of one run into its folder; `say` takes remarks."""

    def __init__(
        self, folder: Path, task: Task, optimizer: torch.optim.Optimizer, say: Callable[[Event], None]
    ) -> None:
        self.checkpoints = folder / "checkpoints"
        self.best = folder / "best"
        self._task = task
        self._optimizer = optimizer
        self._say = say
        self._held: dict[str, torch.Tensor] | None = None
        self._full = False

    @property
    def whole(self) -> bool:
        """Whether `best` is a model that can be loaded as it is."""
        return is_whole(self.best)

    def keep_best(self) -> None:
        """Write the weights as they are to `best`, wholly or not at all; hold them in memory where there is no room."""
        self._held = None
        moving = checkpoints.moving(self._task.model, self._optimizer)
        try:
            self._write(moving)
        except OSError as error:
            self.put_up_with(error, "the best weights could not be written and wait in memory")
            self._held = {name: tensor.clone() for name, tensor in moving.items()}

    def _write(self, moving: dict[str, torch.Tensor]) -> None:
        """Write what learns, or the model if that is most of it, as it is now."""
        if _size(moving.values()) < _FEW * _size(self._task.model.state_dict().values()):
            checkpoints.replace(self.best, lambda folder: checkpoints.save_part(moving, folder))
        else:
            checkpoints.replace(self.best, self._task.save)

    def settle(self) -> None:
        """Write the best weights that wait in memory, if any do; raises OSError where there still is no room."""
        if self._held is None:
            return
        with _inside(self._task.model, self._held):
            self._write(self._held)
        self._held = None

    def complete(self) -> None:
        """Make `best` a whole model, with the best weights so far; raises OSError where there is no room."""
        self.settle()
        if self.best.exists() and not self.whole:
            with _inside(self._task.model, tensor_files.part(self.best)):
                checkpoints.replace(self.best, self._task.save)

    def checkpoint(self, save: Callable[[], Path], step: int, *, last: bool) -> Path | None:
        """Let `save` write a checkpoint; None where the disk is full, which `last` does not put up with (OSError).

        The last one, of a run that is paused or stopped, is compressed and the only one that is left.
        """
        try:
            self.settle()
            path = save()
        except OSError as error:
            if last:
                raise
            older = max((int(p.name.partition("-")[2]) for p in self.checkpoints.glob("step-*")), default=None)
            stays = "there is none yet" if older is None else f"that of step {older} stays"
            self.put_up_with(error, f"the checkpoint of step {step} could not be written, and {stays}")
            return None
        if last:
            checkpoints.rest(path, self.best)
        if self._full:
            self._full = False
            self._say(Remark("info", f"There is room on the disk again: the checkpoint of step {step} is written."))
        return path

    def put_up_with(self, error: OSError, what: str) -> None:
        """Say, once until there is room again, that the disk is full; raises the error if it is another one."""
        if error.errno not in _FULL:
            raise error
        if not self._full:
            self._full = True
            self._say(Remark("warning", f"The disk is full: {what}. Training goes on; free some space."))


def is_whole(folder: Path) -> bool:
    """Say whether a folder is a model that can be loaded as it is, and not only what learned of one."""
    return (folder / "sft.json").is_file()


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@contextlib.contextmanager
def _inside(model: nn.Module, tensors: dict[str, torch.Tensor]) -> Iterator[None]:
    """Let the model have these weights for a while."""
    own = model.state_dict()
    kept = {name: own[name].detach().clone() for name in tensors}
    _put(own, tensors)
    try:
        yield
    finally:
        _put(own, kept)


@torch.no_grad()
def _put(own: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
