"""Levels of a model, rates by them, and gradual unfreezing: who learns when, exactly resumed, and what it saves."""

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sft_magics.core import errors
from sft_magics.core.events import CheckpointSaved, Remark, StepDone
from sft_magics.core.runtime.fetching import fetch
from sft_magics.engine import tasks
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import layer_groups
from sft_magics.engine.training import gradual_unfreezing, optimizers
from sft_magics.engine.training.checkpoints import TrainState, restore, save
from tests.engine.house import Ear, films, order, small_base


def of_task(task: str, base: str) -> nn.Module:
    start = {"kind": "folder", "path": str(fetch(base))}
    return tasks.find(task).load(start, ["a", "b"], {}).model


def named(name: str) -> nn.Module:
    start = {"kind": "name", "path": name, "weights": "none"}
    return tasks.find("image-classification").load(start, ["a", "b"], {}).model


def test_embeddings_are_one_level_below_the_blocks_and_the_pooler_is_of_the_head() -> None:
    found = layer_groups.of(of_task("text-classification", "minilm"))
    assert [len(level) for level in found] == [5, *[16] * 6, 4]
    assert all(name.startswith("bert.embeddings.") for name in found[0])
    assert [name.split(".")[0:2] for name in found[-1]] == [["bert", "pooler"]] * 2 + [
        ["classifier", "weight"], ["classifier", "bias"],
    ]  # fmt: skip
    assert layer_groups.called(found[3]) == "bert.encoder.layer.2"


@pytest.mark.parametrize(
    ("make", "bottom", "blocks", "head"),
    [
        (lambda: of_task("image-classification", "lite0"), "conv_stem.weight", 7, "conv_head.weight"),
        (lambda: of_task("semantic-segmentation", "lite0"), "pyramid.body.conv_stem.weight", 7,
         "pyramid.pyramid.inner_blocks.0.0.weight"),
        (lambda: of_task("object-detection", "lite0"), "backbone.body.conv_stem.weight", 7,
         "backbone.pyramid.inner_blocks.0.0.weight"),
        (lambda: named("test_vit"), "cls_token", 6, "norm.weight"),
        (lambda: named("vit_b_16"), "class_token", 12, "encoder.ln.weight"),
        (lambda: named("resnet18"), "conv1.weight", 8, "fc.weight"),
        (lambda: named("resnet26d"), "conv1.0.weight", 8, "fc.weight"),
        (lambda: named("mobilenet_v3_small"), None, 13, "classifier.0.weight"),
    ],
)  # fmt: skip
def test_every_family_has_its_levels(make: Any, bottom: str | None, blocks: int, head: str) -> None:
    model = make()
    found = layer_groups.of(model)
    assert sorted(name for level in found for name in level) == sorted(dict(model.named_parameters()))
    assert len(found) == blocks + (2 if bottom else 1)
    assert bottom is None or found[0][0] == bottom
    assert found[-1][0] == head


def test_rates_fall_from_the_head_to_the_embeddings() -> None:
    model = of_task("text-classification", "minilm")
    optimizer = optimizers.build(model, {"lr": 1.0, "weight_decay": 0.0, "layer_decay": 0.5})
    optimizers.set_rate(optimizer, 1.0)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    seen = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert seen["classifier.weight"] == seen["bert.pooler.dense.bias"] == 1.0
    assert seen["bert.encoder.layer.5.output.dense.weight"] == 0.5
    assert {rate for name, rate in seen.items() if "embeddings" in name} == {0.5**7}


def test_one_level_more_every_so_many_steps() -> None:
    model = of_task("text-classification", "minilm")
    thaw = gradual_unfreezing.GradualUnfreezing(model, 3)
    assert [thaw.count(step) for step in range(8)] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert "head learns first" in thaw.at(0)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == set(layer_groups.of(model)[-1])
    assert thaw.at(2) == ""
    assert thaw.at(3) == "From step 4 on bert.encoder.layer.5 learns too."
    assert thaw.at(1000) == "", "it was so long before"
    assert all(p.requires_grad for p in model.parameters())


