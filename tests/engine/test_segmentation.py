"""Segmentation: it learns, masks move with their pictures, what is measured is what is there, and it comes back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, read_rows
from sft_magics.datasets.annotations import masks
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.inputs.annotated_images import Scenes
from sft_magics.engine.inputs.images import AugmentRng
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import fpn
from sft_magics.engine.tasks import find
from sft_magics.engine.tasks.semantic_segmentation import SemanticSegmentation, ious
from tests import shapes
from tests.engine.house import Ear

USUAL: dict[str, Any] = {
    "epochs": 6.0, "lr": 0.002, "batch": 8, "weight_decay": 0.01, "warmup": 0.1, "seed": 1, "precision": "fp32",
    "device": "cpu", "threads": 2, "checkpoint_seconds": 3600.0, "optimizer": "adamw", "augment": "flip", "workers": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("masks")
    dataset = build(
        "shapes", str(shapes.masks_folder(root / "masks", 64, 16)), workspace=Workspace(root / "sft").prepare()
    )
    return root / "sft" / dataset.file


def order(data: Path, **options: Any) -> dict[str, Any]:
    return {
        "task": "semantic-segmentation",
        "start": {"kind": "folder", "path": str(fetch("lite0"))},
        "labels": list(shapes.CLASSES),
        "data": str(data),
        "options": {**USUAL, **options},
    }


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> worker.Trained:
    return worker.train(order(data), Ear(), tmp_path_factory.mktemp("run"))


def test_it_learns_to_tell_pixels_apart(trained: worker.Trained) -> None:
    assert trained.metrics["miou"].value > 0.6
    low, high = trained.metrics["miou"].low, trained.metrics["miou"].high
    assert low is not None
    assert high is not None
    assert low <= trained.metrics["miou"].value <= high
    assert trained.metrics["iou[square]"].value > 0.5
    assert {"pixel_accuracy", "precision[disc]", "recall[disc]"} <= set(trained.metrics)


def test_a_saved_folder_answers_as_it_was_measured(trained: worker.Trained, data: Path) -> None:
    predictor = Predictor(trained.folder, threads=2, precision="fp32")
    frame = read_rows(data, "validation")
    again = predictor.report(list(frame["text"]), list(frame["mask"]))
    assert again.metrics["miou"].value == pytest.approx(trained.metrics["miou"].value, abs=1e-3)
    answers = predictor.scores(list(frame["text"]))
    counts = np.zeros((3, 3), dtype=int)
    from sft_magics.core.records import Prediction
    from sft_magics.lifecycle.evaluation.answers import mask_of

    for said, mask in zip(answers, frame["mask"], strict=True):
        found = mask_of(Prediction("", "", 0.0, {}, mask="data:image/png;base64," + said["mask"]))
        truth = masks.read(mask)
        assert found.shape == truth.shape
        np.add.at(counts, (truth.ravel(), found.ravel()), 1)
        assert sum(said["shares"].values()) == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(counts, np.array(again.confusion))
    assert float(np.nanmean(ious(counts))) == pytest.approx(again.metrics["miou"].value)


def test_an_answer_has_the_size_of_its_file_whatever_that_is(trained: worker.Trained, tmp_path: Path) -> None:
    sizes = ((64, 64), (150, 90), (33, 200))
    for number, size in enumerate(sizes):
        shapes.scene(number, size)[0].save(tmp_path / f"{number}.png")
    answers = Predictor(trained.folder, threads=2).scores([str(tmp_path / f"{n}.png") for n in range(3)])
    import base64
    import io

    found = [Image.open(io.BytesIO(base64.b64decode(a["mask"]))).size for a in answers]
    assert found == list(sizes)


def test_masks_move_as_their_pictures_do(tmp_path: Path) -> None:
    """A picture that is its own mask stays so, however it is cropped and mirrored."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 2, (16, 16), dtype=np.uint8)
    mask = np.kron(coarse, np.ones((8, 8), dtype=np.uint8))
    Image.fromarray(mask * 255).save(tmp_path / "p.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    scenes = Scenes([str(tmp_path / "p.png")], 64, [str(tmp_path / "m.png")])
    agree = []
    for epoch in range(12):
        pictures, found = scenes.learned([0], AugmentRng("flip", 0, epoch))
        assert found is not None
        agree.append(float(((pictures[0, 0] > 127) == found[0].bool()).float().mean()))
    assert min(agree) > 0.93


def test_the_loss_of_pixels_without_a_class_does_not_count() -> None:
    task = find("semantic-segmentation").load(
        {"kind": "folder", "path": str(fetch("lite0"))}, ["a", "b"], {"image_size": 64, "seed": 0}
    )
    assert isinstance(task, SemanticSegmentation)
    task.model.eval()
    pictures = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    marks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    whole = task.loss({"pictures": pictures, "masks": marks})
    marks[:, 32:] = masks.NOTHING
    half = task.loss({"pictures": pictures, "masks": marks})
    logits = task.model(task.normalized(pictures)).log_softmax(1)[:, 0]
    assert float(whole) == pytest.approx(float(-logits.mean()), rel=1e-5)
    assert float(half) == pytest.approx(float(-logits[:, :32].mean()), rel=1e-5)


def test_classes_can_be_made_to_weigh_alike(data: Path, tmp_path: Path) -> None:
    found = worker.train(order(data, epochs=0.25, class_weights="auto"), Ear(), tmp_path)
    assert "recall[disc]" in found.metrics


def test_the_body_has_the_pretrained_weights_and_the_rest_is_named() -> None:
    body = fpn.body_of({"kind": "folder", "path": str(fetch("lite0"))}, 4)
    assert body.strides == (4, 8, 16, 32)
    stored = torch.load(fetch("lite0") / "efficientnet-lite0.pth", weights_only=True)
    first = next(iter(stored.values()))
    assert torch.equal(body.model.state_dict()["conv_stem.weight"], first)
    model = fpn.body_of({"kind": "name", "path": "resnet18", "weights": "none"}, 4)
    assert model.strides == (4, 8, 16, 32)
    flat = fpn.body_of({"kind": "name", "path": "convnext_atto", "weights": "none"}, 4)  # whose names timm changes
    assert len(flat.widths) == 4
    with pytest.raises(errors.ModelProblem, match=r"gives no maps of|cannot be filled"):
        fpn.body_of({"kind": "name", "path": "mixer_s32_224", "weights": "none"}, 4)


def test_a_version_for_other_classes_is_no_start(trained: worker.Trained) -> None:
    with pytest.raises(errors.ModelProblem, match="tell ground, square, disc apart, not a, b"):
        find("semantic-segmentation").load({"kind": "folder", "path": str(trained.folder)}, ["a", "b"], {})


def test_the_same_seed_gives_the_same_weights_with_and_without_threads(data: Path, tmp_path: Path) -> None:
    losses = []
    for name, workers in (("a", 0), ("b", 2)):
        ear = Ear()
        found = worker.train(order(data, epochs=1.0, workers=workers, threads=1), ear, tmp_path / name)
        losses.append(found.metrics["miou"].value)
    assert losses[0] == losses[1]


def test_a_picture_that_went_is_named(data: Path, tmp_path: Path) -> None:
    frame = read_rows(data, None)
    task = find("semantic-segmentation").load(
        {"kind": "folder", "path": str(fetch("lite0"))}, list(shapes.CLASSES), {"seed": 0}
    )
    with pytest.raises(errors.DataProblem, match=r"1 images cannot be read: .*gone\.png"):
        task.encode([*frame["text"][:3], str(tmp_path / "gone.png")], [*frame["mask"][:3], frame["mask"][0]])


def test_parts_weigh_what_they_have_of_pixels_and_an_empty_one_is_no_trouble() -> None:
    start = {"kind": "folder", "path": str(fetch("lite0"))}
    task = find("semantic-segmentation").load(start, ["a", "b"], {"image_size": 64, "seed": 0})
    task.model.eval()
    marks = torch.full((2, 64, 64), masks.NOTHING, dtype=torch.uint8)
    marks[0, :16] = 1
    batch = {"pictures": torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8), "masks": marks}
    assert task.weight(batch) == 16 * 64
    parts = [{k: v[i : i + 1] for k, v in batch.items()} for i in range(2)]
    with torch.no_grad():
        whole, losses = task.loss(batch), [task.loss(part) for part in parts]
    shares = [task.weight(part) / task.weight(batch) for part in parts]
    assert float(whole) == pytest.approx(sum(float(x) * s for x, s in zip(losses, shares, strict=True)), rel=1e-5)
