"""A few steps before the many: how long they take, how much memory they need, which rate they bear.

Nothing of it is kept: the weights that are tried are thrown away with the process.
"""

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_magics.core.events import Event, Progress, Remark, Sink
from sft_magics.engine.inference import scoring
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import used_embeddings
from sft_magics.engine.training import autotune, evaluation_schedule, gradual_unfreezing, mfu, optimizers
from sft_magics.engine.training.loop import Loop

_STEPS = 3
_WARM = 1
_SCORED = 128  # rows that are measured to know what an evaluation takes
_DIVERGED = 4.0
_SMOOTH = 0.8
_LOWEST = 1e-7
_COMPUTING = "Computing in"  # how a remark begins that says nothing of the rows


def plan(spec: dict[str, Any], sink: Sink, folder: Path) -> dict[str, Any]:
    """Take a few steps of the run that `spec` orders and measure them; see `worker.train` for the spec and errors.

    Returns seconds a step (each), seconds an evaluation takes, steps, rows and how many at once, weights in all and
    those that learn, operations of a step and the machine's peak a second, peak memory in MB, bytes of a
    checkpoint and of a version, and the machine.
    """
    with worker.out_of_memory(spec):
        loop, _ = worker.prepare(spec, sink, folder)
        autotune.settle(loop)
        model = loop.task.model
        gradual_unfreezing.learn(model)
        seconds = []
        for step in range(min(_WARM + _STEPS, loop.plan.steps)):
            sink(Progress("steps", step, _WARM + _STEPS))
            began = time.monotonic()
            loop.rehearse(step)
            seconds.append(time.monotonic() - began)
        loop.loader.close()
        sink(Progress("what this machine can compute", 0))
        flops, most = mfu.operations(loop), mfu.peak(loop.plan.hardware)
        sink(Progress("an evaluation", 0))
        learning = [p for p in model.parameters() if p.requires_grad]
        kept = model.state_dict()
        buffers = sum(b.numel() * b.element_size() for n, b in model.named_buffers() if n in kept)
        moments = 2 if spec["options"].get("optimizer", "adamw") == "adamw" else 1
        return {
            "seconds": seconds[_WARM:] or seconds,
            "evaluation": _evaluation(loop),
            "steps": loop.plan.steps,
            "evaluations": evaluation_schedule.count(loop.plan.batches, loop.plan.steps, loop.plan.options),
            "flops": flops,
            "peak": most,
            "rows": len(loop.plan.train.lengths),
            "micro_batch": loop.gradients.micro,
            "weights": sum(p.numel() for p in model.parameters()) + used_embeddings.apart(model),
            "learning": sum(p.numel() for p in learning) + used_embeddings.apart(model),
            "memory_mb": loop.plan.hardware.memory_mb(),
            "checkpoint_bytes": (1 + moments) * sum(p.numel() * p.element_size() for p in learning) + buffers,
            "version_bytes": sum(p.numel() * p.element_size() for p in model.parameters())
            + buffers
            + 4 * used_embeddings.apart(model),
            "machine": loop.plan.hardware.facts(),
        }


def _evaluation(loop: Loop) -> float:
    """Return the seconds that measuring the validation rows takes, from a part of them where they are many."""
    rows = loop.plan.validation
    part = min(_SCORED, len(rows.lengths))
    began = time.monotonic()
    scoring.score(loop.task, rows, loop.plan.hardware, only=range(part))
    share = sum(rows.lengths[:part]) / max(1, sum(rows.lengths))
    return (time.monotonic() - began) / max(share, 1e-9)


def look(spec: dict[str, Any], sink: Sink, folder: Path) -> dict[str, Any]:
    """Return the first `spec["rows"]` rows of the first batch of `spec["epoch"]`, and the shapes of its tensors.

    The task's own encoding and collating make the batch, and it is turned back from its tensors.
    See `worker.train` for the rest of the spec and for what is raised. Nothing is trained, nothing is kept.
    """
    notes: list[str] = []

    def hear(event: Event) -> str:
        if isinstance(event, Remark) and not event.text.startswith(_COMPUTING):
            notes.append(event.text)
        return sink(event)

    with worker.out_of_memory(spec):
        loop, _ = worker.prepare(spec, hear, folder)
        indices, batch = loop.seen(int(spec["epoch"]) * loop.plan.batches)
        loop.loader.close()
        rows = loop.task.turned_back(loop.plan.train, batch, indices[: int(spec["rows"])])
        shapes = [f"{name} {' x '.join(map(str, t.shape))} {str(t.dtype).removeprefix('torch.')}"
                  for name, t in batch.items()]  # fmt: skip
        return {"rows": rows, "batch": len(indices), "tensors": shapes, "notes": notes}


def find_rate(spec: dict[str, Any], sink: Sink, folder: Path, steps: int) -> dict[str, Any]:
    """Let the rate rise from 1e-7 by a constant factor a step, and record the loss (Smith 2017, the range test).

    It ends when the smoothed loss is four times the lowest or no number. Returns the points, the steepest rate, a tenth
    of the rate at the lowest loss, and the rate at which it diverged, if it did.
    """
    with worker.out_of_memory(spec):
        loop, _ = worker.prepare(spec, sink, folder)
        autotune.settle(loop)
        gradual_unfreezing.learn(loop.task.model)
        highest = 10.0 if spec["options"].get("optimizer", "adamw") == "sgd" else 1.0
        factor = (highest / _LOWEST) ** (1 / max(1, steps - 1))
        rates: list[float] = []
        losses: list[float] = []
        smoothed: list[float] = []
        for step in range(steps):
            rate = _LOWEST * factor**step
            optimizers.set_rate(loop.optimizer, rate)
            loss = loop.rehearse(step % loop.plan.steps)
            before = smoothed[-1] if smoothed else loss
            smooth = _SMOOTH * before + (1 - _SMOOTH) * loss
            rates.append(rate)
            losses.append(loss)
            smoothed.append(smooth)
            if not math.isfinite(loss) or smooth > _DIVERGED * min(smoothed):
                break
            if sink(Progress("rates", step + 1, steps)) == "stop":
                break
        loop.loader.close()
        return {**advice(rates, smoothed), "rates": rates, "losses": losses, "smoothed": smoothed}


def advice(rates: Sequence[float], smoothed: Sequence[float]) -> dict[str, Any]:
    """Return the steepest rate, a tenth of that of the lowest loss, and where the loss went away (None: nowhere)."""
    known = [(r, s) for r, s in zip(rates, smoothed, strict=True) if math.isfinite(s)]
    lowest = min(range(len(known)), key=lambda i: known[i][1]) if known else 0
    falls = [(known[i + 1][1] - known[i - 1][1], known[i][0]) for i in range(1, len(known) - 1) if i <= max(lowest, 1)]
    steepest = min(falls)[1] if falls else (known[0][0] if known else _LOWEST)
    first = statistics.median(s for _, s in known[: max(1, len(known) // 4)]) if known else 0.0
    gone = len(known) < len(rates) or (bool(known) and known[-1][1] > 2 * known[lowest][1])
    return {
        "steepest": steepest,
        "tenth": known[lowest][0] / 10 if known else _LOWEST,
        "diverged": rates[-1] if gone else None,
        "fell": bool(known) and known[lowest][1] < 0.98 * first,
    }
