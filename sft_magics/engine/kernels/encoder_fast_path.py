"""Encoders of text classifiers that will only read, on a CPU in bfloat16: their blocks as a few operations each.

Of the six milliseconds that a sentence took, a third was the way to the processor: modules that call modules, casts,
masks of ones, copies of queries, keys and values. Here a block is four products, laid out once as the processor's
kernel has them (see `prepacked_model`), with the activation in the second last, and what must be between them. What is
scaled or joined is so before it is cast. An encoder whose answer to a probe is not that of its own modules is left
alone.

Tokens of several rows lie one behind the other, so that blocks compute nothing for padding; only where tokens take from
others of their row, every row has a place for each token of the longest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from sft_magics.core.runtime import batches
from sft_magics.engine.kernels import attention, first_token_only, prepacked_linear

_SAME = 0.1  # of states that are normalized: bfloat16 keeps 8 bits, and errors of a few blocks add up
_PROBE = 16  # tokens
_ALONE, _SHORT = 1, 64  # rows and tokens up to which fp32 is quicker between tokens; with 256 it is half as quick
_ROUND = 8  # few shapes: oneDNN makes a kernel for each
_MARK = "reads_unpadded"
_ACTIVATIONS: dict[tuple[str, str], prepacked_linear.Read] = {
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
    activation: prepacked_linear.Read
    narrow: nn.Linear
    norm: nn.LayerNorm

    @property
    def layers(self) -> tuple[nn.Linear, ...]:
        return (*self.asking, self.said, self.wide, self.narrow)


@dataclass(frozen=True)
class _Layout:
    """Where the tokens of rows x length are; without `place_of` every place is computed."""

    rows: int
    length: int
    mask: torch.Tensor | None = None  # rows x 1 x 1 x length, added to the scores
    place_of: torch.Tensor | None = None  # of each token, in the rows one behind the other
    token_at: torch.Tensor | None = None  # of each place, any where there is none

    @property
    def kind(self) -> torch.dtype:
        """The number format in which tokens take from others: oneDNN takes long to begin a small product."""
        return torch.float32 if self.rows <= _ALONE and self.length <= _SHORT else torch.bfloat16

    def placed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return tokens x width as rows x length x width."""
        found = tokens if self.token_at is None else tokens.index_select(0, self.token_at)
        return found.view(self.rows, self.length, -1)

    def tokens(self, placed: torch.Tensor) -> torch.Tensor:
        """Return rows x length x width as tokens x width."""
        found = placed.flatten(0, 1)
        return found if self.place_of is None else found.index_select(0, self.place_of)

    def firsts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the first token of each row, rows x width."""
        if self.token_at is None:
            return tokens[:: self.length]
        return tokens.index_select(0, self.token_at[:: self.length])


class _Block:
    """A block that reads tokens x width."""

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

    def __call__(self, x: torch.Tensor, layout: _Layout) -> torch.Tensor:
        """Return what the block makes of x, float32; the last one of the first token of each row alone."""
        short = x.to(torch.bfloat16)
        joined = layout.placed(self.read(short))
        if self.ask is None:
            taken = layout.tokens(self._attended(self._split(joined, 3, layout.kind), layout.mask))
        else:
            x = layout.firsts(x)
            asked = self.ask(layout.firsts(short).contiguous())[:, None]
            parts = (*self._split(asked, 1, layout.kind), *self._split(joined, 2, layout.kind))
            taken = self._attended(parts, layout.mask).flatten(0, 1)
        x = _normed(self.said_norm, x + self.say(taken))
        return _normed(self.norm, x + self.narrow(self.widen(x.to(torch.bfloat16))))

    def _attended(self, parts: Sequence[torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """Return what tokens take from others, rows x tokens x width, by queries, which are scaled, keys and values."""
        query, key, value = parts
        rows = len(query) // self.heads
        if query.shape[1] > attention.LONG:  # without scores, which grow with the square of the length
            query, key, value = (t.view(rows, self.heads, -1, self.width) for t in parts)
            said = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=1.0)
            return said.transpose(1, 2).flatten(2)
        scores = torch.bmm(query, key.transpose(1, 2))
        if mask is not None:
            scores = (scores.view(rows, self.heads, *scores.shape[1:]) + mask).view(scores.shape)
        taken = torch.bmm(scores.softmax(-1), value).to(torch.bfloat16)
        return taken.view(rows, self.heads, -1, self.width).transpose(1, 2).flatten(2)

    def _split(self, joined: torch.Tensor, count: int, kind: torch.dtype) -> tuple[torch.Tensor, ...]:
        """Return what was computed at once as rows and heads x tokens x width, each in one piece."""
        rows, tokens, _ = joined.shape
        parts = joined.view(rows, tokens, count, self.heads, self.width).permute(2, 0, 3, 1, 4).contiguous().to(kind)
        return tuple(part.flatten(0, 1) for part in parts.unbind())


class _Words:
    """The embeddings of BERT's kind, where a token's position is its place in the row: one table, one sum."""

    def __init__(self, embeddings: Any) -> None:
        self.table = embeddings.word_embeddings.weight
        types = getattr(embeddings, "token_type_embeddings", None)
        self.places = embeddings.position_embeddings.weight + (0 if types is None else types.weight[0])
        self.norm = embeddings.LayerNorm

    @classmethod
    def of(cls, embeddings: Any) -> "_Words | None":
        """Return the same for a model's embeddings, None for others, such as RoBERTa's."""
        plain = getattr(embeddings, "position_embedding_type", "absolute") == "absolute"
        known = plain and embeddings.position_embeddings.padding_idx is None and hasattr(embeddings, "LayerNorm")
        return cls(embeddings) if known else None

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Return rows x tokens x width."""
        return _normed(self.norm, nn.functional.embedding(ids, self.table) + self.places[: ids.shape[1]])


