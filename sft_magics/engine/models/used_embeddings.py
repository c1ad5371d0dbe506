"""Word embeddings of which only the rows that the training texts use are learned, to the same end.

A row that no text uses has no gradient: AdamW only lets it decay, by the same share as every other. So such rows are
kept as they were beside one number, how far they have decayed, and a step reads and writes what is used: of a BERT's
30,522 rows some 10,000, where the embeddings are half of the weights.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

_GAINS = 0.7  # share of the rows in use, from which on it is not worth it
_USED, _DECAYED, _WHOLE = "used", "decayed", "weight"


class UsedEmbedding(nn.Module):
    """An embedding split into the rows that are `used`, which learn, and the rest, which decays as a whole."""

    decayed: torch.Tensor
    places: torch.Tensor
    rest: torch.Tensor

    def __init__(self, whole: nn.Embedding, rows: torch.Tensor) -> None:
        super().__init__()
        self.used = nn.Parameter(whole.weight.detach()[rows].clone())
        self.register_buffer(_DECAYED, torch.ones((), dtype=torch.float64))
        places = torch.full((whole.num_embeddings,), -1, dtype=torch.long)
        places[rows] = torch.arange(len(rows))
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("rest", whole.weight.detach().clone(), persistent=False)
        padding = whole.padding_idx
        self.padding = None if padding is None else int(places[padding])

    @property
    def weight(self) -> torch.Tensor:
        """The rows that learn: models ask their embeddings for a device or a number format."""
        return self.used

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of `ids`, ids x width; those that no training text uses as they have decayed."""
        places = self.places[ids]
        if self.training:
            return nn.functional.embedding(places, self.used, self.padding)
        found = nn.functional.embedding(places.clamp_min(0), self.used)
        strange = places < 0
        if bool(strange.any()):
            found[strange] = self._decayed_rest(ids[strange]).to(found.dtype)
        return found

    def _decayed_rest(self, ids: torch.Tensor | slice) -> torch.Tensor:
        return (self.rest[ids].double() * self.decayed).to(self.rest.dtype)

    def whole(self) -> torch.Tensor:
        """Return the embedding in full, as the model had it."""
        found = self._decayed_rest(slice(None))
        found[self.places >= 0] = self.used.detach()
        return found

    @torch.no_grad()
    def take(self, whole: torch.Tensor) -> None:
        """Go on from an embedding in full."""
        self.used.copy_(whole[self.places >= 0])
        self.rest.copy_(whole)
        self.decayed.fill_(1.0)


def reduce(model: nn.Module, ids: Iterable[Sequence[int]]) -> None:
    """Let a model learn only the word embeddings that `ids` use, where that saves much and no head shares them.

    The optimizer, AdamW, is built after this and told of it by `follow`.
    """
    get: Any = getattr(model, "get_input_embeddings", None)
    found = get() if get is not None else None
    if type(found) is not nn.Embedding or not _alone(model, found):
        return
    used = torch.zeros(found.num_embeddings, dtype=torch.bool)
    used[torch.tensor(sorted({i for row in ids for i in row}), dtype=torch.long)] = True
    if found.padding_idx is not None:
        used[found.padding_idx] = True
    padding = getattr(getattr(model, "config", None), "pad_token_id", None)
    if padding is not None:  # of batches: an embedding may not know it, and no text may hold it
        used[padding] = True
    if int(used.sum()) > _GAINS * found.num_embeddings:
        return
    name = next(n for n, m in model.named_modules() if m is found)
    holder, _, last = name.rpartition(".")
    setattr(model.get_submodule(holder), last, UsedEmbedding(found, used.nonzero()[:, 0]))


def _alone(model: nn.Module, found: nn.Embedding) -> bool:
    """Say whether its weight learns, and nothing else has it."""
    names = [n for n, p in model.named_parameters(remove_duplicate=False) if p is found.weight]
    return found.weight.requires_grad and len(names) == 1 and found.max_norm is None and not found.sparse


def follow(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let what is not learned decay at every step of AdamW, as the rows beside it do."""
    for module in _split(model).values():
        group = next(g for g in optimizer.param_groups if any(p is module.used for p in g["params"]))

        def shrink(*_: Any, module: UsedEmbedding = module, group: dict[str, Any] = group) -> None:
            module.decayed *= 1.0 - float(group["lr"]) * float(group["weight_decay"])

        optimizer.register_step_post_hook(shrink)


def whole_of(model: nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a model's tensors under the names and in the shapes they had before `reduce`."""
    found = dict(tensors)
    for name, module in _split(model).items():
        found = {n: t for n, t in found.items() if n not in (f"{name}.{_USED}", f"{name}.{_DECAYED}")}
        found[f"{name}.{_WHOLE}"] = module.whole()
    return found


def take(model: nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Put whole embeddings back where they are split, and return the other tensors."""
    left = dict(tensors)
    for name, module in _split(model).items():
        module.take(left.pop(f"{name}.{_WHOLE}"))
    return left


def apart(model: nn.Module) -> int:
    """Return how many of a model's weights are no parameters of it for now: they only decay."""
    return sum(m.rest.numel() - m.used.numel() for m in _split(model).values())


def _split(model: nn.Module) -> dict[str, UsedEmbedding]:
    return {name: module for name, module in model.named_modules() if isinstance(module, UsedEmbedding)}
