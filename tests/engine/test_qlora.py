"""QLoRA: refused in a sentence where it cannot run; its versions are those of LoRA; its path, where bitsandbytes is.

bitsandbytes computes 4 bits on CPUs as well, slowly, so the path is run there; no GPU has run it.
"""

import functools
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.events import CheckpointSaved, EpochDone
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import language_models, qlora, tensor_files
from tests.engine.house import Ear
from tests.engine.test_causal_lm import data, order  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama whose layers are as wide as a block of bitsandbytes'."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = AutoTokenizer.from_pretrained(language_models._converted(fetch("smollm2")))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_it_is_refused_in_a_sentence_that_says_what_is_missing(
    data: Path,  # noqa: F811
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(errors.ModelProblem, match="needs a CUDA device, and --device cpu was given") as refused:
        worker.train(order(data, base, method="qlora"), Ear(), tmp_path)
    assert "--method lora" in refused.value.next_step
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(errors.ModelProblem, match="needs a CUDA device, and torch finds none here"):
        qlora.check({"device": "auto"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(qlora, "find_spec", lambda name: None)
    with pytest.raises(errors.ModelProblem, match="needs bitsandbytes, which is not installed here") as refused:
        qlora.check({"device": "auto"})
    assert "pip install bitsandbytes" in refused.value.next_step


def test_other_tasks_have_it_not(trained: Workspace) -> None:
    with pytest.raises(errors.ModelProblem, match="--method qlora is not there for text-classification"):
        sft.finetune("films", method="qlora", workspace=trained.root)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_what_is_learned_beside_four_bits_is_stored_beside_the_base_as_it_was(
    data: Path,  # noqa: F811
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(qlora, "check", lambda options: None)
    monkeypatch.setattr(qlora, "quantized", functools.partial(qlora.quantized, device="cpu"))
    spec = order(data, base, method="qlora", epochs=3.0)
    loop, _ = worker.prepare(spec, Ear(), tmp_path / "looked")
    linear = loop.task.model.base_model.model.model.layers[0].self_attn.q_proj.base_layer
    assert type(linear).__name__ == "Linear4bit"
    ear = Ear()
    found = worker.train(spec, ear, tmp_path / "run")
    losses = [e.train_loss for e in ear.all(EpochDone)]
    assert losses[-1] < losses[0]
    before, after = load_file(base / "model.safetensors"), load_file(found.folder / "model.safetensors")
    assert all(torch.equal(after[name], tensor.to(after[name].dtype)) for name, tensor in before.items())
    assert not any("quant" in name or "absmax" in name for name in after)
    assert "quantization_config" not in json.loads((found.folder / "config.json").read_text())
    plain = worker.train({**spec, "options": {**spec["options"], "method": "lora"}}, Ear(), tmp_path / "lora")
    assert set(load_file(plain.folder / "model.safetensors")) == set(after)
    answers = Predictor(found.folder, threads=1, precision="fp32").scores(["Say one and two."])
    assert answers[0]["text"]
    cut = Ear(lambda e: isinstance(e, CheckpointSaved))
    assert worker.train(spec, cut, tmp_path / "cut").stopped
    newest = max((tmp_path / "cut" / "checkpoints").glob("step-*"))
    assert all("lora_" in name for name in tensor_files.part(newest))
    assert not worker.train(spec, Ear(), tmp_path / "cut").stopped
