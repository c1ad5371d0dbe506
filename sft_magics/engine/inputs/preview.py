"""Tensors of a batch turned back into what a person sees: pictures, and runs of tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

_FIRST, _LAST = 120, 40  # tokens of a long run that are shown
_DOT = "·"


def picture_of(pixels: torch.Tensor) -> Image.Image:
    """Return a tensor (3 x height x width, uint8) as a picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def piece(tokenizer: Any, ids: Sequence[int], kind: str) -> dict[str, Any]:
    """Return a run of tokens as words, the middle of a long one left out."""
    shown = list(ids) if len(ids) <= _FIRST + _LAST else [*ids[:_FIRST], *ids[-_LAST:]]
    words = [str(tokenizer.decode([i], clean_up_tokenization_spaces=False)) for i in shown]
    if len(shown) < len(ids):
        words.insert(_FIRST, f" … {len(ids) - len(shown):,} more … ")
    return {"text": _DOT.join(words).replace("\n", "⏎"), "kind": kind, "tokens": len(ids)}
