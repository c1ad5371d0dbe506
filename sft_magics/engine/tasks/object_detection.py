"""Object detection: where things are and what they are, by FCOS on a timm backbone or a torchvision detector."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.ops import box_iou

from sft_magics.core import metrics, postprocessing
from sft_magics.core.records import Metric
from sft_magics.core.tasks import SURE_BOX
from sft_magics.datasets.annotations import annotation_render, boxes
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.engine.inputs import pixels, preview
from sft_magics.engine.inputs.annotated_images import Scenes
from sft_magics.engine.inputs.images import AugmentRng
from sft_magics.engine.models import backbones, detectors, fpn
from sft_magics.engine.models.backbones import Backbone
from sft_magics.engine.tasks.base import Batch, Encoded, Measured, Report, register
from sft_magics.engine.tasks.dense import COST, LARGEST, Dense, Marked

_FINDS = 0.01  # average precision below which hardly a box is found
_SAME = 0.5  # overlap at which a found box is a true one


class Boxed(Marked):
    """Pictures, with their boxes if they are known."""


@register("object-detection")
class ObjectDetection(Dense):
    """One picture, a box around each thing of a known class."""

    kind = "fcos-detector"

    def __init__(
        self, model: nn.Module, shown: Backbone, labels: list[str], fresh: tuple[str, ...], options: dict[str, Any]
    ) -> None:
        self.model = model
        self.shown = shown
        self.labels = labels
        self.fresh = fresh
        self.prepare(options)

    @classmethod
    def load(cls, start: dict[str, Any], labels: list[str], options: dict[str, Any]) -> "ObjectDetection":
        """Load a backbone or detector with a fresh head for `labels`, or one of our own versions."""
        torch.manual_seed(int(options.get("seed", 0)))
        config = fpn.own(Path(str(start["path"])), cls.kind) if start["kind"] == "folder" else None
        if config is not None:
            return cls._own(Path(str(start["path"])), config, labels, options)
        if start["kind"] == "name" and start["path"] in detectors.names():
            wanted = str(start.get("weights", "pretrained"))
            model, shown, fresh = detectors.named(str(start["path"]), len(labels), wanted)
            return cls(model, shown, labels, fresh, options)
        body = fpn.body_of(start, detectors.FINEST)
        model = detectors.fcos(body, len(labels), LARGEST)
        own = tuple(n for n in model.state_dict() if not n.startswith("backbone.body."))
        return cls(model, body.shown, labels, tuple(model.state_dict()) if body.shown.fresh else own, options)

    @classmethod
    def _own(
        cls, folder: Path, config: dict[str, Any], labels: list[str], options: dict[str, Any]
    ) -> "ObjectDetection":
        cls.check_labels(folder, config, labels)
        whole = config["architecture"] in detectors.names()
        body = None if whole else fpn.empty_body(config, detectors.FINEST)
        model = detectors.fcos(body, len(labels), LARGEST) if body else detectors.empty(config, len(labels))
        backbones.fill(model, fpn.tensors_of(folder), str(folder))
        size = int(config["pretrained_cfg"]["input_size"][-1])
        named = Backbone(
            model, "torchvision", str(config["architecture"]), size, size, (0.0,) * 3, (1.0,) * 3, (), str(folder)
        )
        return cls(model, body.shown if body else named, labels, (), options)

    @classmethod
    def recipe(cls, start: dict[str, Any]) -> dict[str, Any]:
        """Return AdamW at 0.0005 in batches of 4: a fresh head needs many steps, and its loss is steep."""
        return {**super().recipe(start), "lr": 0.0005, "batch": 4}

    def encode(self, inputs: Sequence[str], targets: Sequence[str] | None) -> Boxed:
        """Read every picture once; its transform, in the model, then leaves its size alone."""
        paths = list(inputs)
        side = self.seen_at(paths)
        self.model.transform.min_size, self.model.transform.max_size = (side,), 2 * side  # type: ignore[union-attr]
        marks = None if targets is None else [boxes.loads(t) for t in targets]
        return Boxed([COST] * len(paths), self.read(Scenes(paths, side, boxes=marks)))

    def collate(self, rows: Encoded, indices: Sequence[int], epoch: int | None = None) -> Batch:
        """Return pictures and, if known, boxes: rows x most x 5 (class from 1 on, corners), filled up with 0."""
        assert isinstance(rows, Boxed)
        scenes = rows.scenes
        if epoch is not None and rows.kept is not None:
            maps, found = self.kept_batch(rows, indices, epoch)
            return {**maps, "boxes": self._packed(found)}
        if epoch is not None:
            pictures, found = scenes.boxed(indices, self.chance(epoch))
            return {"pictures": pictures, "boxes": self._packed(found)}
        batch = scenes.whole(indices)
        if scenes.boxes is not None:
            sides = zip(batch["inner"].tolist(), batch["outer"].tolist(), indices, strict=True)
            batch["boxes"] = self._packed([_scaled(scenes.boxes[i], inner, outer) for inner, outer, i in sides])
        return batch

    def turned_back(self, rows: Encoded, batch: Batch, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the pictures of a batch with its boxes in the colors of their classes."""
        assert isinstance(rows, Boxed)
        found = []
        for place, (i, target) in enumerate(zip(indices, self._targets(batch["boxes"]), strict=False)):
            kinds = [int(n) - 1 for n in target["labels"]]
            marks = list(zip(kinds, target["boxes"].tolist(), strict=True))
            picture = annotation_render.classed(preview.picture_of(batch["pictures"][place]), marks)
            said = postprocessing.counted(self.labels[kind] for kind in kinds)
            found.append({"label": said, "text": pixels.named(rows.scenes.paths[i]), "picture": picture})
        return found

    def marks_of(self, rows: Any, chance: AugmentRng | None) -> list[list[Box]]:
        """Return the boxes in every square."""
        return [rows.scenes.placed(i, chance) for i in range(len(rows.lengths))]

    def body_sees(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return uint8 squares as the detector's transform gives them to its body."""
        found: torch.Tensor = self.model.transform(self._seen({"pictures": pictures}))[0].tensors  # type: ignore[operator]
        return found

    def _packed(self, rows: Sequence[Sequence[Box]]) -> torch.Tensor:
        most = max([1, *(len(row) for row in rows)])
        packed = torch.zeros(len(rows), most, 5)
        for i, row in enumerate(rows):
            for j, box in enumerate(row):
                packed[i, j] = torch.tensor([self.labels.index(box.label) + 1, *box.corners])
        return packed

    def _targets(self, packed: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """Return boxes and labels of each picture; what has no area left is passed over."""
        found = []
        for row in packed:
            real = row[(row[:, 0] > 0) & (row[:, 3] > row[:, 1] + 1) & (row[:, 4] > row[:, 2] + 1)]
            found.append({"boxes": real[:, 1:], "labels": real[:, 0].long()})
        return found

    def _seen(self, batch: Batch) -> list[torch.Tensor]:
        pictures = batch["pictures"].float().div_(255)
        if "inner" not in batch:
            return list(pictures)
        return [p[:, :high, :wide] for p, (wide, high) in zip(pictures, batch["inner"].tolist(), strict=True)]

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the detector's losses: of class, of place, of how far off the middle."""
        targets = self._targets(batch["boxes"])
        if "map0" in batch:
            with self.body_of(batch) as blank:
                said = self.model(self._seen({"pictures": blank}), targets)
        else:
            said = self.model(self._seen(batch), targets)
        return torch.stack([part.float() for part in said.values()]).sum()

    def scores(self, batch: Batch) -> list[Any]:
        """Return for each row its boxes, surest first, as [label's number, confidence, corners in pixels of the file];
        where the truth is known also the batch's loss.
        """
        found = self.model(self._seen(batch))
        said = []
        for answer, inner, outer in zip(found, batch["inner"].tolist(), batch["outer"].tolist(), strict=True):
            scale = torch.tensor([outer[0] / inner[0], outer[1] / inner[1]] * 2, device=answer["boxes"].device)
            corners = (answer["boxes"].float() * scale).cpu().tolist()
            labels, sure = answer["labels"].cpu().tolist(), answer["scores"].float().cpu().tolist()
            row: dict[str, Any] = {}
            row["boxes"] = [[n - 1, s, *c] for n, s, c in zip(labels, sure, corners, strict=True) if n > 0]
            said.append(row)
        if "boxes" in batch:
            detectors.learning(self.model)
            loss = float(self.loss(batch))
            self.model.eval()
            said = [{**row, "loss": loss} for row in said]
        return said

    def measure(self, rows: Encoded, scores: list[Any]) -> Measured:
        """Compare boxes with their truths; the quality is the mean over the classes of AP at an overlap of one half."""
        loss = sum(score["loss"] for score in scores) / max(1, len(scores))
        ap50, _ = self._precision(rows, scores, [_SAME])
        whole, _ = self._precision(rows, scores, None)
        counted = self._counted(rows, scores)
        metrics = {"ap50": ap50, "map": whole}
        return Measured(scores, loss, 0.0 if math.isnan(ap50) else ap50, metrics, _never(counted))

    def report(self, rows: Encoded, scores: list[Any]) -> Report:
        """Return COCO's average precision, over overlaps and at one half, and precision and recall at `SURE_BOX`."""
        ap50, each = self._precision(rows, scores, [_SAME])
        whole, _ = self._precision(rows, scores, None)
        found = [Metric("ap50", ap50, n=len(scores)), Metric("map", whole, n=len(scores))]
        for label, (hits, said, there) in self._counted(rows, scores).items():
            found.append(Metric("ap50", each[label], n=len(scores), label=label))
            found.append(metrics.proportion("precision", hits, said, label))
            found.append(metrics.proportion("recall", hits, there, label))
        return Report({m.key: m for m in found}, self._badness(rows, scores))

    def _precision(
        self, rows: Encoded, scores: list[Any], overlaps: list[float] | None
    ) -> tuple[float, dict[str, float]]:
        """Return the mean average precision, and that of each class (by torchmetrics, as COCO counts it)."""
        from torchmetrics.detection import MeanAveragePrecision

        counter = MeanAveragePrecision(iou_thresholds=overlaps, class_metrics=True)
        counter.warn_on_many_detections = False
        for score, truth in zip(scores, self._truths(rows), strict=True):
            answer = _tensors(score["boxes"])
            counter.update([answer], [{k: truth[k] for k in ("boxes", "labels")}])
        found = counter.compute()
        classes, values = found["classes"].reshape(-1).tolist(), found["map_per_class"].reshape(-1).tolist()
        each = {self.labels[c]: v for c, v in zip(classes, values, strict=True) if c >= 0}
        known = {label: each.get(label, -1.0) for label in self.labels}
        each = {label: v if v >= 0 else math.nan for label, v in known.items()}
        return (float(found["map"]) if found["map"] >= 0 else math.nan), each

    def _truths(self, rows: Encoded) -> list[dict[str, torch.Tensor]]:
        assert isinstance(rows, Boxed)
        assert rows.scenes.boxes is not None
        return [_tensors([[self.labels.index(b.label), 1.0, *b.corners] for b in row]) for row in rows.scenes.boxes]

    def _matched(self, rows: Encoded, scores: list[Any]) -> list[tuple[list[int], list[int], list[int]]]:
        """Return for each picture the classes of boxes that are right, of all that were said, and of all there are."""
        found = []
        for score, truth in zip(scores, self._truths(rows), strict=True):
            said = _tensors([b for b in score["boxes"] if b[1] >= SURE_BOX])
            overlap = box_iou(said["boxes"], truth["boxes"])
            free = torch.ones(len(truth["boxes"]), dtype=torch.bool)
            hits = []
            for i, label in enumerate(said["labels"].tolist()):
                able = free & (truth["labels"] == label) & (overlap[i] >= _SAME)
                if bool(able.any()):
                    free[int((overlap[i] * able).argmax())] = False
                    hits.append(label)
            found.append((hits, said["labels"].tolist(), truth["labels"].tolist()))
        return found

    def _counted(self, rows: Encoded, scores: list[Any]) -> dict[str, tuple[int, int, int]]:
        matched = self._matched(rows, scores)
        return {
            label: tuple(sum(part[k].count(i) for part in matched) for k in range(3))  # type: ignore[misc]
            for i, label in enumerate(self.labels)
        }

    def _badness(self, rows: Encoded, scores: list[Any]) -> list[float]:
        """Return how far each picture's boxes are from being all right: 1 less their F1."""
        return [
            1.0 - 2 * len(hits) / (len(said) + len(there)) if said or there else 0.0
            for hits, said, there in self._matched(rows, scores)
        ]

    def doubts(self, rows: Encoded, loss: float) -> list[str]:  # noqa: ARG002
        """Say nothing: there is no loss of guessing to compare with."""
        return []

    def concern(self, rows: Encoded, scores: list[Any]) -> str:
        """Say when hardly a box is found."""
        found, _ = self._precision(rows, scores, [_SAME])
        if math.isnan(found) or found >= _FINDS:
            return ""
        return f"The AP at one half is {found:.3f} on {len(scores):,} validation pictures: hardly a box is found."

    def remarks(self, rows: Encoded) -> list[str]:  # noqa: ARG002
        """Say at what size the pictures are seen."""
        return self.seen_remarks()


def _never(counted: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """Say that nothing is found, or which classes no box is answered with although there are some."""
    if not any(hits for hits, _, _ in counted.values()):
        return ["No validation box is found yet."]
    never = [label for label, (_, said, there) in counted.items() if there and not said]
    return [f"No validation box is answered with {', '.join(never)}."] if never else []


def _tensors(found: Sequence[Sequence[float]]) -> dict[str, torch.Tensor]:
    block = torch.tensor(found, dtype=torch.float32).reshape(-1, 6)
    return {"boxes": block[:, 2:], "scores": block[:, 1], "labels": block[:, 0].long()}


def _scaled(found: Sequence[Box], inner: Sequence[int], outer: Sequence[int]) -> list[Box]:
    """Return boxes of a file where they lie in the picture as it is seen."""
    across, down = inner[0] / outer[0], inner[1] / outer[1]
    return [Box(b.label, b.left * across, b.top * down, b.right * across, b.bottom * down) for b in found]
