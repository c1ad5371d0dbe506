"""Images: the classic recipe to the last bit, real pretrained weights, and the same order of chance every time."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models, transforms

from sft_magics.core import errors
from sft_magics.core.events import EpochDone, Remark, StepDone
from sft_magics.core.runtime.fetching import fetch
from sft_magics.datasets import load
from sft_magics.datasets.fingerprints import fingerprint
from sft_magics.datasets.tables import parquet
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.inputs import images, pixels
from sft_magics.engine.inputs.batching import epoch_batches
from sft_magics.engine.inputs.images import AugmentRng, Pictures
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import backbones
from tests.engine.house import Ear

CLASSIC = {
    "optimizer": "sgd", "lr": 0.001, "momentum": 0.9, "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant",
    "clip": 0.0,
}  # fmt: skip


def digits(folder: Path, train: int, validation: int) -> Path:
    """A data set's file with real handwriting."""
    loaded = load("sample:digits")
    chosen = random.Random(5).sample(range(len(loaded)), train + validation)
    columns = [
        [f"r{i}" for i in range(len(chosen))], [loaded.texts[i] for i in chosen], [loaded.labels[i] for i in chosen],
        ["train"] * train + ["validation"] * validation, [loaded.hashes[i] for i in chosen],
        [loaded.pixels[i] for i in chosen],
    ]  # fmt: skip
    path = folder / "digits" / f"{fingerprint(zip(columns[4], columns[2], columns[3], strict=True))}.parquet"
    parquet.write(path, columns)
    return path


