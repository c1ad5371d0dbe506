"""Semantic segmentation: a class for every pixel, by a feature pyramid on any convolutional backbone of timm's."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from sft_magics.core.records import Metric
from sft_magics.datasets.annotations import annotation_render, masks
from sft_magics.engine.inputs import pixels, preview
from sft_magics.engine.inputs.annotated_images import Scenes
from sft_magics.engine.inputs.images import AugmentRng
from sft_magics.engine.models import backbones, fpn
from sft_magics.engine.models.fpn import Body, Pyramid
from sft_magics.engine.tasks.base import Batch, Encoded, Measured, Report, register
from sft_magics.engine.tasks.dense import COST, Dense, Marked

_WIDTH = 64
_FINEST = 4
_RESAMPLINGS = 1000
_BETTER = 1.02  # a share of the overlap of a constant mask, above which masks are better


class Masked(Marked):
    """Pictures, with their masks if they are known."""


class PyramidSegmenter(nn.Module):
    """The maps of a pyramid summed at its finest stride, then a class for each place (after Kirillov et al. 2019)."""

    def __init__(self, body: Body, classes: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(body, _WIDTH)
        self.head = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(_WIDTH), nn.ReLU(),
            nn.Conv2d(_WIDTH, classes, 1),
        )  # fmt: skip

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return logits, rows x classes x height x width of the pictures."""
        maps = list(self.pyramid(pictures).values())
        summed = maps[0]
        for coarse in maps[1:]:
            summed = summed + nn.functional.interpolate(coarse, size=maps[0].shape[-2:], mode="nearest")
        logits = self.head(summed).float()
        return nn.functional.interpolate(logits, size=pictures.shape[-2:], mode="bilinear", align_corners=False)


