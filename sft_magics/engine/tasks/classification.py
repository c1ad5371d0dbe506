"""What all classifiers share: the loss and its variants, loss, accuracy and F1 of an evaluation, what looks wrong."""

import abc
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from sft_magics.core import errors
from sft_magics.core import metrics as measures
from sft_magics.core.records import Metric
from sft_magics.engine.models import lora_adapters
from sft_magics.engine.tasks.base import Batch, Encoded, Measured, Report, Task

_TINY = 1e-12
_NO_BETTER = 0.995
_RECALLED = 0.1


@dataclass
class Labeled(Encoded):
    """Rows whose `targets` are indices of labels, if they are known."""

    lengths: list[int]
    targets: list[int] | None


class Classifier(Task):
    """One input, one label: cross-entropy on logits that a task computes."""

    smoothing: float = 0.0
    weights: torch.Tensor | None = None
    mixes: bool = False
    classes_known = True
    drawn_alike = False

    @abc.abstractmethod
    def logits(self, batch: Batch) -> torch.Tensor:
        """Return what the head says, rows x labels, float32."""

    def balance(self, rows: Encoded) -> None:
        """Let every class weigh alike: a row counts for the mean class size over that of its own."""
        assert isinstance(rows, Labeled)
        counts = Counter(rows.targets or [])
        mean = sum(counts.values()) / max(1, len(counts))
        self.weights = torch.tensor([mean / counts[i] if counts[i] else 0.0 for i in range(len(self.labels))])

    def classes(self, rows: Encoded) -> list[int]:
        """Return the class of each row; guessing is judged from then on as if there were as many of each."""
        assert isinstance(rows, Labeled)
        self.drawn_alike = True
        return list(rows.targets or [])

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy, in fp32; labels may be smoothed (Szegedy et al. 2016) and classes weighted."""
        weights = None if self.weights is None else self.weights.to(batch["labels"].device)
        logits = self.logits(batch)

        def against(labels: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
            return nn.functional.cross_entropy(
                logits, labels, weight=weights, label_smoothing=self.smoothing, reduction=reduction
            )

        if "others" not in batch:
            return against(batch["labels"])
        # Two pictures in one: each label counts for the share of its own (Zhang et al. 2018).
        share = batch["share"]
        return (share * against(batch["labels"], "none") + (1 - share) * against(batch["others"], "none")).mean()

    def weight(self, batch: Batch) -> float:
        """Return what a part counts for in the mean: its rows, or the weights of their classes."""
        if self.weights is None or "others" in batch:
            return super().weight(batch)
        return float(self.weights.to(batch["labels"].device)[batch["labels"]].sum())

    def scores(self, batch: Batch) -> list[Any]:
        """Return the class probabilities of each row: the softmax of the logits, float32."""
        found: list[Any] = self.logits(batch).softmax(-1).cpu().tolist()
        return found

    def measure(self, rows: Encoded, scores: list[Any]) -> Measured:
        """Compare the scores of labeled rows with their targets; the quality is the accuracy."""
        assert isinstance(rows, Labeled)
        return classified(scores, rows.targets or [], self.labels)

    def report(self, rows: Encoded, scores: list[Any]) -> Report:
        """Return accuracy, and per class and as their mean precision, recall and F1; shares of the answers, confidence.

        The worst answers are those it was surest of and that are wrong.
        """
        assert isinstance(rows, Labeled)
        guesses = [max(range(len(row)), key=row.__getitem__) for row in scores]
        truths = rows.targets or []
        counts = measures.confusion([self.labels[t] for t in truths], [self.labels[g] for g in guesses], self.labels)
        found = measures.classification(counts, self.labels)
        found.update(measures.mix([self.labels[g] for g in guesses], self.labels))
        sure = [max(row) for row in scores]
        found["confidence"] = Metric("confidence", sum(sure) / len(sure) if sure else math.nan, n=len(sure))
        badness = [s if g != t else -s for s, g, t in zip(sure, guesses, truths, strict=True)]
        return Report(found, badness, counts)

    def concern(self, rows: Encoded, scores: list[Any]) -> str:
        """Say when the answers are no better than the most common class, neither in accuracy nor in mean recall."""
        assert isinstance(rows, Labeled)
        guesses = [max(range(len(row)), key=row.__getitem__) for row in scores]
        return no_better_than_constant(rows.targets or [], guesses, self.labels)

    def adapt(self, options: dict[str, Any]) -> None:
        """Let low-rank changes learn in the body's place, if `options` ask for it; raises ModelProblem."""
        if options.get("method") == "lora":
            lora_adapters.inject(self.model, int(options.get("lora_rank") or 16), int(options.get("seed", 0)))

    def restore(self, folder: Path) -> None:
        """Put the weights of a folder that `save` wrote back into the model."""
        lora_adapters.restore(self.model, load_file(folder / "model.safetensors"))

    def doubts(self, rows: Encoded, loss: float) -> list[str]:
        """Say when the training loss is no better than that of answering with the class shares."""
        assert isinstance(rows, Labeled)
        if self.smoothing or self.weights is not None or self.mixes:  # of such a loss that entropy says nothing
            return []
        seen = rows.targets or []
        return no_better_than_guessing(sorted(set(seen)) if self.drawn_alike else seen, loss)


