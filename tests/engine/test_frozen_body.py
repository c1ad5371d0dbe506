"""--method head: a body that is computed once says what it always says and stays to the bit; the rest learns."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    LlamaConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
)

from sft_magics.core import errors
from sft_magics.core.events import CheckpointSaved, EpochDone, Remark
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, read_rows
from sft_magics.engine import tasks
from sft_magics.engine.inference import scoring
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.inputs import images
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import frozen_body
from sft_magics.engine.runtime import hardware
from sft_magics.engine.tasks.image_classification import Images
from tests import shapes
from tests.engine.house import Ear, films, order, small_base


def chosen() -> hardware.Hardware:
    return hardware.choose("cpu", "fp32", 1)


def digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


# Texts


def test_an_encoder_is_read_once_and_the_pooler_and_head_learn(tmp_path: Path) -> None:
    ear = Ear()
    spec = order(films(tmp_path, 64, 32), start=small_base(tmp_path / "base"), method="head", epochs=4.0, lr=0.01)
    found = worker.train(spec, ear, tmp_path / "run")
    before, after = load_file(tmp_path / "base" / "model.safetensors"), load_file(found.folder / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[f"bert.{name}"])}
    assert moved == {"pooler.dense.weight", "pooler.dense.bias"}
    assert any("encoder is frozen" in e.text for e in ear.all(Remark))
    texts = list(read_rows(Path(spec["data"]), "validation")["text"])
    again = Predictor(found.folder, threads=1, precision="fp32").scores(texts)
    assert np.abs(np.array(again) - np.array(found.validation_scores)).max() < 1e-5


def test_epochs_do_not_read_the_texts_again(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 24, 8), start=small_base(tmp_path / "base"), method="head", epochs=3.0)
    loop, _ = worker.prepare(spec, Ear(), tmp_path / "run")
    read: Counter[int] = Counter()
    loop.task.model.bert.encoder.layer[0].register_forward_hook(lambda *_: read.update([1]))
    loop.run()
    assert not read


CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "distilbert": lambda: DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=30_522),
    "roberta": lambda: RobertaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=30_522
    ),
    "albert": lambda: AlbertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=30_522,
        embedding_size=16,
    ),
    "llama": lambda: LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=30_522,
        num_key_value_heads=2,
    ),
    "modernbert": lambda: ModernBertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=30_522,
        classifier_pooling="mean", pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    ),
}  # fmt: skip


def stored(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    config = CONFIGS[kind]()
    config.pad_token_id = 0
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(fetch("minilm")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "albert", "llama"])
def test_whatever_the_architecture_the_head_says_the_same_of_what_was_kept(kind: str, tmp_path: Path) -> None:
    start = {"kind": "folder", "path": str(stored(kind, tmp_path / kind))}
    task = tasks.find("text-classification").load(start, ["negative", "positive"], {})
    texts = ["a fine film", "bad", "one that is a good deal longer than the other two", "so so"]
    rows = task.encode(texts, ["positive", "negative", "positive", "negative"])
    whole = scoring.score(task, rows, chosen())
    kept = task.freeze(rows, chosen(), learned=True)
    assert set(task.collate(kept, [0, 1])) == {"features", "labels"}
    assert np.abs(np.array(scoring.score(task, kept, chosen())) - np.array(whole)).max() < 1e-5
    learning = {name for name, p in task.model.named_parameters() if p.requires_grad}
    assert learning
    assert not any(".0." in name or "embed" in name for name in learning)


def test_a_head_that_reads_all_tokens_is_refused(tmp_path: Path) -> None:
    start = {"kind": "folder", "path": str(stored("modernbert", tmp_path / "base"))}
    task = tasks.find("text-classification").load(start, ["negative", "positive"], {})
    rows = task.encode(["one that is longer", "bad", "so so"], None)
    with pytest.raises(errors.ModelProblem, match="its head reads all tokens"):
        task.freeze(rows, chosen(), learned=True)


# Pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for seed in range(32):
        picture, _, (box, *_) = shapes.scene(seed)
        (root / "p" / box.label).mkdir(parents=True, exist_ok=True)
        picture.save(root / "p" / box.label / f"{seed}.png")
    return root / "sft" / build("p", str(root / "p"), workspace=Workspace(root / "sft").prepare()).file


def image_order(data: Path, **options: Any) -> dict[str, Any]:
    usual = {"method": "head", "augment": "flip", "lr": 0.01, "batch": 8, "epochs": 3.0}
    found = order(data, task="image-classification", start=fetch("lite0"), **{**usual, **options})
    return {**found, "labels": ["disc", "square"]}


def test_views_are_changed_pictures_and_an_epoch_has_one_of_each(pictures: Path, tmp_path: Path) -> None:
    loop, _ = worker.prepare(image_order(pictures, views=3), Ear(), tmp_path)
    kept, held = loop.plan.train, loop.plan.validation
    assert isinstance(kept, Images)
    assert isinstance(held, Images)
    assert kept.features is not None
    assert held.features is not None
    assert (len(kept.features), len(held.features)) == (3, 1)
    assert not torch.equal(kept.features[0], kept.features[1])
    rows = range(len(kept.lengths))
    epochs = [loop.task.collate(kept, rows, epoch)["features"] for epoch in range(6)]
    assert torch.equal(epochs[2], loop.task.collate(kept, rows, 2)["features"])
    drawn = [[images.view_of(3, epoch, i, 3) for i in rows] for epoch in range(6)]
    assert torch.equal(epochs[4], kept.features[drawn[4], list(rows)])
    assert {view for row in drawn for view in row} == {0, 1, 2}
    assert drawn[0] != drawn[1]


def test_views_train_and_change_what_is_learned(pictures: Path, tmp_path: Path) -> None:
    found = []
    for views in (0, 2):
        ear = Ear()
        worker.train(image_order(pictures, views=views), ear, tmp_path / str(views))
        found.append([e.train_loss for e in ear.all(EpochDone)])
        said = "2 changed views" if views else "the pictures as they are"
        assert any(said in e.text for e in ear.all(Remark))
    assert found[0] != found[1]


# Masks and boxes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("scenes")
    ws = Workspace(root / "sft").prepare()
    masks = build("masks", str(shapes.masks_folder(root / "masks", 40, 8)), workspace=ws)
    boxes = build("boxes", str(shapes.coco(root / "coco", 40)), workspace=ws)
    return {"semantic-segmentation": ws.root / masks.file, "object-detection": ws.root / boxes.file}


def scene_order(scenes: dict[str, Path], task: str, **options: Any) -> dict[str, Any]:
    usual = {"method": "head", "augment": "flip", "lr": 0.002, "batch": 8, "epochs": 3.0, "image_size": 64}
    found = order(scenes[task], task=task, start=fetch("lite0"), **{**usual, **options})
    return {**found, "labels": list(shapes.CLASSES) if "seg" in task else ["disc", "square"]}


BOTH = pytest.mark.parametrize("task", ["semantic-segmentation", "object-detection"])


@BOTH
def test_the_loss_on_kept_maps_is_that_on_the_pictures(scenes: dict[str, Path], task: str, tmp_path: Path) -> None:
    for views in (0, 2):
        spec = scene_order(scenes, task, views=views, augment="flip" if views else "none")
        loop, _ = worker.prepare(spec, Ear(), tmp_path)
        made, kept = loop.task, loop.plan.train
        again = tasks.find(task).load(spec["start"], spec["labels"], spec["options"])
        frame = read_rows(scenes[task], "train")
        rows = again.encode(list(frame["text"]), list(frame[made.column]))
        made.model.load_state_dict(again.model.state_dict())
        for model in (made.model, again.model):
            model.train()
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        epoch = 5
        for i in random.Random(0).sample(range(len(rows.lengths)), 4):
            view = images.view_of(3, epoch, i, 2) if views else 0
            with torch.no_grad():
                one = made.loss(made.collate(kept, [i], epoch))
                two = again.loss(again.collate(rows, [i], view))
            assert float(one) == pytest.approx(float(two), rel=1e-4)


@BOTH
@pytest.mark.parametrize("method", ["head", "full"])
def test_a_body_that_is_prepared_says_what_the_file_says(
    scenes: dict[str, Path], task: str, method: str, tmp_path: Path
) -> None:
    spec = scene_order(scenes, task, method=method, precision="auto")
    loop, _ = worker.prepare(spec, Ear(), tmp_path)
    fresh = tasks.find(task).load(spec["start"], spec["labels"], spec["options"]).model.eval()
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prepared = loop.task.model.eval()
    bodies = [(m.backbone if "object" in task else m.pyramid).body for m in (prepared, fresh)]
    with torch.no_grad():
        for ours, theirs in zip(*(body(pictures) for body in bodies), strict=True):
            assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()


@BOTH
def test_the_body_stays_to_the_bit_and_what_is_above_learns(scenes: dict[str, Path], task: str, tmp_path: Path) -> None:
    ear = Ear()
    spec = scene_order(scenes, task)
    found = worker.train(spec, ear, tmp_path / "run")
    start = tasks.find(task).load(spec["start"], spec["labels"], spec["options"]).model.state_dict()
    after = load_file(found.folder / "model.safetensors")
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, start[name])}
    assert moved
    assert not any(".body." in name for name in moved), "neither weights nor what normalization counts"
    assert {name for name in after if ".body." not in name} - moved <= {"head.1.num_batches_tracked"}
    losses = [e.train_loss for e in ear.all(EpochDone)]
    assert losses[-1] < losses[0]
    assert any("pyramid and head learn on them" in e.text for e in ear.all(Remark))


@BOTH
def test_a_stopped_run_goes_on_to_the_same_weights(scenes: dict[str, Path], task: str, tmp_path: Path) -> None:
    spec = scene_order(scenes, task, views=2, epochs=2.0, workers=2)
    worker.train(spec, Ear(), tmp_path / "whole")
    cut = {**spec, "options": {**spec["options"], "checkpoint_seconds": 0.0, "workers": 0}}
    assert worker.train(cut, Ear(lambda e: isinstance(e, CheckpointSaved) and e.step >= 3), tmp_path / "run").stopped
    worker.train(spec, Ear(), tmp_path / "run")
    assert digest(tmp_path / "whole") == digest(tmp_path / "run")


def test_maps_that_do_not_fit_are_computed_batch_by_batch(
    scenes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_body, "ROOM", 1000)
    ear = Ear()
    spec = scene_order(scenes, "semantic-segmentation", epochs=1.0)
    found = worker.train(spec, ear, tmp_path / "run")
    assert any("so it reads each batch" in e.text for e in ear.all(Remark))
    start = tasks.find(spec["task"]).load(spec["start"], spec["labels"], {}).model.state_dict()
    after = load_file(found.folder / "model.safetensors")
    assert all(torch.equal(tensor, start[name]) for name, tensor in after.items() if ".body." in name)
    assert not torch.equal(after["head.0.weight"], start["head.0.weight"])


def test_what_does_not_go_together_is_refused(pictures: Path, tmp_path: Path) -> None:
    refused = [
        (image_order(pictures, views=2, augment="none"), "--views are changed pictures, and --augment is none"),
        (image_order(pictures, mixup=0.2), "--mixup is not there for --method head"),
        (image_order(pictures, views=2, method="full"), "--views is not there for --method full"),
        (order(films(tmp_path, 16, 8), method="head", views=2), "--views is not there for text-classification"),
    ]
    for spec, said in refused:
        with pytest.raises(errors.ModelProblem, match=said):
            worker.train(spec, Ear(), tmp_path / "run")
