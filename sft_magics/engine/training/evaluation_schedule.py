"""When a run measures its weights on the validation rows, and when it ends because nothing got better."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sft_magics.core.events import Remark

if TYPE_CHECKING:
    from sft_magics.engine.training.loop import Loop


def due(step: int, batches: int, steps: int, options: Mapping[str, Any]) -> bool:
    """Say whether an evaluation follows `step`: at the end of each epoch of so many batches and of the run, and within
    an epoch after every `eval_steps` steps of it.
    """
    place, inside = step % batches, int(options.get("eval_steps") or 0)
    return step == steps or not place or (inside > 0 and not place % inside)


def count(batches: int, steps: int, options: Mapping[str, Any]) -> int:
    """Return how many evaluations a run of so many steps has."""
    return sum(due(step, batches, steps, options) for step in range(1, steps + 1))


def no_better(loop: "Loop") -> bool:
    """Say whether as many evaluations as patience allows found no better answers to the validation rows, aloud."""
    plan, state = loop.plan, loop.state
    patience = int(plan.options.get("patience") or 0)
    if not patience or not state.step or not due(state.step, plan.batches, plan.steps, plan.options):
        return False
    since = state.evaluations - state.best_evaluation
    if since < patience:
        return False
    many = "1 evaluation" if since == 1 else f"{since} evaluations"
    best = f"step {state.best_step} (epoch {(state.best_step or 0) / plan.batches:.3g})"
    loop.say(Remark("info", f"No better for {many}: ended early, with the weights of {best}."))
    return True


def measure_untrained(loop: "Loop") -> None:
    """Measure a base that answers before it is trained, before the first step: what was learned is the difference."""
    if not loop.task.pretrained_answers or loop.state.step or loop.state.untrained is not None:
        return
    found = loop.measure()
    loop.state.untrained = found.loss if math.isfinite(found.loss) else None
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found.metrics.items())
    loop.say(Remark("info", f"Before training, on the validation rows: {shown}."))
