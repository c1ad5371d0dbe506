"""Reading without learning: the answers to encoded rows, or what measuring them needs."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from sft_magics.core.runtime import batches
from sft_magics.core.runtime.batch_workers import BatchWorkers
from sft_magics.engine.inputs.batching import scoring_batches
from sft_magics.engine.kernels import conv_bn_folding, encoder_fast_path
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks import Encoded, Task

_TOKENS = 4096
_FEW = 1024  # rows up to which it pays to look for the cheapest cut: of more every batch has rows of one length
_START = 250  # tokens that a batch costs besides its rows: 64 sentences are read 1.3 times as fast as in one piece
_LANE_START = 100  # the same in a lane, where nothing waits for a second core


def score(
    task: Task,
    rows: Encoded,
    hardware: Hardware,
    progress: Callable[[int, int], None] | None = None,
    only: Sequence[int] | None = None,
    lanes: BatchWorkers | None = None,
    *,
    reads_only: bool = False,
) -> list[Any]:
    """Return what `task.scores` says of each row, in the order given; `progress(done, total)` hears of each batch.

    `only` names the rows to read; the others stay None. With `lanes` batches are read beside each other. A model that
    `reads_only` has been told so, and learns no more.
    """
    if not reads_only:
        task.model.eval()  # half a millisecond: as much as a tenth of an endpoint's answer
    found: list[Any] = [None] * len(rows.lengths)
    done = 0
    chosen = range(len(rows.lengths)) if only is None else only
    telling = threading.Lock()

    def read(indices: Sequence[int]) -> None:
        nonlocal done
        with torch.inference_mode(), hardware.autocast():  # settings of each thread
            batch = {k: v.to(hardware.device, non_blocking=True) for k, v in task.collate(rows, indices).items()}
            said = task.scores(batch)
        with telling:
            for i, row in zip(indices, said, strict=True):
                found[i] = row
            done += len(indices)
            if progress is not None:
                progress(done, len(found))

    lengths = [rows.lengths[i] for i in chosen]
    parts = [
        [chosen[p] for p in places]
        for places in _parts(lengths, lanes, padded=not encoder_fast_path.unpads(task.model))
    ]
    if lanes is not None:
        lanes.run(parts, read)
    else:
        with torch.inference_mode(), hardware.autocast():  # once: weights that were cast are kept until it is left
            for part in parts:
                read(part)
    return found


def _parts(lengths: Sequence[int], lanes: BatchWorkers | None, *, padded: bool) -> list[list[int]]:
    if len(lengths) > _FEW:
        return scoring_batches(lengths, _TOKENS)
    cut = batches.plan if padded else batches.unpadded
    return cut(lengths, _START) if lanes is None else batches.dealt(lengths, lanes.count, _LANE_START, cut=cut)


@contextlib.contextmanager
def quickened(task: Task, rows: Encoded, hardware: Hardware) -> Iterator[None]:
    """Let the model of a task only read, as quickly as it can, until the end; its weights may not change meanwhile."""

    def probe() -> None:
        task.scores({k: v.to(hardware.device) for k, v in task.collate(rows, [0]).items()})

    with (
        conv_bn_folding.folded(task.model, hardware, probe)
        if rows.lengths and not rows.read
        else contextlib.nullcontext()
    ):
        yield
