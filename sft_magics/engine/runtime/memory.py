"""Memory: what is free, what a step takes, and how torch says that there is no more."""

import contextlib
import weakref
from typing import Any

import psutil
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sft_magics.engine.runtime import free_memory

# How torch's allocators say it: the GPU's, the CPU's, oneDNN's. What oneDNN means by the last but one was seen when
# memory had run out; it gives no reason.
_SIGNS = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "could not create a memory object",
    "could not create a primitive",
    "bad_alloc",
)


def ran_out(error: BaseException) -> bool:
    """Say whether this is how memory runs out; torch says it as a RuntimeError on CPUs."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def free_bytes(device: torch.device) -> int:
    """Return the bytes that this process may still take: of the GPU, or of the machine within its limits."""
    if device.type == "cuda":
        there, _ = torch.cuda.mem_get_info(device)
        return int(there) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = [free_memory.free_memory()]
    with contextlib.suppress(ImportError):  # Windows has no such limits
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            found.append(limit - int(psutil.Process().memory_info().vms))
    return max(0, min(found))


def has_batch_norm(model: nn.Module) -> bool:
    """Say whether what a row gives depends on the rows beside it; normalization that is held still counts none."""
    still = {m for outer in model.modules() if getattr(outer, "still", False) for m in outer.modules()}
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m not in still for m in model.modules())


class Meter(TorchDispatchMode):
    """Counts the bytes of tensors that are made and freed while it is on: `now`, and the most so far, `peak`.

    It sees forward and backward; what a kernel takes for itself and gives back it does not see.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation and count the storages that are new in what it returns."""
        made = func(*args, **(kwargs or {}))
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in known:
                storage = tensor.untyped_storage()
                known.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, storage.nbytes())
        return made

    def _freed(self, size: int) -> None:
        self.now -= size
