"""Detection: it learns, boxes move with their pictures, average precision is COCO's, and it comes back."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sft_magics.core import errors, postprocessing
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, read_rows
from sft_magics.datasets.annotations import boxes
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.inputs.annotated_images import Scenes
from sft_magics.engine.inputs.images import AugmentRng
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import detectors
from sft_magics.engine.runtime import memory
from sft_magics.engine.tasks import find
from sft_magics.engine.tasks.object_detection import Boxed, ObjectDetection
from sft_magics.engine.training import gradual_unfreezing
from tests import shapes
from tests.engine.house import Ear

LABELS = ["disc", "square"]
USUAL: dict[str, Any] = {
    "epochs": 8.0, "lr": 0.001, "batch": 4, "weight_decay": 0.01, "warmup": 0.1, "seed": 1, "precision": "fp32",
    "device": "cpu", "threads": 2, "checkpoint_seconds": 3600.0, "optimizer": "adamw", "augment": "none", "workers": 1,
    "image_size": 96,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    file = shapes.coco(root / "coco", 96, (96, 96))
    return root / "sft" / build("shapes", str(file), workspace=Workspace(root / "sft").prepare()).file


def order(data: Path, **options: Any) -> dict[str, Any]:
    return {
        "task": "object-detection",
        "start": {"kind": "folder", "path": str(fetch("lite0"))},
        "labels": LABELS,
        "data": str(data),
        "options": {**USUAL, **options},
    }


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> worker.Trained:
    return worker.train(order(data), Ear(), tmp_path_factory.mktemp("run"))


def test_it_learns_where_things_are(trained: worker.Trained) -> None:
    assert trained.metrics["ap50"].value > 0.4
    assert 0.0 <= trained.metrics["map"].value <= trained.metrics["ap50"].value
    assert {"ap50[disc]", "recall[square]", "precision[disc]"} <= set(trained.metrics)


def test_a_saved_folder_answers_as_it_was_measured(trained: worker.Trained, data: Path) -> None:
    predictor = Predictor(trained.folder, threads=2, precision="fp32")
    frame = read_rows(data, "validation")
    again = predictor.report(list(frame["text"]), list(frame["label"]))
    assert again.metrics["ap50"].value == pytest.approx(trained.metrics["ap50"].value, abs=1e-3)
    assert len(again.badness) == len(frame)
    for said in predictor.scores(list(frame["text"])[:5]):
        for number, sure, left, top, right, bottom in said["boxes"]:
            assert number in (0, 1)
            assert 0.0 < sure <= 1.0
            assert -1 <= left < right <= 97
            assert -1 <= top < bottom <= 97


def test_boxes_of_a_larger_file_are_in_its_pixels(trained: worker.Trained, data: Path, tmp_path: Path) -> None:
    from PIL import Image

    path = next(iter(read_rows(data, "validation")["text"]))
    with Image.open(path) as image:
        image.resize((288, 288)).save(tmp_path / "large.png")
    predictor = Predictor(trained.folder, threads=2, precision="fp32")
    small, large = (predictor.scores([str(p)])[0]["boxes"] for p in (path, tmp_path / "large.png"))
    assert small
    assert large
    assert [x / 3 for x in large[0][2:]] == pytest.approx(small[0][2:], abs=6)


def loaded(**options: Any) -> ObjectDetection:
    start = {"kind": "folder", "path": str(fetch("lite0"))}
    task = find("object-detection").load(start, LABELS, {"seed": 0, "image_size": 96, **options})
    assert isinstance(task, ObjectDetection)
    return task


def rows_with(*found: list[Box]) -> Boxed:
    return Boxed([1] * len(found), Scenes([""] * len(found), 96, boxes=list(found)))


def test_boxes_are_computed_in_fp32_where_layers_compute_in_bfloat16() -> None:
    task = loaded()
    torch.manual_seed(0)
    batch = {"pictures": torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)}
    sizes = torch.tensor([[96, 96]] * 2)
    batch |= {"inner": sizes, "outer": sizes}
    model: Any = task.model.eval()
    model.transform.min_size, model.score_thresh = (96,), 0.0
    kinds = []
    for module in (model.head, model.anchor_generator):
        module.register_forward_hook(lambda _module, _inputs, said: kinds.extend(_kinds(said)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        said = task.scores(batch)
    assert set(kinds) == {torch.float32}
    sure = [box[1] for answer in said for box in answer["boxes"]]
    rounded = torch.tensor(sure).bfloat16().float()
    assert (rounded != torch.tensor(sure)).float().mean() > 0.9, "a confidence has more than three digits"


def _kinds(said: Any) -> list[torch.dtype]:
    parts = said.values() if isinstance(said, dict) else said
    return [part.dtype for part in parts]


def test_a_pretrained_body_s_normalization_stays_still_while_it_learns() -> None:
    def counted(task: ObjectDetection) -> bool:
        gradual_unfreezing.learn(task.model)
        before = {n: b.clone() for n, b in task.model.named_buffers() if "running_mean" in n}
        task.model(task._seen({"pictures": torch.randint(0, 256, (2, 3, 96, 96))}), task._targets(torch.zeros(2, 1, 5)))
        assert before
        return any(not torch.equal(b, before[n]) for n, b in task.model.named_buffers() if n in before)

    assert not counted(loaded())
    assert not memory.has_batch_norm(loaded().model), "so a batch in parts gives the gradients of the whole"
    scratch = {"kind": "name", "path": "efficientnet_lite0", "weights": "none"}
    fresh = find("object-detection").load(scratch, LABELS, {"seed": 0, "image_size": 96})
    assert isinstance(fresh, ObjectDetection)
    assert counted(fresh)
    assert memory.has_batch_norm(fresh.model)


def test_perfect_boxes_are_perfect_and_others_are_counted() -> None:
    task = loaded()
    truth = [Box("disc", 10, 10, 40, 40), Box("square", 50, 50, 90, 90)]
    rows = rows_with(truth, [Box("disc", 0, 0, 20, 20)])
    right = [
        {"boxes": [[0, 0.9, 10, 10, 40, 40], [1, 0.8, 50, 50, 90, 90]], "loss": 0.0},
        {"boxes": [[0, 0.7, 0, 0, 20, 20]], "loss": 0.0},
    ]
    found = task.report(rows, right)
    assert found.metrics["ap50"].value == pytest.approx(1.0)
    assert found.metrics["map"].value == pytest.approx(1.0)
    assert found.badness == [0.0, 0.0]
    assert task.concern(rows, right) == ""
    wrong = [{"boxes": [[1, 0.9, 10, 10, 40, 40]], "loss": 0.0}, {"boxes": [], "loss": 0.0}]
    found = task.report(rows, wrong)
    assert found.metrics["ap50"].value == 0.0
    assert (found.metrics["recall[disc]"].value, found.metrics["precision[square]"].value) == (0.0, 0.0)
    assert found.badness == [1.0, 1.0]
    assert task.concern(rows, wrong).startswith("The AP at one half is 0.000 on 2 validation pictures: hardly a box")
    twice = [{"boxes": [[0, 0.9, 10, 10, 40, 40], [0, 0.8, 11, 10, 40, 40]], "loss": 0.0}, {"boxes": [], "loss": 0.0}]
    found = task.report(rows, twice)
    assert found.metrics["precision[disc]"].value == 0.5, "a box is found once"
    assert found.badness[0] == pytest.approx(1 - 2 / 4)


def test_boxes_move_as_their_pictures_do(tmp_path: Path) -> None:
    picture, _, found = shapes.scene(4, (96, 96))
    picture.save(tmp_path / "p.png")
    scenes = Scenes([str(tmp_path / "p.png")], 96, boxes=[found])
    for epoch in range(10):
        chance = AugmentRng("flip", 0, epoch)
        seen = scenes.learned([0], chance)[0][0].float()
        for box in scenes.placed(0, chance):
            x, y = int((box.left + box.right) / 2), int((box.top + box.bottom) / 2)
            color = seen[:, min(y, 95), min(x, 95)]
            assert float(color.max() - color.min()) > 60, "the middle of a box is colored, the ground is gray"


def test_pictures_without_boxes_teach_too() -> None:
    task = loaded()
    task.model.train()
    loss = task.loss({"pictures": torch.zeros(2, 3, 96, 96, dtype=torch.uint8), "boxes": torch.zeros(2, 1, 5)})
    loss.backward()
    assert torch.isfinite(loss)


def test_torchvision_s_detectors_start_by_name(data: Path) -> None:
    assert {"fcos_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"} <= set(detectors.names())
    start = {"kind": "name", "path": "fasterrcnn_mobilenet_v3_large_320_fpn", "weights": "none"}
    task = find("object-detection").load(start, LABELS, {"seed": 0, "image_size": 96})
    frame = read_rows(data, "train")[:4]
    rows = task.encode(list(frame["text"]), list(frame["label"]))
    task.model.train()
    assert torch.isfinite(task.loss(task.collate(rows, range(4), 0)))
    task.model.eval()
    with torch.no_grad():
        assert all("boxes" in said for said in task.scores(task.collate(rows, range(4))))


def test_a_detector_s_weights_are_taken_but_for_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stands in for a download: the weights are drawn, the names and shapes are torchvision's own."""
    import torchvision

    name = "ssdlite320_mobilenet_v3_large"
    donor = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=91)
    best = torchvision.models.get_model_weights(name).DEFAULT
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(donor.state_dict(), folder / Path(best.url).name)
    model, _, fresh = detectors.named(name, 2, "pretrained")
    assert fresh
    assert all(n.startswith("head.classification_head") for n in fresh)
    body = "backbone.features.0.0.0.weight"
    assert torch.equal(model.state_dict()[body], donor.state_dict()[body])
    broken = {n: t for n, t in donor.state_dict().items() if n != body}
    torch.save(broken, folder / Path(best.url).name)
    with pytest.raises(errors.ModelProblem, match=f"fit only in part: {body}"):
        detectors.named(name, 2, "pretrained")


def test_the_label_column_reads_back() -> None:
    found = [Box("b", 1, 2, 3, 4), Box("a", 0, 0, 9.25, 9)]
    assert boxes.loads(boxes.dumps(found)) == [Box("a", 0, 0, 9.2, 9), Box("b", 1, 2, 3, 4)]
    assert postprocessing.counted(["a", "b", "a"]) == "2 a, 1 b"


def test_a_backbone_that_torchvision_knows_too_comes_back(tmp_path: Path) -> None:
    start = {"kind": "name", "path": "resnet18", "weights": "none"}
    task = find("object-detection").load(start, LABELS, {"seed": 0, "image_size": 96})
    task.save(tmp_path)
    again = find("object-detection").load({"kind": "folder", "path": str(tmp_path)}, LABELS, {"image_size": 96})
    assert all(torch.equal(t, again.model.state_dict()[n]) for n, t in task.model.state_dict().items())