def order(data: Path, start: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    usual = {
        "epochs": 1.0, "lr": 1e-3, "batch": 8, "weight_decay": 0.01, "warmup": 0.1, "seed": 3, "precision": "fp32",
        "device": "cpu", "threads": 1, "checkpoint_seconds": 3600.0, "dropout": True, "augment": "light",
        "image_size": 64, "workers": 0,
    }  # fmt: skip
    return {
        "task": "image-classification",
        "start": start or {"kind": "folder", "path": str(fetch("lite0"))},
        "labels": [str(n) for n in range(10)],
        "data": str(data),
        "options": {**usual, **options},
    }


def digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


def test_the_classic_recipe_gives_the_losses_of_a_plain_loop_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ResNet-50 with a new head, SGD 0.001, momentum 0.9: the plain PyTorch loop, written out, beside ours."""
    monkeypatch.setattr("sft_magics.engine.training.loop._TELL_SECONDS", 0.0)  # every step's loss by itself
    data = digits(tmp_path, 24, 4)
    start = {"kind": "name", "path": "resnet50", "weights": "none"}
    torch.manual_seed(0)
    theirs = models.resnet50(num_classes=1000)
    stored = {k: v.clone() for k, v in theirs.state_dict().items()}
    monkeypatch.setattr(backbones, "_of_torchvision", lambda name, wanted: _known(name, stored))
    spec = order(data, start, augment="none", batch=4, **CLASSIC)
    ear = Ear()
    worker.train(spec, ear, tmp_path / "run")
    ours = [e.loss for e in ear.all(StepDone)]

    torch.set_num_threads(1)
    torch.manual_seed(3)
    theirs.fc = nn.Linear(theirs.fc.in_features, 10)
    torch.manual_seed(3)
    prepare = transforms.Compose([
        transforms.Resize(66), transforms.CenterCrop(64), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    frame = parquet.read_rows(data, "train")
    inputs = [prepare(Image.open(path).convert("RGB")) for path in frame["text"]]
    targets = [int(label) for label in frame["label"]]
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.001, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    theirs.train()
    plain = []
    for indices in epoch_batches([1] * 24, 4, 3, 0):
        optimizer.zero_grad()
        loss = criterion(theirs(torch.stack([inputs[i] for i in indices])), torch.tensor([targets[i] for i in indices]))
        loss.backward()
        optimizer.step()
        plain.append(loss.item())
    assert len(ours) == 6
    assert ours == plain


def _known(name: str, stored: dict[str, torch.Tensor]) -> Any:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    bare = backbones.Backbone(models.get_model(name), "torchvision", name, 224, 232, mean, std, (), "")
    return bare, stored, "a file"


def test_lite0_sees_what_is_on_a_known_photograph(tmp_path: Path) -> None:
    """The `tf_` variant; the plain one takes the same tensors without a word, and sees worse."""
    from sklearn.datasets import load_sample_images
    from timm.data import ImageNetInfo

    bare, tensors, _ = backbones._lite0(fetch("lite0"))
    backbones.fill(bare.model, tensors, "lite0")
    bare.model.eval()
    names = {}
    for name, picture in zip(("china", "flower"), load_sample_images().images, strict=True):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        batch = Pictures([str(tmp_path / f"{name}.png")], 224, 256).batch([0])
        with torch.no_grad():
            best = int(bare.model((batch.float() / 255 - 0.5) / 0.5).argmax())
        names[name] = ImageNetInfo().index_to_description(best)
    assert names == {"china": "palace", "flower": "daisy"}


def test_lite0_learns_digits_and_answers_alike_from_its_folder(tmp_path: Path) -> None:
    ear = Ear()
    spec = order(digits(tmp_path, 480, 160), epochs=2.0, batch=16, precision="auto")
    trained = worker.train(spec, ear, tmp_path / "run")
    last = ear.all(EpochDone)[-1]
    assert last.metrics["accuracy"] >= 0.75
    assert any("fp32" in r.text or "bf16" in r.text for r in ear.all(Remark))
    frame = parquet.read_rows(Path(spec["data"]), "validation")
    again = Predictor(trained.folder, threads=1).scores(list(frame["text"]))
    assert np.abs(np.array(again) - np.array(trained.validation_scores)).max() < 1e-4
    card = json.loads((trained.folder / "sft.json").read_text())
    assert card["preprocessing"]["image_size"] == 64


def test_threads_change_no_bit(tmp_path: Path) -> None:
    data = digits(tmp_path, 64, 16)
    for workers in (0, 2):
        worker.train(order(data, workers=workers, epochs=2.0), Ear(), tmp_path / f"run-{workers}")
    assert digest(tmp_path / "run-0") == digest(tmp_path / "run-2")


@pytest.mark.parametrize(("optimizer", "precision"), [("sgd", "bf16"), ("adamw", "auto")])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path, optimizer: str, precision: str) -> None:
    spec = order(digits(tmp_path, 64, 16), epochs=2.0, optimizer=optimizer, precision=precision, workers=2)
    worker.train(spec, Ear(), tmp_path / "whole")
    stopped = worker.train(spec, Ear(lambda e: isinstance(e, StepDone) and e.step >= 5), tmp_path / "cut")
    assert stopped.stopped
    worker.train(spec, Ear(), tmp_path / "cut")
    assert digest(tmp_path / "whole") == digest(tmp_path / "cut")


def test_a_frozen_backbone_keeps_every_bit_and_its_head_learns(tmp_path: Path) -> None:
    ear = Ear()
    spec = order(digits(tmp_path, 320, 100), method="head", lr=0.01, epochs=5.0, batch=32)
    trained = worker.train(spec, ear, tmp_path / "run")
    before, after = backbones._lite0(fetch("lite0"))[1], load_file(trained.folder / "model.safetensors")
    moved = {n for n, t in before.items() if t.shape != after[n].shape or not torch.equal(t, after[n])}
    assert moved == {"classifier.weight", "classifier.bias"}
    assert ear.all(EpochDone)[-1].metrics["accuracy"] >= 0.6
    frame = parquet.read_rows(Path(spec["data"]), "validation")
    whole = Predictor(trained.folder, threads=1, precision="fp32").scores(list(frame["text"]))
    assert np.abs(np.array(whole) - np.array(trained.validation_scores)).max() < 1e-4


def test_small_pictures_are_seen_small_and_large_ones_as_the_base_knows_them(tmp_path: Path) -> None:
    for side in (28, 100, 500):
        Image.new("L", (side, side + 50)).save(tmp_path / f"{side}.png")
    sizes = {side: images.auto_size([str(tmp_path / f"{side}.png")], 224) for side in (28, 100, 500)}
    assert sizes == {28: 64, 100: 128, 500: 224}


def test_chance_is_a_function_of_seed_epoch_and_index(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    pictures = Pictures([str(tmp_path / "noise.png")] * 3, 32, 40)
    for augment in ("light", "flip", "strong"):
        one, two = (pictures.batch([0, 1, 2], AugmentRng(augment, 4, 1)) for _ in range(2))
        assert torch.equal(one, two)
        assert torch.equal(one[1:2], pictures.batch([1], AugmentRng(augment, 4, 1)))
        assert not torch.equal(one[0], one[1])
        assert not torch.equal(one, pictures.batch([0, 1, 2], AugmentRng(augment, 4, 2)))
    boxes = [AugmentRng("strong", 0, 0).of(i).box((60, 80)) for i in range(500)]
    assert all(0 <= left < right <= 60.001 and 0 <= top < bottom <= 80.001 for left, top, right, bottom in boxes)
    assert 0.3 < sum(AugmentRng("flip", 0, 0).of(i).mirrored for i in range(500)) / 500 < 0.7
    assert not any(AugmentRng("light", 0, 0).of(i).mirrored for i in range(500))


def test_a_picture_is_upright_on_white_and_in_color(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert pixels.opened(str(tmp_path / "clear.png"), 20).getpixel((5, 5)) == (255, 255, 255)
    turned = Image.new("RGB", (40, 20), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert pixels.opened(str(tmp_path / "turned.jpg"), 20).size == (20, 40)
    Image.new("I;16", (30, 30), 40_000).save(tmp_path / "deep.png")
    assert pixels.opened(str(tmp_path / "deep.png"), 30).mode == "RGB"


def test_a_file_that_has_gone_or_changed_is_named_before_the_first_step(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    names = [str(shelf / f"{i}.png") for i in range(8)]
    for i, name in enumerate(names):
        Image.new("RGB", (32, 32), (i, i, i)).save(name)
    rows = [[f"r{i}" for i in range(8)], names, ["0", "1"] * 4, ["train"] * 6 + ["validation"] * 2]
    rows.append([hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in names])
    rows.append(list(rows[4]))  # what they show: nobody asks here
    path = tmp_path / "d" / f"{fingerprint(zip(rows[4], rows[2], rows[3], strict=True))}.parquet"
    parquet.write(path, rows)
    Path(names[3]).unlink()
    ear = Ear()
    with pytest.raises(errors.DataProblem, match=r"1 images cannot be read: .*3.png"):
        worker.train(order(path), ear, tmp_path / "run")
    Image.new("RGB", (32, 32), "red").save(names[5])
    with pytest.raises(errors.DataProblem, match=r"1 picture of dataset d changed after it was made: 5\.png"):
        worker.train(order(path), ear, tmp_path / "run")
    assert ear.all(StepDone) == []


def test_weights_that_fit_only_in_part_are_refused_by_name(tmp_path: Path) -> None:
    loaded = backbones.load({"kind": "folder", "path": str(fetch("lite0"))}, ["a", "b"], 0)
    (tmp_path / "config.json").write_text(json.dumps(loaded.config(["a", "b"])))
    tensors = {k: v.contiguous() for k, v in loaded.model.state_dict().items()}
    lacking = {k: v for k, v in tensors.items() if k != "conv_stem.weight"}
    save_file(lacking, tmp_path / "model.safetensors")
    with pytest.raises(errors.ModelProblem, match=r"are missing: conv_stem.weight"):
        backbones.load({"kind": "folder", "path": str(tmp_path)}, ["a", "b"], 0)
    save_file({**tensors, "conv_stem.weight": torch.full_like(tensors["conv_stem.weight"], float("nan"))},
              tmp_path / "model.safetensors")  # fmt: skip
    with pytest.raises(errors.ModelProblem, match=r"conv_stem.weight hold values that are not numbers"):
        backbones.load({"kind": "folder", "path": str(tmp_path)}, ["a", "b"], 0)
    save_file(tensors, tmp_path / "model.safetensors")
    same = backbones.load({"kind": "folder", "path": str(tmp_path)}, ["b", "a"], 0)
    assert same.fresh == ()
    assert torch.equal(same.model.classifier.weight, loaded.model.classifier.weight[[1, 0]])
    other = backbones.load({"kind": "folder", "path": str(tmp_path)}, ["a", "b", "c"], 0)
    assert other.fresh == ("classifier.bias", "classifier.weight")


@pytest.mark.parametrize("name", ["resnet50", "vit_b_16"])
def test_weights_that_are_neither_here_nor_reachable_are_said_with_both_remedies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", _no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", _no_network)
    with pytest.raises(errors.ModelProblem, match="not on this machine") as refused:
        backbones.load({"kind": "name", "path": name}, ["a", "b"], 0)
    assert "copy" in refused.value.next_step
    assert "--base lite0" in refused.value.next_step
    assert "--weights none" in refused.value.next_step


def _no_network(*_: Any, **__: Any) -> None:
    raise OSError("Network is unreachable")


def test_weights_a_teacher_copied_into_torchs_cache_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", _no_network)
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.manual_seed(8)
    stored = models.resnet18().state_dict()
    torch.save(stored, place / Path(models.ResNet18_Weights.IMAGENET1K_V1.url).name)
    loaded = backbones.load({"kind": "name", "path": "resnet18"}, ["a", "b"], 0)
    assert torch.equal(loaded.model.conv1.weight, stored["conv1.weight"])
    assert (loaded.fresh, loaded.source) == (("fc.bias", "fc.weight"), "torchvision resnet18 IMAGENET1K_V1")


def test_an_unknown_name_is_answered_with_a_guess() -> None:
    with pytest.raises(errors.ModelProblem, match="resnet50"):
        backbones.load({"kind": "name", "path": "resnet5O"}, ["a", "b"], 0)


@pytest.mark.parametrize("name", ["vit_b_16", "mobilenet_v3_small", "densenet121", "resnet18.a1_in1k"])
def test_other_families_get_a_head_as_well(name: str) -> None:
    loaded = backbones.load({"kind": "name", "path": name, "weights": "none"}, ["a", "b", "c"], 0)
    loaded.model.eval()
    with torch.no_grad():
        assert loaded.model(torch.zeros(1, 3, loaded.size, loaded.size)).shape == (1, 3)