@torch.no_grad()
def quicken(model: nn.Module) -> set[nn.Module]:
    """Let the encoder of a classifier whose head reads the first token be read this way; return the layers it takes."""
    found = first_token_only.found(model)
    if found is None:
        return set()
    base: Any = found.base_model
    blocks = [parts_of(block) for block in first_token_only.blocks(found)]
    if any(parts is None for parts in blocks):
        return set()
    known = [parts for parts in blocks if parts is not None]
    probe = probe_of(found)
    if probe is None:
        return set()
    with torch.autocast("cpu", torch.bfloat16):
        before = base(**probe).last_hidden_state[:, :1].float()
    quick = [_Block(parts, last=parts is known[-1]) for parts in known]
    lean = MethodType(_forward(quick, _Words.of(base.embeddings), base.forward), base)
    after = lean(**probe).last_hidden_state
    apart = float(((after - before).abs().mean(-1) / before.abs().mean(-1)).max())
    if not apart <= _SAME:  # also where it is no number
        return set()
    base.forward = lean
    setattr(model, _MARK, True)
    return {layer for parts in known for layer in parts.layers}


def _forward(blocks: Sequence[_Block], words: _Words | None, own: Callable[..., Any]) -> Any:
    def forward(
        self: Any, input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, **more: Any
    ) -> Any:
        asks_more = any(value is not None for name, value in more.items() if name != "return_dict")
        if input_ids is None or attention_mask is None or asks_more:
            return own(input_ids=input_ids, attention_mask=attention_mask, **more)
        with torch.autocast("cpu", enabled=False):
            x = self.embeddings(input_ids=input_ids) if words is None else words(input_ids)
            if hasattr(self, "embeddings_project"):
                x = self.embeddings_project(x.to(self.embeddings_project.weight.dtype)).float()
            layout = _laid_out(attention_mask)
            x = layout.tokens(x)
            for block in blocks:
                x = block(x, layout)
            x = x[:, None]
        pooler = getattr(self, "pooler", None)
        return BaseModelOutputWithPooling(last_hidden_state=x, pooler_output=None if pooler is None else pooler(x))

    return forward


def _normed(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    """Normalize; the module's own way may have been shortened (see `first_token_only`)."""
    return nn.functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _laid_out(mask: torch.Tensor) -> _Layout:
    """Return where tokens are by the mask of padded rows."""
    rows, length = mask.shape
    there = mask.bool()
    if there.all():
        return _Layout(rows, length)
    lowest = torch.finfo(torch.bfloat16).min
    added = torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill(~there, lowest)[:, None, None]
    if rows == 1 or not there[:, 0].all():  # where a row has no first token, nobody else's may answer for it
        return _Layout(rows, length, added)
    places = there.flatten().nonzero().flatten()
    count = batches.stepped(len(places), _ROUND)
    if count >= there.numel():
        return _Layout(rows, length, added)
    token_at = (there.flatten().cumsum(0) - 1).clamp_(min=0)
    return _Layout(rows, length, added, nn.functional.pad(places, (0, count - len(places))), token_at)


def unpads(model: nn.Module) -> bool:
    """Say whether a model reads the tokens of all rows one behind the other."""
    return getattr(model, _MARK, False)


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


def _activation(own: prepacked_linear.Read) -> tuple[str, str] | None:
    """Return how oneDNN calls an activation, or None for one that it is not asked for."""
    x = torch.linspace(-4, 4, 65)
    return next((name for name, same in _ACTIVATIONS.items() if torch.allclose(own(x), same(x), atol=1e-6)), None)


def _reader(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]], activation: tuple[str, str] | None = None
) -> prepacked_linear.Read:
    """Return what some layers say of an input, side by side."""
    weight, bias = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return prepacked_linear.laid_out(weight, bias, activation or ("none", ""))


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
