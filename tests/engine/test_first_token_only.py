"""A classifier whose last block answers for the first token alone says the same, and learns the same."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from sft_magics.engine.kernels import attention, dropout, first_token_only, fused_qkv, install
from sft_magics.engine.runtime import hardware

_SIZES = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64}
_SMALL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _SIZES),
    "distilbert": {"dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 64},
}

KINDS = sorted(_SMALL)


def model_of(kind: str, seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=100, num_labels=3, pad_token_id=1, **_SMALL[kind], **more
    )
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def asked() -> dict[str, torch.Tensor]:
    lengths = torch.tensor([9, 4, 7, 1])
    mask = (torch.arange(9) < lengths[:, None]).long()
    ids = torch.randint(2, 100, (4, 9), generator=torch.Generator().manual_seed(3))
    return {"input_ids": torch.where(mask.bool(), ids, 1), "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_and_learns_the_same(kind: str) -> None:
    whole, quick = model_of(kind), model_of(kind)
    first_token_only.quicken(quick)
    seen: list[torch.Size] = []
    blocks = [m for m in quick.modules() if isinstance(m, nn.Linear) and m.out_features == 64 and m.in_features == 32]
    blocks[-1].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    for one in (whole, quick):
        one(**asked(), labels=torch.tensor([0, 1, 2, 1])).loss.backward()
    assert seen == [torch.Size([4, 1, 32])]
    with torch.no_grad():
        assert torch.allclose(quick(**asked()).logits, whole(**asked()).logits, atol=1e-6)
    pairs = zip(whole.named_parameters(), quick.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, atol=1e-6) for (_, a), b in pairs if a.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_with_the_other_parts_that_are_quicker_in_bfloat16(kind: str) -> None:
    whole, quick = model_of(kind), model_of(kind)
    for part in (dropout, attention, first_token_only, fused_qkv, first_token_only, fused_qkv):  # placed twice
        part.quicken(quick)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(quick(**asked()).logits, whole(**asked()).logits, atol=2e-2)
    joined = list(fused_qkv.groups(quick))
    assert [len(layers) for layers in joined] == [3, 3, 2]


def test_a_decoder_and_a_model_without_a_head_stay_as_they_are() -> None:
    decoder = model_of("bert", is_decoder=True)
    bare = transformers.AutoModel.from_config(model_of("bert").config)
    for model in (decoder, bare, nn.Linear(2, 2)):
        first_token_only.quicken(model)
        assert not any(first_token_only.asks(m) for m in model.modules())


def test_where_fp32_was_asked_for_all_stays_as_it_is() -> None:
    model = model_of("bert")
    install.place(model, hardware.choose("cpu", "fp32", 1))
    assert not any(first_token_only.asks(m) for m in model.modules())
    install.place(model, hardware.choose("cpu", "auto", 1))
    assert sum(first_token_only.asks(m) for m in model.modules()) == 2