@register("semantic-segmentation")
class SemanticSegmentation(Dense):
    """One picture, a class for each pixel: cross-entropy over all pixels that have one."""

    column = "mask"
    kind = "fpn-segmenter"

    def __init__(
        self, model: nn.Module, body: Body, labels: list[str], fresh: tuple[str, ...], options: dict[str, Any]
    ) -> None:
        self.model = model
        self.shown = body.shown
        self.labels = labels
        self.fresh = fresh
        self.smoothing = float(options.get("label_smoothing", 0.0))
        self.weights: torch.Tensor | None = None
        self.prepare(options)

    @classmethod
    def load(cls, start: dict[str, Any], labels: list[str], options: dict[str, Any]) -> "SemanticSegmentation":
        """Load a backbone with a fresh pyramid for `labels`, or one of our own versions; raises ModelProblem."""
        seed = int(options.get("seed", 0))
        config = fpn.own(Path(str(start["path"])), cls.kind) if start["kind"] == "folder" else None
        if config is None:
            body = fpn.body_of(start, _FINEST)
            torch.manual_seed(seed)
            model = PyramidSegmenter(body, len(labels))
            scratch = tuple(model.state_dict()) if body.shown.fresh else ()
            fresh = scratch or tuple(n for n in model.state_dict() if not n.startswith("pyramid.body."))
            return cls(model, body, labels, fresh, options)
        body = fpn.empty_body(config, _FINEST)
        cls.check_labels(Path(str(start["path"])), config, labels)
        model = PyramidSegmenter(body, len(labels))
        backbones.fill(model, fpn.tensors_of(Path(str(start["path"]))), str(start["path"]))
        return cls(model, body, labels, (), options)

    def encode(self, inputs: Sequence[str], targets: Sequence[str] | None) -> Masked:
        """Read every picture and mask once."""
        paths = list(inputs)
        scenes = Scenes(paths, self.seen_at(paths), None if targets is None else list(targets))
        return Masked([COST] * len(paths), self.read(scenes))

    def collate(self, rows: Encoded, indices: Sequence[int], epoch: int | None = None) -> Batch:
        """Return squares and their masks for an epoch; else whole pictures, with their masks if they are known."""
        assert isinstance(rows, Masked)
        if epoch is not None and rows.kept is not None:
            maps, found = self.kept_batch(rows, indices, epoch)
            return {**maps, "masks": torch.stack(found)}
        if epoch is not None:
            pictures, marks = rows.scenes.learned(indices, self.chance(epoch))
            assert marks is not None
            return {"pictures": pictures, "masks": marks}
        batch = rows.scenes.whole(indices)
        if rows.scenes.masks is not None:
            batch["truths"] = rows.scenes.truths(indices)
        return batch

    def turned_back(self, rows: Encoded, batch: Batch, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the pictures of a batch under the colors of their masks, and what is in those."""
        assert isinstance(rows, Masked)
        found = []
        for place, i in enumerate(indices):
            mask = batch["masks"][place].numpy()
            counts = np.bincount(mask.ravel(), minlength=256)
            said = [f"{name} {counts[n] / mask.size:.0%}" for n, name in enumerate(self.labels) if counts[n]]
            said += [f"no class {counts[masks.NOTHING] / mask.size:.0%}"] if counts[masks.NOTHING] else []
            picture = annotation_render.masked(preview.picture_of(batch["pictures"][place]), mask, self.labels)
            found.append({"label": ", ".join(said), "text": pixels.named(rows.scenes.paths[i]), "picture": picture})
        return found

    def marks_of(self, rows: Any, chance: AugmentRng | None) -> torch.Tensor:
        """Return the masks of all squares (rows x size x size)."""
        found = [rows.scenes.learned([i], chance)[1] for i in range(len(rows.lengths))]
        return torch.cat(found)

    def body_sees(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return uint8 squares as the body is given them."""
        return self.normalized(pictures)

    def balance(self, rows: Encoded) -> None:
        """Let every class weigh alike: a pixel counts for the mean class size over that of its own."""
        assert isinstance(rows, Masked)
        counts = np.zeros(256)
        for index in range(len(rows.lengths)):
            counts += np.bincount(np.asarray(rows.scenes.mask(index)).ravel(), minlength=256)
        known = counts[: len(self.labels)]
        mean = known[known > 0].mean()
        self.weights = torch.tensor([mean / n if n else 0.0 for n in known], dtype=torch.float32)

    def weight(self, batch: Batch) -> float:
        """Return how many pixels have a class, each with its class's weight."""
        marks = batch["masks"].long()
        known = marks[marks != masks.NOTHING]
        return float(len(known) if self.weights is None else self.weights.to(known.device)[known].sum())

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the pixels that have a class, in fp32."""
        if "map0" in batch:
            with self.body_of(batch) as blank:
                logits = self.model(blank)
        else:
            logits = self.model(self.normalized(batch["pictures"]))
        weights = None if self.weights is None else self.weights.to(logits.device)
        if bool((batch["masks"] == masks.NOTHING).all()):
            nothing: torch.Tensor = logits.sum() * 0.0
            return nothing
        return nn.functional.cross_entropy(
            logits, batch["masks"].long(), weight=weights, ignore_index=masks.NOTHING, label_smoothing=self.smoothing
        )

    def scores(self, batch: Batch) -> list[Any]:
        """Return for each row its mask (a PNG in base 64), shares and confidence; where the truth is known, its counts
        (truth x answer, in pixels) and the sum of its loss.
        """
        logits = self.model(self.normalized(batch["pictures"]))
        known = "truths" in batch
        found = []
        for row, (inner, outer) in enumerate(zip(batch["inner"].tolist(), batch["outer"].tolist(), strict=True)):
            wide, high = pixels.measured_size((outer[0], outer[1]))
            part = logits[row : row + 1, :, : inner[1], : inner[0]]
            full = nn.functional.interpolate(part, size=(high, wide), mode="bilinear", align_corners=False)[0]
            found.append(
                self._compared(full, batch["truths"][row, :high, :wide])
                if known
                else self._answer(full, (outer[0], outer[1]))
            )
        return found

    def _compared(self, logits: torch.Tensor, truth: torch.Tensor) -> dict[str, Any]:
        classes = len(self.labels)
        valid = truth != masks.NOTHING
        loss = nn.functional.cross_entropy(
            logits[None], truth[None].long(), ignore_index=masks.NOTHING, reduction="sum"
        )
        pairs = truth[valid].long() * classes + logits.argmax(0)[valid]
        counts = torch.bincount(pairs, minlength=classes * classes).view(classes, classes)
        return {"loss": float(loss), "counts": counts.cpu().tolist()}

    def _answer(self, logits: torch.Tensor, size: tuple[int, int]) -> dict[str, Any]:
        sure, numbers = logits.softmax(0).max(0)
        shares = torch.bincount(numbers.flatten(), minlength=len(self.labels)) / numbers.numel()
        buffer = io.BytesIO()
        mask = Image.fromarray(numbers.to(torch.uint8).cpu().numpy())
        mask.resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
        return {
            "mask": base64.b64encode(buffer.getvalue()).decode(),
            "shares": dict(zip(self.labels, shares.cpu().tolist(), strict=True)),
            "confidence": float(sure.mean()),
        }

    def measure(self, rows: Encoded, scores: list[Any]) -> Measured:  # noqa: ARG002
        """Compare masks with their truths; the quality is the mean over the classes of intersection over union."""
        counts = np.array([score["counts"] for score in scores], dtype=np.int64)
        total = counts.sum(0)
        loss = sum(score["loss"] for score in scores) / max(1, int(total.sum()))
        overlap = ious(total)
        metrics = {"miou": float(np.nanmean(overlap)), "pixel_accuracy": float(np.trace(total) / max(1, total.sum()))}
        never = [self.labels[i] for i in range(len(self.labels)) if total[i].sum() and not total[:, i].sum()]
        remarks = [f"No validation pixel is answered with {', '.join(never)}."] if never else []
        return Measured(scores, loss, metrics["miou"], metrics, remarks)

    def report(self, rows: Encoded, scores: list[Any]) -> Report:  # noqa: ARG002
        """Return IoU, precision and recall a class, in pixels; intervals of IoU are a bootstrap over the pictures."""
        counts = np.array([score["counts"] for score in scores], dtype=np.int64)
        total, n = counts.sum(0), len(counts)
        draws = np.random.default_rng(0).integers(0, n, (_RESAMPLINGS, n))
        drawn = np.array([ious(counts[draw].sum(0)) for draw in draws])
        precision, recall = (_shares(total, axis) for axis in (0, 1))
        found = [
            _with_interval("miou", float(np.nanmean(ious(total))), _means(drawn), n),
            Metric("pixel_accuracy", float(np.trace(total) / max(1, total.sum())), n=n),
        ]
        for i, label in enumerate(self.labels):
            found.append(_with_interval("iou", float(ious(total)[i]), drawn[:, i], n, label))
            found.append(Metric("precision", float(precision[i]), n=n, label=label))
            found.append(Metric("recall", float(recall[i]), n=n, label=label))
        worst = [1.0 - float(_means(ious(one)[None])[0]) for one in counts]
        return Report({m.key: m for m in found}, worst, total.tolist())

    def warnings(self, rows: Encoded) -> list[str]:
        """Say of how many pictures no pixel has a class, among those that are in memory."""
        assert isinstance(rows, Masked)
        kept = rows.scenes.kept_masks.values()
        masked = sum(bool((np.asarray(mask) == masks.NOTHING).all()) for mask in kept)
        if not masked:
            return []
        what = "1 training mask has" if masked == 1 else f"{masked:,} training masks have"
        return [f"{what} no pixel with a class ({masks.NOTHING} is none): nothing is learned from them."]

    def doubts(self, rows: Encoded, loss: float) -> list[str]:  # noqa: ARG002
        """Say nothing: the share of pixels makes guessing too easy to compare with."""
        return []

    def concern(self, rows: Encoded, scores: list[Any]) -> str:  # noqa: ARG002
        """Say when the masks are no better than those that have the most common class everywhere."""
        total = np.array([score["counts"] for score in scores], dtype=np.int64).sum(0)
        present = total.sum(1)
        if (present > 0).sum() < 2:
            return ""
        usual = int(present.argmax())
        constant = np.zeros_like(total)
        constant[:, usual] = present
        found, floor = (float(np.nanmean(ious(counts))) for counts in (total, constant))
        if found > floor * _BETTER:
            return ""
        return (
            f"The mIoU of {found:.3f} on {len(scores):,} validation pictures is no better than calling every pixel "
            f"'{self.labels[usual]}' ({floor:.3f})."
        )

    def remarks(self, rows: Encoded) -> list[str]:  # noqa: ARG002
        """Say at what size the pictures are seen."""
        return self.seen_remarks()


def ious(counts: Any) -> Any:
    """Return intersection over union of each class from counts (truth x answer); NaN for one that is met in neither."""
    hits = np.diag(counts).astype(float)
    union = counts.sum(0) + counts.sum(1) - hits
    return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)


def _shares(counts: Any, axis: int) -> Any:
    """Return of each class the share of its hits among its answers (axis 0: precision) or its truths (axis 1: recall);
    0 where there are none, as scikit-learn has it, and NaN for a class that is met in neither.
    """
    hits, of = np.diag(counts).astype(float), counts.sum(axis)
    met = counts.sum(0) + counts.sum(1) > 0
    return np.where(met, np.divide(hits, of, out=np.zeros_like(hits), where=of > 0), np.nan)


def _means(values: Any) -> Any:
    """Return the mean of each row, without what is not a number; 1 where nothing is left."""
    known = ~np.isnan(values)
    return np.where(known.any(1), np.nansum(values, 1) / np.maximum(1, known.sum(1)), 1.0)


def _with_interval(name: str, value: float, drawn: Any, n: int, label: str | None = None) -> Metric:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Metric(name, value, n=n, label=label)
    low, high = np.percentile(known, [2.5, 97.5])
    return Metric(name, value, float(low), float(high), n, label)
