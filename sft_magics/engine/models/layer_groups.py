"""How deep each weight lies in a model: level by level, from what sees the input first up to the head.

A level is a numbered block (`layer_diff.block`), except at the two ends. The lowest is all that comes before the first
block, and embeddings wherever they are kept. The highest is the head: the last linear layer, what stands beside it
under the same name, and what comes after the last block (a pooler, a last normalization), as BEiT counts its layers
(Bao et al. 2022). Where a body is named as such (`backbone.body`, in pyramids and detectors), all else is the head.
"""

import re
from collections.abc import Sequence

from torch import nn

from sft_magics.engine.models import layer_diff

_BODY = re.compile(r"^(?:.*?\bbody\.|backbone\.)")
_STEM = re.compile(r"^(?:\D*\.)?(?:\w*embed|stem|conv1\.)")  # before any number
_WRAPPED = "base_model.model."  # as peft names what it wraps


def of(model: nn.Module) -> list[list[str]]:
    """Return the names of the weights of each level, the lowest first; the last one is the head."""
    names = [name for name, _ in model.named_parameters()]
    head = _head(model, names)
    bottom: list[str] = []
    blocks: dict[str, list[str]] = {}
    for name in names:
        if name in head:
            continue
        if _STEM.match(name) or not (blocks or layer_diff.numbered(name)):
            bottom.append(name)
        elif layer_diff.numbered(name):
            blocks.setdefault(layer_diff.block(name), []).append(name)
        else:  # between two blocks
            list(blocks.values())[-1].append(name)
    return [level for level in (bottom, *blocks.values(), [n for n in names if n in head]) if level]


def called(level: Sequence[str]) -> str:
    """Return what a person calls a level that is not the head: its block, or "embeddings" and the like."""
    name = level[-1]
    return layer_diff.block(name) if layer_diff.numbered(name) and not _STEM.match(name) else name.split(".")[0]


def _head(model: nn.Module, names: Sequence[str]) -> set[str]:
    body = next((found[0] for name in names if (found := _BODY.match(name))), None)
    if body is not None:
        return {name for name in names if not name.startswith(body)}
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    root = _root(linear[-1], names) if linear else ""
    own = {name for name in names if root and name.startswith(f"{root}.")}
    last = max((i for i, n in enumerate(names) if n not in own and layer_diff.numbered(n)), default=len(names) - 1)
    return own | {name for name in names[last + 1 :] if not _STEM.match(name)} or set(names[-1:])


def _root(head: str, names: Sequence[str]) -> str:
    """Return the shortest beginning of the head's name that no more than half of the weights share."""
    words = head.removeprefix(_WRAPPED).split(".")
    roots = [head[: len(head) - len(".".join(words))] + ".".join(words[: i + 1]) for i in range(len(words))]
    return next((r for r in roots if 2 * sum(n.startswith(f"{r}.") for n in names) <= len(names)), head)
