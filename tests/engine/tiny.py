"""Tiny bases with drawn weights and a tokenizer of a hundred words, in the forms that people have."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

WORDS = [
    "the", "a", "small", "red", "blue", "train", "river", "cloud", "stone", "good", "bad", "film", "very", "not", "it",
    "is", "was", "say", "count", "one", "two", "three",
]  # fmt: skip
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 64,
}  # fmt: skip
_SPECIAL = ["<pad>", "<s>", "</s>", "[UNK]", "<u>", "</u>"]


def tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of words, with a token for padding, the beginning, the end and what is unknown."""
    known = {word: i for i, word in enumerate([*_SPECIAL, *WORDS, *map(str, range(40)), ":", ".", "?", "#", "###"])}
    inner = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    usual = {"unk_token": "[UNK]", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **{**usual, **options})


def language(kind: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """A causal language model of a `kind` of transformers', with 64 positions where it has such."""
    return _drawn(AutoModelForCausalLM, kind, seed, {"max_position_embeddings": 64, **options})


def classifier(kind: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """A text classifier of a `kind` of transformers', with 66 positions where it has such."""
    return _drawn(AutoModelForSequenceClassification, kind, seed, {"max_position_embeddings": 66, **options})


def masked(kind: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """A model of a `kind` of transformers' that guesses masked words, as most bases on the hub do."""
    return _drawn(AutoModelForMaskedLM, kind, seed, {"max_position_embeddings": 66, **options})


def save(folder: Path, model: PreTrainedModel, words: PreTrainedTokenizerFast | None = None) -> Path:
    """Write both into a folder as transformers does, and return it."""
    model.save_pretrained(folder)
    (words or tokenizer()).save_pretrained(folder)
    return folder


def _drawn(auto: Any, kind: str, seed: int, options: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(seed)
    options = {name: value for name, value in options.items() if value is not None}
    ids = {"vocab_size": len(tokenizer()), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    found: PreTrainedModel = auto.from_config(AutoConfig.for_model(kind, **{**ids, **SIZES, **options}))
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.15)
    return found
