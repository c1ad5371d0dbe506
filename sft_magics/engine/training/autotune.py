"""What a run settles for itself before its first step: how many rows are computed at once, whether it is compiled.

What is settled is said, goes into every checkpoint and into the version's options: a run that is taken up or made again
does not ask again.
"""

from typing import TYPE_CHECKING

import torch

from sft_magics.core.events import Remark
from sft_magics.engine.runtime import memory
from sft_magics.engine.tasks import Batch
from sft_magics.engine.training import compiling, trial_steps

if TYPE_CHECKING:
    from sft_magics.engine.training.loop import Loop

_ROOM = 0.8  # of what is free; the rest is for evaluations, saving, and whoever else is there
_KERNELS = 1.25  # what a step takes over its tensors: the kernels' own room, and gaps between blocks
_PAYS = 0.95  # what is chosen for speed has to take no more than this share of the time
_GAIN = 0.3  # share of a step that compiling saves at best
_COMPILING = 60.0  # seconds that compiling takes, about


def settle(loop: "Loop") -> None:
    """Settle what is left open, unless a checkpoint says how it was settled; from then on the loop does so."""
    options, chosen = loop.plan.options, loop.state.chosen
    if options.get("micro_batch") == "auto" and "micro_batch" not in chosen:
        chosen["micro_batch"] = _micro_batch(loop)
    if options.get("compile", "off") != "off":
        _compile(loop)
    micro = int(chosen.get("micro_batch", options.get("micro_batch") or 0))
    loop.gradients.take(micro)
    if micro and memory.has_batch_norm(loop.task.model):
        what = f"BatchNorm counts over {micro} rows at a time: the gradients differ a little from the whole's."
        loop.say(Remark("info", what))


def note(loop: "Loop") -> None:
    """Note what has changed since: parts that were halved, a compiled model that failed."""
    chosen, micro = loop.state.chosen, loop.gradients.micro
    if micro != int(chosen.get("micro_batch", loop.plan.options.get("micro_batch") or 0)):
        chosen["micro_batch"] = micro
    if chosen.get("compile") == "on" and not compiling.running(loop.task.model):
        chosen["compile"] = "off"


def _compile(loop: "Loop") -> None:
    """Compile the model if that was settled before, was asked for, or pays by what a few steps take."""
    chosen, wanted = loop.state.chosen, loop.plan.options["compile"]
    model, device = loop.task.model, loop.plan.hardware.device
    lacking = compiling.why_not(device)
    if lacking:
        loop.say(Remark("warning", f"Steps are not compiled: {lacking}."))
        chosen["compile"] = "off"
    elif chosen.get("compile", wanted) == "on":
        compiling.start(model, loop.plan.train.lengths)
        loop.say(Remark("info", "Steps are compiled; the first one waits for it."))
        chosen["compile"] = "on"
    elif "compile" not in chosen:
        chosen["compile"], why = ("off", compiling.NO_GAIN) if device.type == "cpu" else compiled_pays(loop)
        loop.say(Remark("info", f"Steps are {'' if chosen['compile'] == 'on' else 'not '}compiled: {why}."))