def targets(labels: Sequence[str], known: Sequence[str]) -> list[int]:
    """Return each label's index in `known`; raises DataProblem for one that is not there."""
    index = {label: i for i, label in enumerate(known)}
    if unknown := sorted(set(labels) - set(index)):
        raise errors.DataProblem(
            f"The data has labels that the model does not know: {', '.join(unknown[:5])}.",
            "%sft_create makes a model for other labels.",
        )
    return [index[label] for label in labels]


def classified(scores: list[list[float]], targets: Sequence[int], labels: Sequence[str]) -> Measured:
    """Compare class probabilities (rows x labels) with the label indices in `targets`.

    The loss is the mean negative log probability of the target, the quality is the accuracy, and F1 is the mean over
    the classes (macro).
    """
    guesses = [max(range(len(row)), key=row.__getitem__) for row in scores]
    surprise = [-math.log(max(row[target], _TINY)) for row, target in zip(scores, targets, strict=True)]
    counts = measures.confusion([labels[t] for t in targets], [labels[g] for g in guesses], labels)
    found = measures.classification(counts, labels)
    metrics = {name: found[name].value for name in ("accuracy", "f1")}
    never = [labels[i] for i in sorted(set(targets) - set(guesses))]
    remarks = [f"No validation row is answered with {', '.join(never)}."] if never else []
    return Measured(scores, math.fsum(surprise) / max(1, len(surprise)), metrics["accuracy"], metrics, remarks)


def no_better_than_constant(targets: Sequence[int], guesses: Sequence[int], labels: Sequence[str]) -> str:
    """Return a sentence when the guesses are no better than always answering the most common class of the targets.

    Better means more right answers, by more than a standard error of the paired difference, or a mean recall over the
    classes that is a tenth above that of a constant answer: rare classes may be worth some wrong answers.
    """
    counts = Counter(targets)
    if len(counts) < 2:
        return ""
    usual = counts.most_common(1)[0][0]
    pairs = list(zip(targets, guesses, strict=True))
    won = sum(t == g != usual for t, g in pairs)
    lost = sum(t == usual != g for t, g in pairs)
    recall = math.fsum(sum(t == g == c for t, g in pairs) / n for c, n in counts.items()) / len(counts)
    if won - lost > math.sqrt(won + lost) or recall > 1 / len(counts) + _RECALLED:
        return ""
    accuracy, share = sum(t == g for t, g in pairs) / len(pairs), counts[usual] / len(pairs)
    return (
        f"The accuracy of {accuracy:.3f} on {len(pairs):,} validation rows is no better than always answering "
        f"'{labels[usual]}' ({share:.3f})."
    )


def no_better_than_guessing(targets: Sequence[int], loss: float) -> list[str]:
    """Return a remark when `loss` is no lower than the entropy of the class shares, which needs no text to reach."""
    entropy = -math.fsum(n / len(targets) * math.log(n / len(targets)) for n in Counter(targets).values())
    if not targets or not loss >= _NO_BETTER * entropy:
        return []
    what = f"The training loss ({loss:.3f}) is no better than guessing ({entropy:.3f})"
    return [f"{what}: try more --epochs or another --lr, and look at the labels."]
