"""Encoders that are read in few operations say what their own modules say, or are left alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sft_magics.engine.inference import prepacked_model
from sft_magics.engine.kernels import attention, encoder_fast_path, first_token_only, prepacked_linear
from tests.engine.test_first_token_only import KINDS, asked, model_of

CPU = torch.device("cpu")


def _said(model: nn.Module, **asked: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits: torch.Tensor = model(**asked).logits.float()
    return logits


def _is_lean(model: Any) -> bool:
    return "forward" in vars(model.base_model)


def _rows(count: int) -> list[dict[str, torch.Tensor]]:
    """Rows alone, without a mask's work, and the same cut at other lengths, padded, in one batch."""
    draw = torch.Generator().manual_seed(5)
    ids = torch.randint(2, 100, (count, 9), generator=draw)
    mask = (torch.arange(9) < torch.randint(1, 10, (count, 1), generator=draw)).long()
    alone = [{"input_ids": row[None], "attention_mask": torch.ones(1, 9, dtype=torch.long)} for row in ids]
    padded = {"input_ids": torch.where(mask.bool(), ids, 1), "attention_mask": mask}
    return [*alone, {name: part[:1] for name, part in padded.items()}, padded]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shortened", [False, True])
def test_it_says_what_its_modules_say_and_as_exactly(kind: str, shortened: bool) -> None:
    model = model_of(kind, initializer_range=0.3)  # so that attention is far from even, and a mask matters
    if shortened:
        first_token_only.quicken(model)
    inputs = _rows(256)
    with torch.inference_mode():
        truths = [model(**one).logits for one in inputs]
    before = [_said(model, **one) for one in inputs]
    prepacked_model.settle(model, CPU)
    assert _is_lean(model)
    assert encoder_fast_path.unpads(model)
    after = [_said(model, **one) for one in inputs]
    assert torch.cat(truths).std() > 0.1
    for some in (slice(0, 256), slice(257, 258)):  # those alone, and those in one batch
        truth, own, said = (torch.cat(found[some]) for found in (truths, before, after))
        assert (said - truth).abs().mean() <= 1.25 * (own - truth).abs().mean()
        assert (said - truth).abs().max() <= max(0.02, 2 * float((own - truth).abs().max()))


def test_a_row_without_a_token_is_not_answered_with_anothers() -> None:
    model = model_of("roberta", initializer_range=0.3)
    prepacked_model.settle(model, CPU)
    found = []
    for neighbor in (7, 60):
        ids = torch.full((3, 9), 1)
        ids[0], ids[2, :4] = neighbor, neighbor
        found.append(_said(model, input_ids=ids, attention_mask=(ids != 1).long())[1])
    assert torch.equal(*found)
    nothing = torch.zeros((2, 8), dtype=torch.long)
    assert _said(model, input_ids=nothing + 1, attention_mask=nothing).isfinite().all()


def test_blocks_compute_nothing_for_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("bert")
    seen: list[int] = []
    laid_out = prepacked_linear.laid_out

    def counted(*given: Any) -> Any:
        read = laid_out(*given)
        return lambda x: (seen.append(x.numel() // x.shape[-1]), read(x))[1]

    monkeypatch.setattr(prepacked_linear, "laid_out", counted)
    prepacked_model.settle(model, CPU)
    lengths = torch.tensor([20, 9, 5, 5])  # 39 tokens, 80 places
    mask = (torch.arange(20) < lengths[:, None]).long()
    seen.clear()
    _said(model, input_ids=torch.full_like(mask, 7), attention_mask=mask)
    assert max(seen) == 40, "rounded up to eight"


def test_what_is_read_is_a_copy_of_the_weights_and_every_layer_is_cast() -> None:
    model = model_of("bert")
    prepacked_model.settle(model, CPU)
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
    prepacked_model.settle(model, CPU)
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
    prepacked_model.settle(model, CPU)
    assert not _is_lean(model)
    assert torch.allclose(_said(model, **asked()), before, atol=0.01)


def test_an_encoder_that_would_say_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("bert", initializer_range=0.3)
    before = _said(model, **asked())
    own = encoder_fast_path._Block.__call__
    monkeypatch.setattr(
        encoder_fast_path._Block, "__call__", lambda self, x, there: own(self, x, replace(there, mask=None))
    )  # forgets the mask
    assert encoder_fast_path.quicken(model) == set()
    assert not _is_lean(model)
    monkeypatch.setattr(encoder_fast_path._Block, "__call__", lambda self, x, there: own(self, x, there) * float("nan"))
    assert encoder_fast_path.quicken(model) == set()
    assert torch.equal(_said(model, **asked()), before)


def test_a_model_of_very_few_positions_is_read_too_or_left_alone() -> None:
    for kind, positions, lean_there in (("bert", 10, True), ("roberta", 12, True), ("bert", 2, False)):
        model = model_of(kind, max_position_embeddings=positions)
        inputs = {key: value[:, :2] for key, value in asked().items()}
        before = _said(model, **inputs)
        prepacked_model.settle(model, CPU)
        assert _is_lean(model) == lean_there
        assert torch.allclose(_said(model, **inputs), before, atol=0.01)


def test_who_asks_for_more_than_the_answer_asks_its_modules() -> None:
    model = model_of("bert", initializer_range=0.3)
    inputs = asked()
    types = torch.ones_like(inputs["input_ids"])
    with torch.inference_mode():
        truth = model(**inputs, token_type_ids=types).logits
    prepacked_model.settle(model, CPU)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        said = model(**inputs, token_type_ids=types, output_hidden_states=True)
        without = model(input_ids=inputs["input_ids"][:1]).logits
    assert len(said.hidden_states) == 4
    assert (said.logits - truth).abs().max() < 0.1
    whole = {key: value[:1] for key, value in inputs.items()}
    assert torch.allclose(without.float(), _said(model, **whole), atol=0.05), "no mask is a mask of ones"
    booled = inputs | {"attention_mask": inputs["attention_mask"].bool()}
    assert torch.equal(_said(model, **booled), _said(model, **inputs))


def test_long_texts_are_read_without_the_scores_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("bert", initializer_range=0.3)
    prepacked_model.settle(model, CPU)
    alone = {name: part[:1] for name, part in asked().items()}
    plain, plain_alone = _said(model, **asked()), _said(model, **alone)
    calls: list[int] = []
    fused = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(attention, "LONG", 4)
    monkeypatch.setattr(
        nn.functional, "scaled_dot_product_attention", lambda *a, **k: (calls.append(1), fused(*a, **k))[1]
    )
    assert torch.allclose(_said(model, **asked()), plain, atol=0.05)
    assert len(calls) == 2, "the last block asks for one token"
    assert torch.allclose(_said(model, **alone), plain_alone, atol=0.1)
    assert len(calls) == 4
