"""Of a folder the weights that transformers takes: one file, or the shards of an index; never those of a sub-folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from sft_magics.core import errors
from sft_magics.engine.models import layer_diff, pretrained, weight_loading
from sft_magics.engine.tasks import find
from sft_magics.registry import ArtifactStore
from tests.engine import tiny

IDS = torch.tensor([[7, 8, 9, 10, 11]])


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("gpt2"), tiny.language("gpt2"))


def logits(folder: Path) -> torch.Tensor:
    task = find("causal-lm").load({"kind": "folder", "path": str(folder)}, [], {"method": "full"})
    task.suit(bf16=False)
    task.probe()
    with torch.no_grad():
        found: torch.Tensor = task.model.eval()(input_ids=IDS).logits
    return found


def copied(base: Path, folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return folder, tensors


def test_weights_of_a_sub_folder_are_not_taken(gpt2: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(gpt2, both)
    tiny.language("gpt2", seed=1).save_pretrained(both / "z_old")
    assert torch.equal(logits(both), logits(gpt2))
    stored = ArtifactStore(tmp_path / "store")
    view = stored.checkout(stored.save(both).id)
    assert torch.equal(logits(view), logits(gpt2)), "nor once they lie in the store"
    assert layer_diff.largest_difference(view, gpt2) == (True, 0.0)
    text = tiny.save(tmp_path / "text", tiny.classifier("bert"))
    alone = pretrained.load({"kind": "folder", "path": str(text)}, ["a", "b"], 0).model
    tiny.classifier("bert", seed=1).save_pretrained(text / "z_old")
    beside = pretrained.load({"kind": "folder", "path": str(text)}, ["a", "b"], 0).model
    assert torch.equal(alone.bert.pooler.dense.weight, beside.bert.pooler.dense.weight)


def test_shards_are_those_of_the_index(gpt2: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(gpt2)
    tiny.save(tmp_path, model)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    save_file({"transformer.wte.weight": torch.ones(2, 2)}, tmp_path / "consolidated.safetensors")
    assert len(weight_loading.files(tmp_path)) > 2
    assert torch.equal(logits(tmp_path), logits(gpt2))
    gone = weight_loading.files(tmp_path)[1]
    (tmp_path / gone).unlink()
    with pytest.raises(errors.ModelProblem, match=f"its index names {gone}, which is not there"):
        logits(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    with pytest.raises(errors.ModelProblem, match="which is not a file of its folder"):
        logits(tmp_path)


def test_older_layouts_load_as_the_library_maps_them(gpt2: Path, tmp_path: Path) -> None:
    """GPT-2 as the hub has it: no prefix, no head of its own, masks among the tensors; and a pytorch_model.bin."""
    hub, tensors = copied(gpt2, tmp_path / "hub")
    bare = {n.removeprefix("transformer."): t for n, t in tensors.items() if n != "lm_head.weight"}
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64).tril() for i in range(2)}
    save_file({**bare, **masks}, hub / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits(hub), logits(gpt2))
    old, tensors = copied(gpt2, tmp_path / "bin")
    torch.save(tensors, old / "pytorch_model.bin")
    assert torch.equal(logits(old), logits(gpt2))
    assert find("text-classification").load({"kind": "folder", "path": str(hub)}, ["a", "b"], {}).fresh == (
        "score.weight",
    )
    neox = tiny.save(tmp_path / "neox", tiny.language("gpt_neox"))
    with torch.no_grad():
        own = AutoModelForCausalLM.from_pretrained(neox).eval()(input_ids=IDS).logits
    assert torch.equal(logits(neox), own)


def test_a_version_of_any_layout_loads_again(gpt2: Path, tmp_path: Path) -> None:
    for kind in ("gpt_neox", "falcon", "mixtral"):
        base = tiny.save(
            tmp_path / kind, tiny.language(kind, **({"num_local_experts": 2} if kind == "mixtral" else {}))
        )
        task = find("causal-lm").load({"kind": "folder", "path": str(base)}, [], {"method": "full"})
        task.save(tmp_path / f"{kind}-saved")
        assert torch.equal(logits(tmp_path / f"{kind}-saved"), logits(base)), kind
        assert torch.equal(
            AutoModelForCausalLM.from_pretrained(tmp_path / f"{kind}-saved").eval()(input_ids=IDS).logits, logits(base)
        )


def test_what_holds_no_weights_is_said_to(gpt2: Path, tmp_path: Path) -> None:
    other, tensors = copied(gpt2, tmp_path / "other")
    save_file(tensors, other / "weights.safetensors")
    with pytest.raises(errors.ModelProblem, match=r"has weights\.safetensors, but no model\.safetensors"):
        logits(other)
    (other / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(errors.ModelProblem, match="a pointer of Git LFS"):
        logits(other)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(errors.ModelProblem, match="a LoRA adapter alone"):
        logits(tmp_path / "adapter")
    config = json.loads((gpt2 / "config.json").read_text())
    shutil.copytree(gpt2, tmp_path / "small")
    (tmp_path / "small" / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq"}})
    )
    with pytest.raises(errors.ModelProblem, match=r"are quantized \(gptq\)"):
        logits(tmp_path / "small")
