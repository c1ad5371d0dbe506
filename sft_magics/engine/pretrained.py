"""Pretrained weights, loaded with nothing left to chance.

Only the head may start fresh, and its tensors are named. A tensor of the body that is missing, left over or of another
shape means that the file belongs to another model: refused by name, never loaded in part.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sft_magics.core import errors

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# Names that heads go by, ours and those of the tasks a base was pretrained for.
_HEADS = ("classifier", "score", "pre_classifier", "pooler", "cls.", "lm_head", "qa_outputs", "vocab_", "discriminator")
_HARMLESS = ("position_ids", "num_batches_tracked")
_OTHER_BASE = "write --base minilm, or name a folder or hub id that holds a whole text model."
_OFFLINE = ("connect", "offline", "resolve", "network", "internet", "timed out", "cached snapshot", "local_files_only")


@dataclass(frozen=True)
class Pretrained:
    """A model with its head, its tokenizer, and what was not in the file."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]


def load(start: dict[str, Any], labels: list[str], seed: int) -> Pretrained:
    """Load the weights of `start` with a head for `labels`; the head's fresh tensors follow from `seed`.

    `start` is {"kind": "folder"|"hub", "path": ...}. Raises ModelProblem when there is no network for a hub id, when the
    folder holds no model, when a file is damaged, or when the weights fit only in part.
    """
    path = str(start["path"])
    if start["kind"] == "folder":
        _check_folder(Path(path))
    torch.manual_seed(seed)
    settings = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "dtype": torch.float32,
        "trust_remote_code": False,
        "local_files_only": start["kind"] == "folder",
    }
    with _said_plainly(path):
        tokenizer = AutoTokenizer.from_pretrained(
            path, local_files_only=start["kind"] == "folder", trust_remote_code=False
        )
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path, output_loading_info=True, ignore_mismatched_sizes=True, **settings
        )
    fresh, left_out = _check_fit(path, info)
    return Pretrained(model, tokenizer, fresh, left_out)


def max_length(loaded: Pretrained) -> int:
    """Return how many tokens the body can read."""
    positions = int(getattr(loaded.model.config, "max_position_embeddings", 512) or 512)
    return min(positions, int(min(loaded.tokenizer.model_max_length, 1_000_000)))


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise errors.ModelProblem(f"The folder {folder} holds no model: there is no config.json in it.", _OTHER_BASE)
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise errors.ModelProblem(f"The folder {folder} holds no weights (model.safetensors).", _OTHER_BASE)


@contextlib.contextmanager
def _said_plainly(path: str) -> Any:
    try:
        yield
    except SafetensorError as error:
        raise errors.ModelProblem(
            f"The weights file of {path} is damaged ({error}).", "download or copy it again, then type the same line."
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        text = f"{error} {error.__cause__ or ''}".lower()
        if any(word in text for word in _OFFLINE):
            raise errors.ModelProblem(
                f"'{path}' is not on this machine, and the hub cannot be reached from here.",
                "connect to the internet, or write --base minilm, or --base ./folder with its files.",
            ) from error
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise errors.ModelProblem(f"'{path}' cannot be loaded as a text classifier: {first}.", _OTHER_BASE) from error


def _check_fit(path: str, info: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    missing = sorted(map(str, info["missing_keys"]))
    mismatched = sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in info["mismatched_keys"])
    unexpected = sorted(k for k in map(str, info["unexpected_keys"]) if not any(h in k for h in _HARMLESS))
    for kind, names in (("are missing", missing), ("have another shape", mismatched), ("belong to no layer", unexpected)):
        body = [n for n in names if not _of_a_head(n)]
        if body:
            shown = ", ".join(body[:4]) + (f" and {len(body) - 4} more" if len(body) > 4 else "")
            raise errors.ModelProblem(f"The weights of {path} fit only in part: {kind}: {shown}.", _OTHER_BASE)
    return tuple(sorted({*missing, *mismatched})), tuple(unexpected)


def _of_a_head(name: str) -> bool:
    return any(f".{name}".startswith(f".{head}") or f".{head}" in name for head in _HEADS)