def test_normalization_that_is_frozen_keeps_its_counts() -> None:
    model = of_task("image-classification", "lite0")
    thaw = gradual_unfreezing.GradualUnfreezing(model, 10)
    thaw.at(0)
    before = {n: b.clone() for n, b in model.named_buffers()}
    model(torch.rand(2, 3, 64, 64))
    moved = {n.rpartition(".")[0] for n, b in model.named_buffers() if not torch.equal(b, before[n])}
    assert moved == {"bn2"}, "that is the head's"


def orders(folder: Path, **options: Any) -> dict[str, Any]:
    usual = {"epochs": 3.0, "batch": 8, "lr": 1e-3, "unfreeze": 1.0}
    return order(films(folder, 48, 16), start=small_base(folder / "base"), **{**usual, **options})


def test_what_is_frozen_stays_to_the_bit_and_the_rest_learns(tmp_path: Path) -> None:
    ear = Ear()
    found = worker.train(orders(tmp_path, epochs=2.0, layer_decay=0.9), ear, tmp_path / "run")
    before, after = load_file(tmp_path / "base" / "model.safetensors"), load_file(found.folder / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[f"bert.{name}"])}
    assert {name.split(".")[0] for name in moved} == {"encoder", "pooler"}
    assert not any("layer.0." in name for name in moved)
    said = [e.text for e in ear.all(Remark)]
    assert "From step 7 on bert.encoder.layer.1 learns too." in said


def digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("stop", [3, 6, 8])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path, stop: int) -> None:
    spec = orders(tmp_path, ema=0.9, layer_decay=0.8)
    worker.train(spec, Ear(), tmp_path / "whole")
    cut = {**spec, "options": {**spec["options"], "checkpoint_seconds": 0.0}}
    ended = worker.train(cut, Ear(lambda e: isinstance(e, CheckpointSaved) and e.step >= stop), tmp_path / "run")
    assert ended.stopped
    worker.train(spec, Ear(), tmp_path / "run")
    assert digest(tmp_path / "whole") == digest(tmp_path / "run")


def test_going_back_to_before_a_level_learned_puts_it_back_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = optimizers.build(model, {"lr": 0.1, "weight_decay": 0.0})
    thaw = gradual_unfreezing.GradualUnfreezing(model, 1)
    thaw.at(0)
    path = save(tmp_path, model, optimizer, TrainState())
    first = {n: t.clone() for n, t in model.state_dict().items()}
    thaw.at(1)
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(model[1].weight, first["1.weight"])
    restore(path, model, optimizer, torch.device("cpu"))
    assert all(torch.equal(t, first[n]) for n, t in model.state_dict().items())
    assert not optimizer.state[model[1].weight]


def test_frozen_levels_take_no_part_in_the_backward_pass(tmp_path: Path) -> None:
    """Nodes of the graph, not seconds: those of a machine that others use as well say little."""
    task = tasks.find("text-classification").load(
        {"kind": "folder", "path": str(fetch("minilm"))}, ["negative", "positive"], {}
    )
    rows = task.encode(["a fine film"] * 8, ["positive"] * 8)
    thaw = gradual_unfreezing.GradualUnfreezing(task.model, 1)
    sizes = []
    for step in (0, 3, 7):
        thaw.at(step)
        sizes.append(nodes(task.loss(task.collate(rows, range(8), 0))))
    assert sizes[0] < 20
    assert sizes[0] * 5 < sizes[1] < sizes[2] * 0.7


def nodes(loss: torch.Tensor) -> int:
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
    return len(seen)


def test_where_it_cannot_be_is_said(tmp_path: Path) -> None:
    spec = orders(tmp_path)
    with pytest.raises(errors.ModelProblem, match="--unfreeze is not there for --method head"):
        worker.train({**spec, "options": {**spec["options"], "method": "head"}}, Ear(), tmp_path / "run")
    with pytest.raises(errors.ModelProblem, match="--unfreeze is not there for causal-lm"):
        worker.train({**spec, "task": "causal-lm"}, Ear(), tmp_path / "run")
    ear = Ear(lambda e: isinstance(e, StepDone))
    began = time.monotonic()
    worker.train(orders(tmp_path / "tiny", unfreeze=0.001), ear, tmp_path / "tiny-run")
    assert time.monotonic() - began < 60
    assert any("every step" in e.text for e in ear.all(Remark))
