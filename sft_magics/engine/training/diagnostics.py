"""The training doctor: what the numbers of a run say is wrong, in a sentence, with what to try."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sft_magics.core.events import Event, Remark, Withdrawn
from sft_magics.engine.models.layer_diff import block
from sft_magics.engine.training.prefetch import Loader

Seen = Sequence[float]  # of an evaluation: mean training loss since the one before, validation loss, epoch
_RISES = 1.02
_JUMPS = 1.2
_WAITS = 0.3
_MOST_WORKERS = 16
_QUARTER = 10  # steps
_SMALL_FALL = 0.03
_SURE = 2.33  # standard errors: 99 % on one side
_FALLS = 0.99
_FELL = 0.97


class Rounds:
    """Says what looks wrong with one run as it trains, kinds of remarks that would come again once; `say` takes events.

    `losses` are those of the steps since the last evaluation, `since` is when that was.
    """

    def __init__(self, say: Callable[[Event], None]) -> None:
        self.losses: list[float] = []
        self.since = time.monotonic()
        self._say = say
        self._said: set[str] = set()
        self._standing: dict[str, str] | None = None  # kind -> text of what was said and still holds; None: not known

    def once(self, kind: str, what: str, epoch: float | None = None) -> None:
        """Warn of `what`, unless something of this kind was said."""
        if what and kind not in self._said:
            self._said.add(kind)
            self._say(Remark("warning", what, epoch, kind))

    def evaluated(
        self, history: Sequence[Seen], doubts: Mapping[str, Sequence[str]], options: Mapping[str, Any], loader: Loader
    ) -> None:
        """Say what an evaluation shows, with its epoch, and withdraw what no longer holds.

        `doubts` are the sentences of the task by their kind; the others come from the losses and from the waiting.
        """
        epoch = history[-1][2]
        self._stand(doubts, epoch, resumed=len(history) > 1)
        seen = remarks(history, options["lr"])
        for remark in seen:
            self._say(Remark("warning", remark, epoch))
        if not seen and not any(doubts.values()):
            self.once("flat", not_falling(self.losses, history), epoch)
        if "flat" in self._said and history[-1][0] < _FELL * history[0][0]:
            self._said.remove("flat")
            self._say(Withdrawn("flat"))
        workers = int(options.get("workers", 0))
        self.once("waiting", waiting(loader.waited, time.monotonic() - self.since, workers), epoch)
        self.losses, loader.waited, self.since = [], 0.0, time.monotonic()

    def _stand(self, doubts: Mapping[str, Sequence[str]], epoch: float, *, resumed: bool) -> None:
        """Say each kind of doubt that is new or reads otherwise now, and withdraw those that are gone."""
        before = self._standing
        self._standing = {kind: " ".join(texts) for kind, texts in doubts.items() if texts}
        for kind in doubts:
            now = self._standing.get(kind, "")
            # A process that takes a run up does not know what an earlier one said.
            known = before.get(kind, "") if before is not None else "?" * resumed
            if now and now != known:
                self._say(Remark("warning", now, epoch, kind))
            elif known and not now:
                self._say(Withdrawn(kind))


def remarks(history: Sequence[Seen], lr: float) -> list[str]:
    """Return what the evaluations up to now show; each is said once, at the evaluation where it first shows."""
    return [said for said in (_overfitting(history), _rate_too_high(history, lr)) if said]


def not_falling(losses: Sequence[float], history: Sequence[Seen]) -> str:
    """Say that the training loss does not fall: within the first epoch, or in none of several.

    Within an epoch the median of the first quarter of `losses`, one a step, is compared with that of the last. It is
    said only where the fall is surely small: the upper end of its interval (99 %, by the median absolute deviation) is
    below 3 % of the loss. Few or noisy steps say nothing.
    """
    first = math.nan if not history else history[0][0]
    if len(history) == 1 and _flat(losses):
        quarter = len(losses) // 4
        ends = statistics.median(losses[:quarter]), statistics.median(losses[-quarter:])
        what = f"The training loss does not fall: {ends[0]:.3f} over the first steps, {ends[1]:.3f} over the last"
    elif len(history) > 1 and all(seen[0] >= _FALLS * first for seen in history[1:]):
        what = (
            f"The training loss has not fallen in {history[-1][2]:.3g} epochs: from {first:.3f} to {history[-1][0]:.3f}"
        )
    else:
        return ""
    return f"{what}. Try another --lr (%sft_lr), look at a batch (%sft_preview), or it has learned what it can."


def _flat(losses: Sequence[float]) -> bool:
    quarter = len(losses) // 4
    if quarter < _QUARTER or not all(map(math.isfinite, losses)):
        return False
    parts = losses[:quarter], losses[-quarter:]
    before, after = map(statistics.median, parts)
    spreads = [
        statistics.median(abs(loss - m) for loss in part) for part, m in zip(parts, (before, after), strict=True)
    ]
    # Of a median the standard error is 1.25 of that of a mean, and 1.48 deviations are one standard deviation.
    error = 1.25 * 1.48 * math.hypot(*spreads) / math.sqrt(quarter)
    return before > 0 and (before - after + _SURE * error) / before < _SMALL_FALL


def _overfitting(history: Sequence[Seen]) -> str:
    """Two evaluations in a row with a higher validation loss than the lowest, while the training loss falls."""
    if len(history) < 3 or not all(math.isfinite(loss) for seen in history for loss in seen):
        return ""
    lowest = min(range(len(history)), key=lambda i: history[i][1])
    (learned, low, _), (_, before, _), (now, high, _) = history[lowest], history[-2], history[-1]
    rose = low * _RISES < before < high and now < learned
    if lowest != len(history) - 3 or not rose:
        return ""
    return (
        f"Overfitting from epoch {history[lowest + 1][2]:.3g}: the validation loss rises from {low:.3f} to "
        f"{high:.3f} while the training loss falls. The best weights are kept; --patience 2 ends such a run."
    )


def _rate_too_high(history: Sequence[Seen], lr: float) -> str:
    """The training loss before an evaluation is well above that before the one before it."""
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
