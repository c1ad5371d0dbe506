"""Text classifiers whose head reads the first token: their last block answers for that one, and not for all.

Keys and values are still those of every token, so the answer is the same; of a model of six blocks a seventh of the
work is saved, in learning as in reading.
"""

from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from sft_magics.engine.kernels import attention

# By the model's kind: where its blocks are. The heads of all of these read the first token.
_BERTS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
_BLOCKS = dict.fromkeys(_BERTS, "encoder.layer") | {"distilbert": "transformer.layer"}
_NAMES = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))
_MARK = "asks_first"


def quicken(model: nn.Module) -> None:
    """Let the last block of a classifier of transformers' answer for the first token alone, also one within peft's."""
    classifier = found(model)
    if classifier is None:
        return
    block = blocks(classifier)[-1]
    if classifier.config.model_type == "distilbert":
        _patch(block.attention, _asking)
        _patch(block.sa_layer_norm, _of_sum)
    else:
        _patch(block.attention.self, _asking)
        _patch(block.attention.output, _added)


def asks(module: nn.Module) -> bool:
    """Say whether an attention asks for the first token alone."""
    return getattr(module, _MARK, False)


def found(model: nn.Module) -> PreTrainedModel | None:
    """Return the classifier whose head reads the first token, the model itself or one within it; None without one."""
    for inner in (m for m in model.modules() if isinstance(m, PreTrainedModel)):
        config = inner.config
        known = type(inner).__name__.endswith("ForSequenceClassification") and config.model_type in _BLOCKS
        if known and not getattr(config, "is_decoder", False) and not getattr(config, "chunk_size_feed_forward", 0):
            return inner
    return None


def blocks(classifier: PreTrainedModel) -> Any:
    """Return the blocks of what `found` found."""
    return classifier.base_model.get_submodule(_BLOCKS[classifier.config.model_type])


def _patch(module: nn.Module, forward: Any) -> None:
    module.forward = MethodType(forward, module)
    setattr(module, _MARK, True)


def _asking(
    self: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
) -> tuple[torch.Tensor, None]:
    """Return what the first token takes from all, rows x 1 x width."""
    ask, key, value = next(names for names in _NAMES if hasattr(self, names[0]))
    query, keys, values = (
        getattr(self, name)(part).unflatten(-1, (-1, self.attention_head_size)).transpose(1, 2)
        for name, part in ((ask, hidden_states[:, :1]), (key, hidden_states), (value, hidden_states))
    )
    mask = None if attention_mask is None else attention_mask[:, :, :1]
    rate = self.dropout.p if self.training else 0.0
    said = attention.plain(query, keys, values, mask, rate, self.scaling).flatten(2)
    return (self.out_lin(said) if hasattr(self, "out_lin") else said), None


def _added(self: Any, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
    """Do what follows a block's attention, for the first token."""
    said: torch.Tensor = self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_tensor[:, :1])
    return said


def _of_sum(self: nn.LayerNorm, added: torch.Tensor) -> torch.Tensor:
    """Normalize what DistilBERT's block makes of the first token's answer and of all tokens, for the first one."""
    return nn.LayerNorm.forward(self, added[:, :1])
