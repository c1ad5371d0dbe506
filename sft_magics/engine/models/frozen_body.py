"""A part of a model that does not learn is computed once, and played back from then on.

Everything around it runs as it always does, so the head learns by the model's own code, whatever its architecture.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers.utils.generic import ModelOutput

from sft_magics.engine.models import layer_diff, layer_groups

ROOM = 1 << 30  # bytes of features that are kept


@contextlib.contextmanager
def playing(module: nn.Module, output: Any) -> Iterator[None]:
    """Let a module answer `output`, whatever it is asked."""
    module.forward = lambda *_, **__: output
    try:
        yield
    finally:
        del module.forward


@contextlib.contextmanager
def catching(module: nn.Module) -> Iterator[list[Any]]:
    """Collect what a module answers."""
    found: list[Any] = []
    hook = module.register_forward_hook(lambda _, __, output: found.append(output))
    try:
        yield found
    finally:
        hook.remove()


def only(model: nn.Module, learning: set[str]) -> None:
    """Let only the named weights learn."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning)


# A text model's body: what holds its blocks


def encoder_of(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Return the module that runs a text model's blocks one after another, and its name; None where there is none."""
    blocks = [layer_diff.block(n) for level in layer_groups.of(model)[:-1] for n in level if layer_diff.numbered(n)]
    if not blocks:
        return None
    name = blocks[0].rpartition(".")[0].rpartition(".")[0]  # the block, the list of blocks, what runs them
    return name, model.get_submodule(name)


def states(output: Any) -> torch.Tensor:
    """Return the hidden states (rows x tokens x width) in what an encoder answered."""
    found: torch.Tensor = output[0] if isinstance(output, tuple | ModelOutput) else output
    return found


def answer(features: torch.Tensor, like: Any) -> Any:
    """Return what an encoder answers, in the form of `like`, for texts of one token with these states."""
    one = features[:, None]
    if isinstance(like, ModelOutput):
        return type(like)(last_hidden_state=one)
    return (one,) if isinstance(like, tuple) else one
