"""Whether a language model keeps the rows of a pack apart, and reads no token before its place: seen by trying.

A pack holds rows end to end, with positions that begin anew (see `packing`). transformers masks by those positions for
most architectures, not for all: OPT, BLOOM or MPT let a row see the one before it, and a state-space model such as
Mamba carries its state over. Their rows are padded instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_FIRST, _SECOND = 6, 7  # tokens of the rows that are tried
# Of the spread of the logits: what two ways of computing the same may differ by.
_CLOSE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.float16: 0.03}
_CLOSE_SHORT = 0.1  # bfloat16, through many layers
_REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, NotImplementedError)


def packs(model: nn.Module, device: torch.device) -> bool:
    """Say whether a row in a pack has the logits that it has alone, whatever row is before it."""
    before, other, row = _rows(model, device)
    with _reading(model):
        try:
            alone = _logits(model, [row])
            one, two = (_logits(model, [first, row])[len(first) :] for first in (before, other))
        except _REFUSALS:  # positions are no argument of the model
            return False
    return _same(one, alone) and _same(one, two)


def is_causal(model: nn.Module, device: torch.device) -> bool:
    """Say whether a token's logits follow from the tokens before it alone; an encoder's follow from all."""
    before, other, row = _rows(model, device)
    with _reading(model):
        said = [model(input_ids=torch.cat([row, after])[None], use_cache=False).logits[0] for after in (before, other)]
    one, two = (logits[: len(row)] for logits in said)
    return _same(one, two)


def _rows(model: nn.Module, device: torch.device) -> list[torch.Tensor]:
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    draw = torch.Generator().manual_seed(0)
    count = int(embeddings.num_embeddings)
    return [torch.randint(count, (n,), generator=draw).to(device) for n in (_FIRST, _FIRST, _SECOND)]


@contextmanager
def _reading(model: nn.Module) -> Iterator[None]:
    learned = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(learned)


def _logits(model: nn.Module, rows: list[torch.Tensor]) -> torch.Tensor:
    """Return the logits of rows end to end, tokens x vocabulary, float32."""
    positions = torch.cat([torch.arange(len(row), device=row.device) for row in rows])
    said = model(input_ids=torch.cat(rows)[None], position_ids=positions[None], use_cache=False)
    logits: torch.Tensor = said.logits[0]
    return logits


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    close = _CLOSE.get(one.dtype, _CLOSE_SHORT)
    difference = (one.float() - two.float()).abs().max()
    return bool(difference <= close * one.float().std())  # not-a-number is not the same
