"""Causal language models: from a folder, the hub, or the packaged GGUF file; whole or refused by name; with LoRA.

A base whose weights stay as they are is kept in bfloat16. LoRA's own tensors (Hu et al. 2022) are float32, and lie in a
folder `adapter` beside the base's, as peft writes them.
"""

import json
import tempfile
from collections import Counter
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
from sft_magics.engine.inputs import tokenization
from sft_magics.engine.models import pretrained, tensor_files, weight_loading
from sft_magics.engine.models.weight_loading import ADAPTER

_GGUF = "smollm2.gguf"
_WRAPPED, _LAYER = "base_model.model.", ".base_layer"
OTHER = "write --base smollm2, or name a folder or hub id that holds a causal language model."


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
    with pretrained.said_plainly(name, "a causal language model", OTHER):
        pretrained.check_dense(name, AutoConfig.from_pretrained(name, local_files_only=local, trust_remote_code=False))
        tokenizer = tokenization.load(name, local=local)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, local_files_only=local, trust_remote_code=False, dtype=torch.bfloat16, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
        model, info = loaded
    _check_fit(name, info)
    tokenization.check_embeddings(name, tokenizer, model)
    return Language(model, tokenizer, f"hub {name}")


def _folder(path: Path, source: str) -> Language:
    with pretrained.said_plainly(str(path), "a causal language model", OTHER):
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        pretrained.check_dense(str(path), config)
        tokenizer = tokenization.load(path, local=True)
        tensors = weight_loading.load(path)
        base = {name: t for name, t in tensors.items() if "lora_" not in name}
        with torch.device("meta"):  # only to find the class: the auto classes take no tensors
            kind = type(AutoModelForCausalLM.from_config(config, trust_remote_code=False))
        # By the class itself, so that names of older releases and of other layouts find their places.
        model, info = kind.from_pretrained(
            None, config=config, state_dict=dict(base), dtype=_stored_dtype(base), output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    pretrained.check_finite(str(path), base)
    _check_fit(str(path), info)
    tokenization.check_embeddings(path, tokenizer, model)
    file = path / ADAPTER / "adapter_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else None
    return Language(model, tokenizer, source, settings, weight_loading.load_adapter(path))


def _stored_dtype(tensors: dict[str, torch.Tensor]) -> torch.dtype:
    """Return the number format that most of the weights are stored in."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        if tensor.is_floating_point():
            sizes[tensor.dtype] += tensor.numel()
    return sizes.most_common(1)[0][0] if sizes else torch.float32


def _check_fit(path: str, info: dict[str, Any]) -> None:
    missing, extra = (sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys"))
    other = sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in info["mismatched_keys"])
    for kind, names in (("have another shape", other), ("are missing", missing), ("belong to no layer", extra)):
        if names:
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            raise errors.ModelProblem(f"The weights of {path} fit only in part; {kind}: {shown}.", OTHER)


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
        tensor_files.save_tensors(tensor_files.weights_of(model), folder / "model.safetensors")
        return
    base = dense or {
        name.removeprefix(_WRAPPED).replace(_LAYER, ""): tensor
        for name, tensor in tensor_files.weights_of(model).items()
        if "lora_" not in name
    }
    tensor_files.save_tensors(base, folder / "model.safetensors")
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
    tensor_files.save_tensors(tensors, place / "adapter_model.safetensors")


def restore(model: nn.Module, folder: Path) -> None:
    """Put back what `save` wrote of the weights that are learned."""
    if isinstance(model, PeftModel):
        peft.set_peft_model_state_dict(model, load_file(folder / ADAPTER / "adapter_model.safetensors"))
        return
    tensor_files.load_weights(model, folder)
