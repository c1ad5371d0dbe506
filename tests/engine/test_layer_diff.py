"""How far weights moved, against norms computed by hand; equal folders are equal to the bit."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sft_magics.engine.models import layer_diff
from sft_magics.registry import ArtifactStore


def folder(path: Path, **tensors: torch.Tensor) -> Path:
    path.mkdir()
    save_file({name.replace("__", "."): t for name, t in tensors.items()}, path / "model.safetensors")
    return path


def test_the_norm_of_the_change_of_each_block(tmp_path: Path) -> None:
    one = {
        "bert__layer__0__a__weight": torch.ones(3, 4),
        "bert__layer__0__b__bias": torch.zeros(4),
        "bert__layer__1__a__weight": torch.full((2, 2), 2.0),
        "head__weight": torch.ones(5),
        "counts__steps": torch.tensor([1]),
        "gone": torch.ones(2),
    }
    two = {**one, "bert__layer__0__b__bias": torch.full((4,), 3.0), "head__weight": torch.full((5,), 1.5)}
    del two["gone"]
    found = layer_diff.changes(folder(tmp_path / "a", **one), folder(tmp_path / "b", **two))
    assert [f["block"] for f in found] == ["bert.layer.0", "bert.layer.1", "head"]
    first, second, head = found
    assert first == {
        "block": "bert.layer.0",
        "parameters": 16,
        "norm": 6.0,
        "relative": pytest.approx(6 / math.sqrt(12)),
    }
    assert (second["norm"], second["relative"]) == (0.0, 0.0)
    assert head["relative"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("bert.encoder.layer.3.attention.self.query.weight", "bert.encoder.layer.3"),
        ("layer1.0.conv1.weight", "layer1.0"),
        ("classifier.weight", "classifier"),
        ("weight", "weight"),
        ("bert.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings"),
    ],
)
def test_blocks_are_what_a_person_would_call_a_layer(name: str, block: str) -> None:
    assert layer_diff.block(name) == block


def test_the_largest_difference(tmp_path: Path) -> None:
    one = folder(tmp_path / "a", w=torch.tensor([1.0, 2.0]), e=torch.empty(0))
    same = folder(tmp_path / "b", w=torch.tensor([1.0, 2.0]), e=torch.empty(0))
    near = folder(tmp_path / "c", w=torch.tensor([1.0, 2.5]), e=torch.empty(0))
    other = folder(tmp_path / "d", v=torch.tensor([1.0, 2.0]))
    store = ArtifactStore(tmp_path / "store")
    view = store.checkout(store.save(one).id)
    assert layer_diff.largest_difference(view, same) == (True, 0.0)
    assert layer_diff.largest_difference(view, near) == (False, 0.5)
    assert layer_diff.largest_difference(one, other) == (False, math.inf)
