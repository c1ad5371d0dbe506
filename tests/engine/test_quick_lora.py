"""Low-rank changes in one step: peft's own values and gradients; rows of about one length lie below one another."""

import copy

import peft
import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from sft_magics.engine.inputs import packing
from sft_magics.engine.kernels import attention, fused_lora


def _model(**more: object) -> peft.PeftModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attention_bias=True,
    )  # fmt: skip
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **more}
    model = peft.get_peft_model(LlamaForCausalLM(config), LoraConfig(**settings))  # type: ignore[arg-type]
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(tensor, 0.0, 0.1)
    assert isinstance(model, peft.PeftModel)
    return model


def _quick(model: peft.PeftModel) -> list[nn.Module]:
    fused_lora.quicken(model)
    return [m for m in model.modules() if "forward" in vars(m)]


def test_values_and_gradients_are_pefts() -> None:
    plain = _model()
    quick = copy.deepcopy(plain)
    assert len(_quick(quick)) == 14
    attention.quicken(quick)
    ids = torch.randint(0, 50, (3, 9))
    for model in (plain, quick):
        model(input_ids=ids, labels=ids).loss.backward()
    learned = 0
    for (name, one), other in zip(quick.named_parameters(), plain.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if other.grad is not None:
            learned += 1
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)
    assert learned == 28


def test_in_bfloat16_it_is_as_near_as_pefts_own() -> None:
    exact = _model()
    plain = copy.deepcopy(exact)
    for parameter in plain.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    quick = copy.deepcopy(plain)
    _quick(quick)
    far = torch.zeros(20, 2)
    with torch.no_grad():
        for draw in range(20):
            ids = torch.randint(0, 50, (3, 9))
            known = exact(input_ids=ids).logits
            with torch.autocast("cpu", torch.bfloat16):
                for side, model in enumerate((plain, quick)):
                    far[draw, side] = (model(input_ids=ids).logits.float() - known).norm()
    assert float(far[:, 1].mean()) < 1.1 * float(far[:, 0].mean())


@pytest.mark.parametrize("more", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_what_it_cannot_stand_for_stays_pefts(more: dict[str, object]) -> None:
    assert not _quick(_model(**more))


def test_switched_off_or_merged_it_is_the_base() -> None:
    quick = _model()
    _quick(quick)
    ids = torch.randint(0, 50, (1, 5))
    changed = quick(input_ids=ids).logits
    with quick.disable_adapter():
        assert not torch.allclose(quick(input_ids=ids).logits, changed)
    quick.merge_adapter()
    torch.testing.assert_close(quick(input_ids=ids).logits, changed, rtol=1e-4, atol=1e-5)


def test_rows_of_about_one_length_lie_below_one_another() -> None:
    rows = [[1] * 50, [2] * 49, [3] * 50]
    batch = packing.packed(rows, [10, 10, 49])
    assert batch["input_ids"].shape == (3, 50)
    assert batch["rows"][1].tolist() == [1] * 49 + [-1]
    assert batch["position_ids"][1].tolist() == [*range(49), 0]
    assert (batch["labels"] != packing.IGNORED).sum(1).tolist() == [40, 39, 1]
    assert packing.packed([[1] * 50, [2] * 20], [1, 1])["input_ids"].shape == (1, 72)