def compiled_pays(loop: "Loop") -> tuple[str, str]:
    """Return "on" or "off" and the reason, by what steps take as they are and compiled; if "on" the model is compiled.

    A run too short to win back a compilation is not compiled to find out.
    """
    model, steps = loop.task.model, loop.plan.steps - loop.state.step
    batch = loop.batch_of(costliest(loop))
    with trial_steps.untouched(model):
        plain = trial_steps.seconds_of(loop.gradients, batch)
        if plain * steps * _GAIN < _COMPILING:
            return "off", f"{steps:,} steps of {plain:.2g} s are too few to win back what compiling takes"
        compiling.start(model, loop.plan.train.lengths)
        try:
            fast = trial_steps.seconds_of(loop.gradients, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on without
            compiling.stop(model)
            return "off", f"it fails here ({type(error).__name__})"
    if fast > _PAYS * plain:
        compiling.stop(model)
        return "off", f"a step takes {fast:.2g} s compiled and {plain:.2g} s as it is"
    return "on", f"a step takes {fast:.2g} s, and {plain:.2g} s as it is"


def costliest(loop: "Loop") -> int:
    """Return the step of the first epoch whose batch is the largest when it is filled up."""
    lengths = loop.plan.train.lengths
    sizes = [len(rows) * max(lengths[i] for i in rows) for rows in loop.batches_of(0)]
    return max(range(len(sizes)), key=sizes.__getitem__)


def _micro_batch(loop: "Loop") -> int:
    """Return how many rows to compute at once; 0: a whole batch."""
    batch = loop.batch_of(costliest(loop))
    with trial_steps.untouched(loop.task.model):
        if loop.plan.hardware.device.type == "cuda":
            rows, said = by_trial(loop, batch)
        else:
            rows, said = by_estimate(loop, batch)
    loop.gradients.forget()
    whole = trial_steps.size(batch)  # a task may pack a batch into fewer rows
    parts = -(-whole // max(1, rows))
    micro = 0 if parts == 1 else -(-loop.gradients.batch // parts)
    what = f"in parts of {micro}; the steps stay the same" if micro else "whole"
    loop.say(Remark("info", f"Batches of {loop.gradients.batch} rows are taken {what}: {said}."))
    return micro


def by_estimate(loop: "Loop", batch: Batch) -> tuple[int, str]:
    """Return how many rows fit into the memory that is free, by what few of them take, and the reason."""
    whole, least = trial_steps.size(batch), _least(loop)
    few = max(least, whole // 8)
    more = max(few + 1, whole // 4)
    free = memory.free_bytes(loop.plan.hardware.device)
    if whole < more:
        return whole, "there is nothing to part"
    try:
        low, high = (trial_steps.memory_of(loop.gradients, trial_steps.first(batch, n)) for n in (few, more))
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
        return least, f"{_shown(free)} are free, and a few rows take more"
    row = max(1.0, (high - low) / (more - few))
    fixed = max(0.0, low - few * row) + _moments(loop)
    fits = int((_ROOM * free / _KERNELS - fixed) / row)
    rows = min(whole, max(least, fits))
    need = _KERNELS * (fixed + rows * row)
    return rows, f"a step takes about {_shown(need)}, and {_shown(free)} are free"


def by_trial(loop: "Loop", batch: Batch) -> tuple[int, str]:
    """Return the most rows that really fit, or half of them where these are faster a row, and the reason.

    Room for the optimizer's moments is taken while it is tried.
    """
    rows, least = trial_steps.size(batch), _least(loop)
    while True:
        fits, took = _tried(loop, batch, rows)
        if fits or rows <= least:
            break
        rows = max(least, rows // 2)
    half = max(least, rows // 2)
    if fits and half < rows:
        _, faster = _tried(loop, batch, half)
        if faster / half < _PAYS * took / rows:
            return half, f"{rows} at once would fit too, at {1000 * (took / rows - faster / half):.2g} ms more a row"
    return rows, f"tried, {1000 * took / rows:.2g} ms a row" if fits else "not even so few fit"


def _tried(loop: "Loop", batch: Batch, rows: int) -> tuple[bool, float]:
    try:
        held = torch.empty(_moments(loop), dtype=torch.uint8, device=loop.plan.hardware.device)
        took = trial_steps.seconds_of(loop.gradients, trial_steps.first(batch, rows))
        del held
        return True, took
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
    loop.gradients.forget()
    return False, 0.0


def _least(loop: "Loop") -> int:
    return 2 if memory.has_batch_norm(loop.task.model) else 1


def _moments(loop: "Loop") -> int:
    """Return the bytes that the optimizer will keep beside the weights that learn."""
    each = 2 if loop.plan.options.get("optimizer", "adamw") == "adamw" else 1
    learning = [p for p in loop.task.model.parameters() if p.requires_grad]
    return each * sum(p.numel() * p.element_size() for p in learning)


def _shown(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
