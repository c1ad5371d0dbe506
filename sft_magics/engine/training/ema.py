"""A moving average of the weights, which is what is measured and kept (Polyak and Juditsky 1992).

It forgets faster at the beginning: the decay of step t is at most (1 + t) / (10 + t).
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


class Average:
    """The average of the tensors that training changes."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        frozen = {id(p) for p in model.parameters() if not p.requires_grad}
        places = {n: t for n, t in model.state_dict(keep_vars=True).items() if id(t) not in frozen}
        self._places = {n: t for n, t in places.items() if t.is_floating_point()}
        self.tensors = {n: t.detach().clone().float() for n, t in self._places.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        share = 1.0 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        now = [t.detach().float() for t in self._places.values()]
        torch._foreach_lerp_(list(self.tensors.values()), now, share)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let the model have the average as its weights for a while."""
        kept = {n: t.detach().clone() for n, t in self._places.items()}
        self._put(self.tensors)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, place in self._places.items():
            place.copy_(tensors[name])

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint keeps of it."""
        return {**{n: t.cpu().contiguous() for n, t in self.tensors.items()}, "": torch.tensor(self.steps)}

    @torch.no_grad()
    def take(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what a checkpoint kept."""
        self.steps = int(state[""])
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])
