"""Pretrained weights, loaded with nothing left to chance.

Only the head may start fresh, and its tensors are named. A tensor of the body that is missing, left over or of another
shape means that the file belongs to another model: refused by name, never loaded in part. A head that was trained for
other labels starts fresh; one that was trained for these in another order has its rows put in ours.
"""

import contextlib
import hashlib
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sft_magics.core import errors
from sft_magics.core.runtime import weights as core_weights
from sft_magics.engine.inputs import tokenization
from sft_magics.engine.models import weight_loading
from sft_magics.engine.runtime import memory

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# Names that heads go by, ours and those of the tasks a base was pretrained for.
_HEADS = (
    "classifier", "score", "pre_classifier", "pooler", "cls.", "lm_head", "qa_outputs", "vocab_", "discriminator",
    "generator_", "predictions.", "lm_predictions", "mask_predictions", "sequence_summary", "logits_proj", "lm_loss",
    "embed_out",
)  # fmt: skip
_HARMLESS = ("position_ids", "num_batches_tracked")
_LIMIT = 512  # tokens, where a model names none
_OTHER_BASE = "write --base minilm, or name a folder or hub id that holds a whole text model."
_OFFLINE = ("connect", "offline", "resolve", "network", "internet", "timed out", "cached snapshot", "local_files_only")


@dataclass(frozen=True)
class Pretrained:
    """A model with its head, its tokenizer, and what was not in the file."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    source: str = ""


def load(start: dict[str, Any], labels: list[str], seed: int) -> Pretrained:
    """Load the weights of `start` with a head for `labels`; the head's fresh tensors follow from `seed`.

    `start` is {"kind": "folder"|"hub", "path": ...}. Raises ModelProblem when there is no network for a hub id, the
    folder holds no model, a file is damaged, or the weights fit only in part.
    """
    path = str(start["path"])
    folder = Path(path) if start["kind"] == "folder" else None
    if folder is not None:
        check_folder(folder)
    local = folder is not None or not hub_answers()
    torch.manual_seed(seed)
    settings = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    with said_plainly(path):
        stored = AutoConfig.from_pretrained(path, local_files_only=local, trust_remote_code=False)
        check_dense(path, stored)
        tokenizer = tokenization.load(path, local=local)
        model, info = _built(path, None if folder is None else weight_loading.load(folder), local, settings)
    fresh, left_out = _check_fit(path, info)
    check_finite(path, model.state_dict())
    tokenization.check_embeddings(path, tokenizer, model)
    fresh += _fit_head(model, stored.id2label, labels, fresh)
    return Pretrained(model, tokenizer, fresh, left_out, path)


def _built(
    path: str, tensors: dict[str, torch.Tensor] | None, local: bool, settings: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Let transformers build the model, of a hub id from its files or of a folder from the tensors that were loaded."""
    how = {"output_loading_info": True, "ignore_mismatched_sizes": True, "dtype": torch.float32}
    if tensors is None:
        built: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForSequenceClassification.from_pretrained(
            path, local_files_only=local, trust_remote_code=False, **how, **settings
        )
        return built
    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False, **settings)
    with torch.device("meta"):  # only to learn the class: the auto classes take no tensors
        kind = type(AutoModelForSequenceClassification.from_config(config, trust_remote_code=False))
    model, info = kind.from_pretrained(None, config=config, state_dict=tensors, **how)
    return model, info


def check_dense(path: str, config: Any) -> None:
    """Refuse weights that are quantized already: training and measuring here need them whole; raises ModelProblem."""
    quantized = getattr(config, "quantization_config", None)
    if quantized:
        known = quantized if isinstance(quantized, dict) else vars(quantized)
        raise errors.ModelProblem(
            f"The weights of {path} are quantized ({known.get('quant_method', 'in some way')}).",
            "name the base they were made from, in 16 or 32 bits; --method qlora quantizes it as it trains.",
        )


def max_length(loaded: Pretrained) -> int:
    """Return how many tokens the body can read."""
    config = loaded.model.config
    positions = int(getattr(config, "max_position_embeddings", None) or 0)
    if positions <= 0:  # XLNet says -1: it has no limit of its own
        positions = _LIMIT
    if any(getattr(m, "padding_idx", None) is not None for n, m in loaded.model.named_modules() if "position_emb" in n):
        positions -= int(config.pad_token_id or 0) + 1  # the RoBERTa family counts positions from behind the padding's
    return min(positions, int(min(loaded.tokenizer.model_max_length, 1_000_000)))


