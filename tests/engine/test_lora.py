"""LoRA for classifiers: merged where it is saved; what is frozen stays to the bit; a run is resumable."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sft_magics.core import errors
from sft_magics.core.events import CheckpointSaved, EpochDone, Remark
from sft_magics.core.runtime.fetching import fetch
from sft_magics.datasets import read_rows
from sft_magics.engine import tasks
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import backbones, lora_adapters, tensor_files
from tests.engine.house import Ear, films, order, small_base


def lora(folder: Path, **options: Any) -> dict[str, Any]:
    usual = {"method": "lora", "lora_rank": 4, "lr": 0.01, "epochs": 2.0}
    return order(films(folder, 48, 24), start=small_base(folder / "base"), **{**usual, **options})


def digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


def test_a_version_is_a_model_as_any_other(tmp_path: Path) -> None:
    ear = Ear()
    spec = lora(tmp_path)
    found = worker.train(spec, ear, tmp_path / "run")
    before, after = load_file(tmp_path / "base" / "model.safetensors"), load_file(found.folder / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in after)
    moved = {name for name in before if not torch.equal(before[name], after[f"bert.{name}"])}
    linear = {n for n in before if n.endswith("weight") and before[n].ndim == 2 and "embeddings" not in n}
    assert moved == linear | {"pooler.dense.bias"}, "linear layers, and the pooler that learns whole"
    change = after["bert.encoder.layer.0.output.dense.weight"] - before["encoder.layer.0.output.dense.weight"]
    assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 4
    texts = list(read_rows(Path(spec["data"]), "validation")["text"])
    again = Predictor(found.folder, threads=1, precision="fp32").scores(texts)
    assert np.abs(np.array(again) - np.array(found.validation_scores)).max() < 1e-5
    model = AutoModelForSequenceClassification.from_pretrained(found.folder).eval()
    ids = AutoTokenizer.from_pretrained(found.folder)(texts[:1], return_tensors="pt", truncation=True, max_length=48)
    with torch.no_grad():
        said = model(**ids).logits.softmax(-1)[0].tolist()
    assert said == pytest.approx(again[0], abs=1e-5)
    assert any("low-rank changes learn" in e.text for e in ear.all(Remark))


def test_a_checkpoint_holds_what_learns_alone_and_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    spec = lora(tmp_path, layer_decay=0.9, ema=0.9)
    worker.train(spec, Ear(), tmp_path / "whole")
    cut = {**spec, "options": {**spec["options"], "checkpoint_seconds": 0.0}}
    assert worker.train(cut, Ear(lambda e: isinstance(e, CheckpointSaved) and e.step >= 8), tmp_path / "run").stopped
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    kept = set(tensor_files.part(newest))
    assert {name for name in kept if "lora_" not in name} == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip
    worker.train(spec, Ear(), tmp_path / "run")
    assert digest(tmp_path / "whole") == digest(tmp_path / "run")


def test_the_best_of_an_unfinished_run_answers_as_it_was_measured(tmp_path: Path) -> None:
    spec = lora(tmp_path, epochs=3.0)
    ear = Ear(lambda e: isinstance(e, EpochDone) and e.epoch >= 2)
    assert worker.train(spec, ear, tmp_path / "run").stopped
    kept = worker.best_of(spec, Ear(), tmp_path / "run")
    texts = list(read_rows(Path(spec["data"]), "validation")["text"])
    again = Predictor(kept.folder, threads=1, precision="fp32").scores(texts)
    assert np.abs(np.array(again) - np.array(kept.validation_scores)).max() < 1e-5


def test_a_version_of_it_is_where_another_begins(tmp_path: Path) -> None:
    spec = lora(tmp_path, epochs=1.0)
    first = worker.train(spec, Ear(), tmp_path / "one")
    on = {**spec, "start": {"kind": "folder", "path": str(first.folder)}}
    second = worker.train(on, Ear(), tmp_path / "two")
    one, two = (load_file(t.folder / "model.safetensors") for t in (first, second))
    assert not torch.equal(one["bert.encoder.layer.0.output.dense.weight"],
                           two["bert.encoder.layer.0.output.dense.weight"])  # fmt: skip
    assert torch.equal(one["bert.embeddings.word_embeddings.weight"], two["bert.embeddings.word_embeddings.weight"])


def test_fresh_changes_change_nothing_and_follow_from_the_seed(tmp_path: Path) -> None:
    start = {"kind": "folder", "path": str(small_base(tmp_path / "base"))}
    made = [
        tasks.find("text-classification").load(start, ["a", "b"], {"method": "lora", "seed": seed}).model
        for seed in (1, 1, 2)
    ]
    plain = tasks.find("text-classification").load(start, ["a", "b"], {"seed": 1}).model
    for name, tensor in tensor_files.weights_of(plain).items():
        assert torch.equal(lora_adapters.merged(made[0])[name], tensor)
    drawn = [dict(m.named_parameters())["bert.encoder.layer.0.output.dense.lora_A.default.weight"] for m in made]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", ["test_vit", "vit_b_16", "swin_t"])
def test_every_change_beside_a_picture_transformer_s_layers_is_used(name: str) -> None:
    start = {"kind": "name", "path": name, "weights": "none"}
    task = tasks.find("image-classification").load(start, ["a", "b"], {"method": "lora", "lora_rank": 2})
    size = task.loaded.size
    task.model.eval()(torch.rand(1, 3, size, size)).sum().backward()  # without chance: some drop whole blocks
    added = {n: p for n, p in task.model.named_parameters() if "lora_B" in n}
    assert added
    assert all(p.grad is not None and bool(p.grad.any()) for p in added.values())
    assert all(p.grad is None for n, p in task.model.named_parameters() if "base_layer" in n)


def test_pictures_learn_by_it_and_come_back(tmp_path: Path) -> None:
    task = tasks.find("image-classification")
    made = task.load({"kind": "name", "path": "test_vit", "weights": "none"}, ["a", "b"], {"method": "lora"})
    for name, parameter in made.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    for i in range(2):
        Image.new("RGB", (160, 160), (200 * i, 80, 30)).save(tmp_path / f"{i}.png")
    made.encode([str(tmp_path / "0.png")], None)
    made.save(tmp_path / "best")
    made.model.eval()
    picture = torch.rand(1, 3, 160, 160)
    back = backbones.load({"kind": "folder", "path": str(tmp_path / "best")}, ["a", "b"], 0)
    back.model.eval()
    with torch.no_grad():
        assert torch.allclose(back.model(picture), made.model(picture), atol=1e-5)
        wanted = made.model(picture)
        made.restore(tmp_path / "best")
        assert torch.allclose(made.model(picture), wanted, atol=1e-5)
    assert json.loads((tmp_path / "best" / "sft.json").read_text())["labels"] == ["a", "b"]


@pytest.mark.parametrize("base", ["lite0", "resnet18"])
def test_convolutional_bodies_are_refused_in_a_sentence(base: str) -> None:
    start = {"kind": "folder", "path": str(fetch("lite0"))} if base == "lite0" else {
        "kind": "name", "path": base, "weights": "none",
    }  # fmt: skip
    with pytest.raises(errors.ModelProblem, match="--method lora is for transformers") as refused:
        tasks.find("image-classification").load(start, ["a", "b"], {"method": "lora"})
    assert "--method head" in refused.value.next_step
