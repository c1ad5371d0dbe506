"""Gradual unfreezing: the head learns first, then level after level below it (ULMFiT, Howard and Ruder 2018).

Which levels learn is a function of the step alone, so a run that resumes goes on as it would have. What is frozen takes
no part in the backward pass: autograd keeps nothing below the lowest weights that learn.
"""

import math

from torch import nn

from sft_magics.engine.models import layer_groups


class GradualUnfreezing:
    """Lets one level more learn every `steps` steps (at least one), from the head down."""

    def __init__(self, model: nn.Module, steps: float) -> None:
        self._model = model
        self._steps = max(1.0, steps)
        weights = dict(model.named_parameters())
        found = layer_groups.of(model)
        self.names = [layer_groups.called(level) for level in found[:-1]]
        self._levels = [[weights[name] for name in level if weights[name].requires_grad] for level in found]
        self._open = 0  # nothing has been frozen yet

    def count(self, step: int) -> int:
        """Return how many levels learn at `step` (from 0)."""
        return min(len(self._levels), 1 + math.floor(step / self._steps + 1e-9))

    def at(self, step: int) -> str:
        """Freeze and thaw as it is at `step`; return a sentence when that step is the first at which it is so."""
        learning = self.count(step)
        if learning == self._open:
            return ""
        self._open = learning
        shut = len(self._levels) - learning
        for depth, level in enumerate(self._levels):
            for weight in level:
                weight.requires_grad_(depth >= shut)
        learn(self._model)
        if step and learning == self.count(step - 1):
            return ""
        return f"From step {step + 1} on {self.names[shut]} learns too." if step else self._plan()

    def _plan(self) -> str:
        every = f"{self._steps:,.0f} steps" if self._steps > 1 else "step"
        return f"The head learns first, and one more of the {len(self.names)} levels below it every {every}."


def learn(model: nn.Module) -> None:
    """Let a model learn; where normalization is frozen, or held still by the model, it keeps the counts that it has."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters(recurse=False))
            module.training = module.training and (not own or any(p.requires_grad for p in own))
