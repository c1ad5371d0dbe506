"""Encoders that are read in few operations say what their own modules say, or are left alone."""

from typing import Any

import pytest
import torch
from torch import nn

from sft_magics.engine import first, lean, lora, reading
from tests.engine.test_first import KINDS, asked, model_of

CPU = torch.device("cpu")


def _said(model: nn.Module, **asked: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits: torch.Tensor = model(**asked).logits.float()
    return logits


def _is_lean(model: Any) -> bool:
    return "forward" in vars(model.base_model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shortened", [False, True])
def test_it_says_what_its_modules_say(kind: str, shortened: bool) -> None:
    model = model_of(kind, initializer_range=0.3)  # so that attention is far from even, and a mask matters
    if shortened:
        first.quicken(model)
    whole = {key: value[:1] for key, value in asked().items()}  # nothing to be masked
    inputs = (asked(), whole)
    with torch.inference_mode():
        truths = [model(**one).logits for one in inputs]
    before = [_said(model, **one) for one in inputs]
    reading.settle(model, CPU)
    assert _is_lean(model)
    for truth, own, one in zip(truths, before, inputs, strict=True):
        assert truth.std() > 0.1
        assert (_said(model, **one) - truth).abs().max() <= max(0.02, 2 * float((own - truth).abs().max()))


def test_what_is_read_is_a_copy_of_the_weights_and_every_layer_is_cast() -> None:
    model = model_of("bert")
    reading.settle(model, CPU)
    before = _said(model, **asked())
    blocks = [m for m in model.bert.encoder.modules() if isinstance(m, nn.Linear)]
    assert all(layer.weight.dtype == torch.bfloat16 for layer in blocks)
    assert not any("forward" in vars(layer) for layer in blocks), "laid out once, not twice"
    for layer in blocks:
        layer.weight.data.zero_()
    assert torch.equal(_said(model, **asked()), before)


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "gelu_pytorch_tanh"])
def test_activations_that_onednn_knows_are_computed_with_the_product(activation: str) -> None:
    model = model_of("bert", hidden_act=activation, initializer_range=0.3)
    before = _said(model, **asked())
    reading.settle(model, CPU)
    assert _is_lean(model)
    assert torch.allclose(_said(model, **asked()), before, atol=0.05)


def _with_another_activation() -> Any:
    return model_of("bert", hidden_act="silu")


def _with_adapters() -> Any:
    model = model_of("bert")
    import peft

    config = peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    return peft.get_peft_model(model, config).eval().base_model.model


def _that_reads_all() -> Any:
    model = model_of("bert")
    model.config.model_type = "another"
    return model


@pytest.mark.parametrize("made", [_with_another_activation, _with_adapters, _that_reads_all])
def test_what_it_does_not_know_is_left_alone(made: Any) -> None:
    model = made()
    before = _said(model, **asked())
    reading.settle(model, CPU)
    assert not _is_lean(model)
    assert torch.allclose(_said(model, **asked()), before, atol=0.01)


def test_an_encoder_that_would_say_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("bert", initializer_range=0.3)
    before = _said(model, **asked())
    own = lean._Block.__call__
    monkeypatch.setattr(lean._Block, "__call__", lambda self, x, mask: own(self, x, None))  # forgets the mask
    assert lean.quicken(model) == set()
    assert not _is_lean(model)
    monkeypatch.setattr(lean._Block, "__call__", lambda self, x, mask: own(self, x, mask) * float("nan"))
    assert lean.quicken(model) == set()
    assert torch.equal(_said(model, **asked()), before)


def test_where_fp32_is_asked_for_and_in_learning_nothing_is_lean() -> None:
    model = model_of("bert")
    for part in (first, lora):
        part.quicken(model)
    assert not _is_lean(model)
