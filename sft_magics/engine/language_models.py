"""Causal language models: from a folder, the hub, or the packaged GGUF file; whole or refused by name; with LoRA.

A base whose weights stay as they are is kept in bfloat16. LoRA's own tensors (Hu et al. 2022) are float32, and lie in a
folder `adapter` beside the base's, as peft writes them.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sft_magics.core import errors, workspace
from sft_magics.engine import checkpoints, pretrained, weights

_GGUF = "smollm2.gguf"
ADAPTER = "adapter"
_WRAPPED, _LAYER = "base_model.model.", ".base_layer"
_OTHER = "write --base smollm2, or name a folder or hub id that holds a causal language model."


@dataclass(frozen=True)
class Language:
    """A language model, its tokenizer, where it is from, and LoRA's settings if its weights lie beside it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    adapter: dict[str, Any] | None = None
    adapter_tensors: dict[str, torch.Tensor] | None = None


def load(start: dict[str, Any]) -> Language:
    """Load the model of `start` (see `pretrained.load`) in bfloat16; raises ModelProblem when it fits only in part."""
    path = Path(str(start["path"]))
    if start["kind"] == "folder" and (path / _GGUF).is_file():
        path = _converted(path)
    if start["kind"] == "folder":
        pretrained.check_folder(path)
        return _folder(path, str(start.get("source", path)))
    name = str(start["path"])
    local = not pretrained.hub_answers()
    with pretrained.said_plainly(name, "a causal language model", _OTHER):
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, local_files_only=local, trust_remote_code=False, dtype=torch.bfloat16, output_loading_info=True
        )
        model, info = loaded
    _check_fit(name, sorted(info["missing_keys"]), sorted(info["unexpected_keys"]))
    return Language(model, tokenizer, f"hub {name}")


def _folder(path: Path, source: str) -> Language:
    with pretrained.said_plainly(str(path), "a causal language model", _OTHER):
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tensors = weights.load(path) or _tensors(path)
        added = {name: t for name, t in tensors.items() if "lora_" in name}
        base = {name: t for name, t in tensors.items() if name not in added}
        stored = next(iter(base.values())).dtype
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=stored)
        info = model.load_state_dict(base, strict=False)
        model.tie_weights()
    pretrained.check_finite(str(path), base)
    own = model.state_dict()
    alike = {n for n in info.missing_keys if any(own[n].data_ptr() == own[m].data_ptr() for m in base if m in own)}
    _check_fit(str(path), sorted(set(info.missing_keys) - alike), sorted(info.unexpected_keys))
    file = path / ADAPTER / "adapter_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else None
    return Language(model, tokenizer, source, settings, added)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in sorted(path.rglob("*.safetensors")) for name, t in load_file(file).items()}


def _check_fit(path: str, missing: list[str], unexpected: list[str]) -> None:
    for kind, names in (("are missing", missing), ("belong to no layer", unexpected)):
        if names:
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            raise errors.ModelProblem(f"The weights of {path} fit only in part; {kind}: {shown}.", _OTHER)


def _converted(folder: Path) -> Path:
    """Return the folder with the packaged model as transformers writes it; it is unpacked once, in half a minute."""
    final = workspace.cache() / "models" / folder.name
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{folder.name}-") as staging:
        made = Path(staging) / "model"
        how = {"gguf_file": _GGUF, "local_files_only": True}
        AutoTokenizer.from_pretrained(folder, **how).save_pretrained(made)
        AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **how
        ).save_pretrained(made)
        if not final.is_dir():
            made.rename(final)
    return final


# LoRA


def adapted(found: Language, rank: int, seed: int) -> PeftModel:
    """Return the model with LoRA on all its linear layers: what was learned before, else fresh ones that do nothing."""
    torch.manual_seed(seed)
    if found.adapter is not None:
        config = LoraConfig(r=found.adapter["r"], lora_alpha=found.adapter["lora_alpha"],
                            target_modules=found.adapter["target_modules"], task_type="CAUSAL_LM")  # fmt: skip
    else:
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(found.model, config)
    if found.adapter_tensors:
        peft.set_peft_model_state_dict(model, found.adapter_tensors)
    assert isinstance(model, PeftModel)
    return model


def save(model: nn.Module, folder: Path, dense: dict[str, torch.Tensor] | None = None) -> None:
    """Write the base's weights, and LoRA's beside them if there are any; `dense` are those of a quantized base."""
    if not isinstance(model, PeftModel):
        checkpoints.save_tensors(checkpoints.weights_of(model), folder / "model.safetensors")
        return
    base = dense or {
        name.removeprefix(_WRAPPED).replace(_LAYER, ""): tensor
        for name, tensor in checkpoints.weights_of(model).items()
        if "lora_" not in name
    }
    checkpoints.save_tensors(base, folder / "model.safetensors")
    place = folder / ADAPTER
    place.mkdir(exist_ok=True)
    settings: Any = model.peft_config["default"]
    shown = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": settings.r, "lora_alpha": settings.lora_alpha,
        "target_modules": sorted(settings.target_modules or []), "bias": "none", "inference_mode": True,
    }  # fmt: skip
    (place / "adapter_config.json").write_text(json.dumps(shown, indent=1))
    # Embeddings are never changed; where peft may ask whether they are, it looks for the base on the hub.
    learned = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {n: t.detach().cpu().contiguous() for n, t in learned.items()}
    checkpoints.save_tensors(tensors, place / "adapter_model.safetensors")


def restore(model: nn.Module, folder: Path) -> None:
    """Put back what `save` wrote of the weights that are learned."""
    if isinstance(model, PeftModel):
        peft.set_peft_model_state_dict(model, load_file(folder / ADAPTER / "adapter_model.safetensors"))
        return
    checkpoints.load_weights(model, folder)
