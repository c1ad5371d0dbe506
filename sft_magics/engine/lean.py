"""Encoders of text classifiers that will only read, on a CPU in bfloat16: their blocks as a few operations each.

Of the six milliseconds that a sentence took, a third was the way to the processor: modules that call modules, casts,
masks of ones, copies of queries, keys and values. Here a block is four products, laid out once as the processor's
kernel has them (see `reading`), with the activation in the second last, and what must be between them. What is scaled
or joined is so before it is cast. An encoder whose answer to a probe is not that of its own modules is left alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from sft_magics.engine import attention, first, products

_SAME = 0.1  # of states that are normalized: bfloat16 keeps 8 bits, and errors of a few blocks add up
_PROBE = 16  # tokens
_ACTIVATIONS: dict[tuple[str, str], products.Read] = {
    ("gelu", "none"): nn.functional.gelu,
    ("gelu", "tanh"): lambda x: nn.functional.gelu(x, approximate="tanh"),
    ("relu", ""): nn.functional.relu,
}


@dataclass(frozen=True)
class Parts:
    """The modules of a block, whatever its model calls them."""

    asking: tuple[nn.Linear, nn.Linear, nn.Linear]
    heads: int
    said: nn.Linear
    said_norm: nn.LayerNorm
    wide: nn.Linear
    activation: products.Read
    narrow: nn.Linear
    norm: nn.LayerNorm

    @property
    def layers(self) -> tuple[nn.Linear, ...]:
        return (*self.asking, self.said, self.wide, self.narrow)


class _Block:
    """A block that reads rows x tokens x width."""

    def __init__(self, parts: Parts, *, last: bool) -> None:
        self.heads = parts.heads
        query, key, value = parts.asking
        self.width = query.out_features // self.heads
        scale = self.width**-0.5
        scaled = (query.weight * scale, query.bias * scale)
        others = [(layer.weight, layer.bias) for layer in (key, value)]
        self.ask = _reader([scaled]) if last else None
        self.read = _reader(others if last else [scaled, *others])
        self.say = _reader([(parts.said.weight, parts.said.bias)])
        self.widen = _reader([(parts.wide.weight, parts.wide.bias)], _activation(parts.activation))
        self.narrow = _reader([(parts.narrow.weight, parts.narrow.bias)])
        self.said_norm, self.norm = parts.said_norm, parts.norm

    def __call__(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return what the block makes of x, float32; the last one of the first token alone."""
        short = x.to(torch.bfloat16)
        if self.ask is None:
            query, key, value = self._split(self.read(short), 3)
        else:
            x = x[:, :1]
            (query,) = self._split(self.ask(short[:, :1].contiguous()), 1)
            key, value = self._split(self.read(short), 2)
        taken = self._attended(query, key, value, mask).transpose(1, 2).flatten(2)
        x = self.said_norm(x + self.say(taken))
        normed: torch.Tensor = self.norm(x + self.narrow(self.widen(x.to(torch.bfloat16))))
        return normed

    def _attended(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Return what tokens take from others, rows x heads x tokens x width; `query` is scaled."""
        rows = len(query) // self.heads
        if query.shape[1] > attention.LONG:  # without scores, which grow with the square of the length
            query, key, value = (t.view(rows, self.heads, -1, self.width) for t in (query, key, value))
            return nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=1.0)
        scores = torch.bmm(query, key.transpose(1, 2))
        if mask is not None:
            scores = (scores.view(rows, self.heads, *scores.shape[1:]) + mask).view(scores.shape)
        return torch.bmm(scores.softmax(-1), value).view(rows, self.heads, -1, self.width)

    def _split(self, joined: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
        """Return what was computed at once as rows and heads x tokens x width, each in one piece."""
        rows, tokens, _ = joined.shape
        parts = joined.view(rows, tokens, count, self.heads, self.width).permute(2, 0, 3, 1, 4).contiguous()
        return tuple(part.flatten(0, 1) for part in parts.unbind())


@torch.no_grad()
def quicken(model: nn.Module) -> set[nn.Module]:
    """Let the encoder of a classifier whose head reads the first token be read this way; return the layers it takes."""
    found = first.found(model)
    if found is None:
        return set()
    base: Any = found.base_model
    blocks = [parts_of(block) for block in first.blocks(found)]
    if any(parts is None for parts in blocks):
        return set()
    known = [parts for parts in blocks if parts is not None]
    probe = probe_of(found)
    if probe is None:
        return set()
    with torch.autocast("cpu", torch.bfloat16):
        before = base(**probe).last_hidden_state[:, :1].float()
    lean = MethodType(_forward([_Block(parts, last=parts is known[-1]) for parts in known], base.forward), base)
    after = lean(**probe).last_hidden_state
    apart = float(((after - before).abs().mean(-1) / before.abs().mean(-1)).max())
    if not apart <= _SAME:  # also where it is no number
        return set()
    base.forward = lean
    return {layer for parts in known for layer in parts.layers}


def _forward(blocks: Sequence[_Block], own: Callable[..., Any]) -> Any:
    def forward(
        self: Any, input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, **more: Any
    ) -> Any:
        asks_more = any(value is not None for name, value in more.items() if name != "return_dict")
        if input_ids is None or attention_mask is None or asks_more:
            return own(input_ids=input_ids, attention_mask=attention_mask, **more)
        with torch.autocast("cpu", enabled=False):
            x = self.embeddings(input_ids=input_ids)
            if hasattr(self, "embeddings_project"):
                x = self.embeddings_project(x.to(self.embeddings_project.weight.dtype)).float()
            mask = None
            if not attention_mask.all():
                lowest = torch.finfo(torch.bfloat16).min
                mask = ((1 - attention_mask.long()) * lowest).to(torch.bfloat16)[:, None, None]
            for block in blocks:
                x = block(x, mask)
        pooler = getattr(self, "pooler", None)
        return BaseModelOutputWithPooling(last_hidden_state=x, pooler_output=None if pooler is None else pooler(x))

    return forward


def parts_of(block: Any) -> Parts | None:
    """Return the modules of a block, or None for one that is of another make."""
    try:
        parts = _of_distilbert(block) if hasattr(block, "sa_layer_norm") else _of_bert(block)
    except AttributeError:
        return None
    plain = all(type(layer) is nn.Linear and layer.bias is not None for layer in parts.layers)
    return parts if plain and _activation(parts.activation) else None


def _of_bert(block: Any) -> Parts:
    asking, out, wide = block.attention.self, block.attention.output, block.intermediate
    return Parts(
        (asking.query, asking.key, asking.value), asking.num_attention_heads, out.dense, out.LayerNorm,
        wide.dense, wide.intermediate_act_fn, block.output.dense, block.output.LayerNorm,
    )  # fmt: skip


def _of_distilbert(block: Any) -> Parts:
    asking, wide = block.attention, block.ffn
    return Parts(
        (asking.q_lin, asking.k_lin, asking.v_lin), asking.n_heads, asking.out_lin, block.sa_layer_norm,
        wide.lin1, wide.activation, wide.lin2, block.output_layer_norm,
    )  # fmt: skip


def _activation(own: products.Read) -> tuple[str, str] | None:
    """Return how oneDNN calls an activation, or None for one that it is not asked for."""
    x = torch.linspace(-4, 4, 65)
    return next((name for name, same in _ACTIVATIONS.items() if torch.allclose(own(x), same(x), atol=1e-6)), None)


def _reader(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]], activation: tuple[str, str] | None = None
) -> products.Read:
    """Return what some layers say of an input, side by side."""
    weight, bias = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return products.laid_out(weight, bias, activation or ("none", ""))


def probe_of(model: Any) -> dict[str, torch.Tensor] | None:
    """Return two rows of any tokens, the second with an end that is not to be read; None for a model of few."""
    pad = model.config.pad_token_id or 0
    tokens = min(_PROBE, model.config.max_position_embeddings - pad - 1)  # the first positions may be padding's
    if tokens < 2 or model.config.vocab_size < 2:
        return None
    ids = torch.arange(2 * tokens).view(2, -1) % (model.config.vocab_size - 1)
    ids[ids == pad] = model.config.vocab_size - 1
    mask = torch.ones_like(ids)
    mask[1, tokens // 2 :] = 0
    return {"input_ids": torch.where(mask.bool(), ids, pad), "attention_mask": mask}
