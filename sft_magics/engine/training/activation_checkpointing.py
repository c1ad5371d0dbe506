"""Activations that are computed again in the backward pass instead of being kept (Chen et al. 2016).

Each block keeps only what goes into it; dropout draws the same numbers again, and BatchNorm counts a batch once. The
gradients are the same, a step takes about a third more time, and memory grows with one block instead of all.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from sft_magics.core import errors


def check(options: Mapping[str, Any]) -> None:
    """Refuse --recompute where nothing is computed twice anyway; raises ModelProblem."""
    if options.get("recompute") and options.get("method") == "head":
        raise errors.ModelProblem(
            "With --method head the backbone is computed once: nothing is left to compute again.",
            "leave --recompute out.",
        )


def enable(model: nn.Module, name: str = "This model") -> None:
    """Let a model's blocks be computed again while it trains; raises ModelProblem where it has none."""
    from peft import PeftModel  # late: it takes a second

    if isinstance(model, PreTrainedModel | PeftModel):
        inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        if not inner.supports_gradient_checkpointing:
            raise _has_none(name)
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return
    found = list(blocks(model))
    if not found:
        raise _has_none(name)
    for block in found:
        _wrap(block)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules with parts of their own that stand in a row: what torchvision and timm stack."""
    for child in model.children():
        row = isinstance(model, nn.Sequential | nn.ModuleList)
        if row and not isinstance(child, nn.Sequential | nn.ModuleList) and _learns(child):
            yield child
        else:
            yield from blocks(child)


def _learns(module: nn.Module) -> bool:
    return len(list(module.children())) > 1 and any(p.requires_grad for p in module.parameters())


def _wrap(block: nn.Module) -> None:
    plain: Callable[..., Any] = block.forward

    def again() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _uncounted(block)

    def forward(*inputs: Any, **named: Any) -> Any:
        if not (block.training and is_grad_enabled()):
            return plain(*inputs, **named)
        return checkpoint(plain, *inputs, use_reentrant=False, context_fn=again, **named)

    block.forward = forward


@contextlib.contextmanager
def _uncounted(block: nn.Module) -> Iterator[None]:
    """Let BatchNorm count into copies: the batch has been counted when it was computed first."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        norm._buffers.update({n: None if b is None else b.clone() for n, b in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)


def _has_none(name: str) -> errors.ModelProblem:
    return errors.ModelProblem(
        f"{name} has no blocks that could be computed again.", "leave --recompute out; --batch auto saves memory too."
    )
