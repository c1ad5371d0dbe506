"""The training doctor: what the numbers of a run say is wrong, in a sentence, with what to try."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from sft_magics.engine.layers import block

Epoch = Sequence[float]  # mean training loss, validation loss
_RISES = 1.02
_JUMPS = 1.2
_WAITS = 0.3
_MOST_WORKERS = 16


def remarks(history: Sequence[Epoch], lr: float) -> list[str]:
    """Return what the epochs up to now say; each is said once, at the epoch where it first shows."""
    return [said for said in (_overfitting(history), _rate_too_high(history, lr)) if said]


def _overfitting(history: Sequence[Epoch]) -> str:
    """Two epochs in a row with a higher validation loss than the lowest, while the training loss falls."""
    if len(history) < 3 or not all(math.isfinite(loss) for epoch in history for loss in epoch):
        return ""
    lowest = min(range(len(history)), key=lambda i: history[i][1])
    (learned, low), (_, before), (now, high) = history[lowest], history[-2], history[-1]
    rose = low * _RISES < before < high and now < learned
    if lowest != len(history) - 3 or not rose:
        return ""
    return (
        f"Overfitting from epoch {lowest + 2}: the validation loss rises from {low:.3f} to {high:.3f} while the "
        "training loss falls. The best weights are kept; --patience 2 ends such a run."
    )


def _rate_too_high(history: Sequence[Epoch], lr: float) -> str:
    """The training loss of an epoch is well above that of the one before."""
    if len(history) < 2 or not history[-1][0] > _JUMPS * history[-2][0]:
        return ""
    rose = f"The training loss rose from {history[-2][0]:.3f} to {history[-1][0]:.3f}"
    return f"{rose}: the rate is likely too high (--lr {lr / 3:.1g})."


def where_broken(model: nn.Module) -> str:
    """Say where what is not a number shows first: in the weights, else in the gradients, which come from the head down.

    Of gradients the last block that has some is the one nearest to where they went wrong.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f" (the weights of {block(name)} are none)"
    broken = [name for name, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return f" (from {block(broken[-1])} down)" if broken else ""


def waiting(waited: float, seconds: float, workers: int) -> str:
    """Return a remark when a good part of an epoch's `seconds` was `waited` for batches."""
    if not seconds or waited / seconds < _WAITS:
        return ""
    more = min(_MOST_WORKERS, max(2, 2 * workers))
    return f"{waited / seconds:.0%} of the epoch was spent waiting for batches: try --workers {more}."