def card(start: dict[str, Any]) -> dict[str, str]:
    """Return what is known of a folder's weights: sha256 of the file and license, where it says so."""
    folder, found = Path(str(start["path"])), {}
    weights = folder / "model.safetensors"
    if weights.is_file():
        with weights.open("rb") as file:
            found["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if (folder / "README.md").is_file():
        head = (folder / "README.md").read_text(errors="replace")[:4000]
        if said := re.search(r"^license:\s*['\"]?([\w.+-]+)", head, re.MULTILINE):
            found["license"] = said[1]
    return found


def hub_answers() -> bool:
    """Say whether the hub can be reached; the library's own five retries take most of a minute to find that out."""
    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no configuration or no weights."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise errors.ModelProblem(
                f"The folder {folder} holds a LoRA adapter alone, not the base it belongs to.",
                "merge the two (peft: model.merge_and_unload().save_pretrained(FOLDER)) and write --base ./FOLDER.",
            )
        raise errors.ModelProblem(f"The folder {folder} holds no model: there is no config.json in it.", _OTHER_BASE)
    stored = core_weights.read(folder)
    weight_loading.files(folder, () if stored is None else stored.files)


@contextlib.contextmanager
def said_plainly(path: str, what: str = "a text classifier", other: str = _OTHER_BASE) -> Iterator[None]:
    """Say in one sentence why a stranger's files cannot be loaded as `what`; `other` is what to do then."""
    try:
        yield
    except SafetensorError as error:
        raise errors.ModelProblem(
            f"The weights file of {path} is damaged ({error}).", "download or copy it again, then type the same line."
        ) from error
    except (MemoryError, errors.SftError):
        raise
    except Exception as error:  # a stranger's files can fail in any way the libraries have
        if memory.ran_out(error):
            raise
        if type(error).__name__ == "UnpicklingError":
            raise errors.ModelProblem(
                f"The weights file of {path} holds more than tensors and could run a program, so it was not read.",
                "name a base whose weights are a .safetensors file.",
            ) from error
        text = f"{error} {error.__cause__ or ''}".lower()
        if any(word in text for word in _OFFLINE):
            raise errors.ModelProblem(
                f"'{path}' is not on this machine, and the hub cannot be reached from here.",
                "connect to the internet, or write --base minilm, or --base ./folder with its files.",
            ) from error
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise errors.ModelProblem(f"'{path}' cannot be loaded as {what}: {first}.", other) from error


def _check_fit(path: str, info: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    missing = sorted(map(str, info["missing_keys"]))
    mismatched = sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in info["mismatched_keys"])
    unexpected = sorted(k for k in map(str, info["unexpected_keys"]) if not any(h in k for h in _HARMLESS))
    for kind, names in (
        ("are missing", missing),
        ("have another shape", mismatched),
        ("belong to no layer", unexpected),
    ):
        body = [n for n in names if not _of_a_head(n)]
        if body:
            shown = ", ".join(body[:4]) + (f" and {len(body) - 4} more" if len(body) > 4 else "")
            raise errors.ModelProblem(f"The weights of {path} fit only in part; {kind}: {shown}.", _OTHER_BASE)
    return tuple(sorted({*missing, *mismatched})), tuple(unexpected)


def _of_a_head(name: str) -> bool:
    return any(f".{name}".startswith(f".{head}") or f".{head}" in name for head in _HEADS)


def check_finite(path: str, tensors: dict[str, torch.Tensor]) -> None:
    """Refuse weights that hold values which are not numbers."""
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise errors.ModelProblem(
            f"The weights of {path} are damaged: {', '.join(bad[:4])} hold values that are not numbers.",
            "download or copy them again, or name another base.",
        )


def check_answer(path: str, answer: torch.Tensor) -> None:
    """Refuse a base whose answer to an invented row is not a number."""
    if not bool(torch.isfinite(answer).all()):
        raise errors.ModelProblem(
            f"{path} answers an invented text with values that are not numbers.", "name another base."
        )


def _fit_head(
    model: PreTrainedModel, stored: dict[int, str] | None, labels: list[str], fresh: tuple[str, ...]
) -> tuple[str, ...]:
    """Put the rows of a loaded head in the order of `labels`; return its tensors where it had to start over."""
    before = [(stored or {}).get(i, "") for i in range(len(labels))]
    found = _output_layer(model, len(labels))
    if before == labels or found is None:
        return ()
    name, layer = found
    tensors = {f"{name}.{key}": tensor for key, tensor in layer.named_parameters()}
    if set(tensors) & set(fresh):
        return ()
    with torch.no_grad():
        if sorted(before) == sorted(labels):
            order = torch.tensor([before.index(label) for label in labels])
            for tensor in tensors.values():
                tensor.copy_(tensor[order])
            return ()
        layer.weight.normal_(0.0, float(getattr(model.config, "initializer_range", 0.02)))
        if layer.bias is not None:
            layer.bias.zero_()
    return tuple(sorted(tensors))


def _output_layer(model: nn.Module, width: int) -> tuple[str, nn.Linear] | None:
    """Return the last linear layer of the head with `width` outputs, and its name."""
    body = f"{getattr(model, 'base_model_prefix', '')}."
    layers = [
        (n, m)
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear) and (_of_a_head(n) or not n.startswith(body))
    ]
    return next(((n, m) for n, m in reversed(layers) if m.out_features == width), None)
