"""LoRA (Hu et al. 2022) for classifiers: low-rank changes of the body's linear layers beside a head that learns whole.

What was learned is merged into the weights when they are saved, so a version is a model as any other: it is served,
compared and exported without peft. (Language models keep theirs apart, see `language_models`: there a version is small
beside its base.) A checkpoint holds the changes alone.
"""

from typing import Any

import torch
from torch import nn

from sft_magics.core import errors
from sft_magics.engine.models import layer_groups, tensor_files

_ADDED, _WITHIN, _NAME = ".lora_", ".base_layer", "default"
# They read their layers' weights without calling the layers, so a change beside those would do nothing.
_CLOSED = ("MultiheadAttention", "ShiftedWindowAttention", "ShiftedWindowAttentionV2")


def inject(model: nn.Module, rank: int, seed: int) -> None:
    """Put changes of `rank` beside the linear layers below the head, in place; they and the head learn from then on.

    They do nothing at first (B is 0), and A follows from `seed`. Raises ModelProblem for a body without such layers.
    """
    *body, head = layer_groups.of(model)
    below = {name.removesuffix(".weight") for level in body for name in level}
    closed = [name for name, module in model.named_modules() if type(module).__name__ in _CLOSED]
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name in below and not any(name.startswith(f"{c}.") for c in closed)
    ]
    if not targets:
        raise errors.ModelProblem(
            f"--method lora is for transformers, and the body of {type(model).__name__} has no linear layers.",
            "write --method full, or --method head.",
        )
    import peft  # late: it takes a second
    from peft import LoraConfig

    torch.manual_seed(seed)
    # peft itself may write a warning of architectures it does not know: the layers are named in full.
    peft.inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), model, _NAME)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_ADDED in name or name in head)


def merged(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the model's tensors once each, on the CPU, with what LoRA learned added to them, under their own names."""
    layers: dict[str, Any] = dict(model.named_modules())
    found = {}
    for name, tensor in tensor_files.weights_of(model).items():
        if _ADDED in name:
            continue
        layer, _, kind = name.rpartition(f"{_WITHIN}.")
        change = layers[layer].get_delta_weight(_NAME).detach().cpu() if layer and kind == "weight" else None
        found[name.replace(_WITHIN, "")] = tensor if change is None else (tensor + change).contiguous()
    return found


@torch.no_grad()
def restore(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put merged weights back: as the layers' own, with changes that do nothing beside them."""
    places = {name.replace(_WITHIN, ""): tensor for name, tensor in model.state_dict().items()}
    for name, tensor in tensors.items():
        places[name].copy_(tensor)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.zero_()


def said(model: nn.Module) -> list[str]:
    """Say how much is learned, where LoRA is on."""
    added = sum(p.numel() for n, p in model.named_parameters() if _ADDED in n)
    if not added:
        return []
    rest = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and _ADDED not in n)
    return [
        f"{added / 1e6:.2f} M weights of low-rank changes learn (--method lora), and {rest / 1e6:.2f} M of the head."
    ]
