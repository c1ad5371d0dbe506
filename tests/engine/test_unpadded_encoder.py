"""Encoders that are exported as few operations say what their own modules say, or are left alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from sft_magics.engine.inference import onnx_export
from sft_magics.engine.kernels import unpadded_encoder
from tests.engine.test_encoder_fast_path import _that_reads_all, _with_adapters, _with_another_activation
from tests.engine.test_first_token_only import KINDS, asked, model_of


def _said(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs).logits
    return logits


def _reads(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        laid_out = unpadded_encoder.laid_out(inputs["input_ids"], inputs["attention_mask"], model.uncounted)
        logits: torch.Tensor = model(**laid_out)
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_its_modules_say(kind: str) -> None:
    model = model_of(kind, initializer_range=0.3)  # so that attention is far from even, and a mask matters
    truth, names = _said(model, **asked()), list(model.state_dict())
    assert truth.std() > 0.1
    quick = unpadded_encoder.unpadded(model)
    assert quick is not None
    assert torch.allclose(_reads(quick, **asked()), truth, atol=1e-4)
    assert torch.equal(_said(model, **asked()), truth), "the model itself is as it was"
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("kind", KINDS)
def test_paddings_id_within_a_text_is_read_as_its_modules_read_it(kind: str) -> None:
    model = model_of(kind, initializer_range=0.3)
    inputs = asked()
    inputs["input_ids"][0, 3] = inputs["input_ids"][1, 0] = 1
    quick = unpadded_encoder.unpadded(model)
    assert quick is not None
    assert torch.allclose(_reads(quick, **inputs), _said(model, **inputs), atol=1e-4)


def test_a_make_whose_parts_are_called_otherwise_is_left_alone() -> None:
    model = model_of("bert")
    del model.bert.embeddings.position_embeddings
    model.bert.embeddings.register_buffer("position_ids", None)
    model.bert.embeddings.forward = lambda input_ids, **_: model.bert.embeddings.word_embeddings(input_ids)
    assert unpadded_encoder.unpadded(model) is None


def test_tokens_and_rows_that_only_fill_up_change_nothing() -> None:
    quick = unpadded_encoder.unpadded(model_of("roberta", initializer_range=0.3))
    assert quick is not None
    inputs = unpadded_encoder.laid_out(asked()["input_ids"], asked()["attention_mask"], quick.uncounted)
    more = {
        **{name: nn.functional.pad(inputs[name], (0, 5)) for name in ("input_ids", "positions", "place_of")},
        "token_at": nn.functional.pad(inputs["token_at"], (0, 3, 0, 2), value=-1),
    }
    rows, length = inputs["token_at"].shape
    place_of = more["place_of"]
    more["place_of"] = place_of // length * (length + 3) + place_of % length
    with torch.inference_mode():
        assert torch.allclose(quick(**more)[:rows], quick(**inputs), atol=1e-5)


def _operations(model: Any, file: Path, *, quick: bool) -> int:
    graph, example, sides = onnx_export._texts(model, torch.full((2, 16), 5))
    assert isinstance(graph, unpadded_encoder.Unpadded) == quick
    with torch.no_grad(), onnx_export._quiet():
        torch.onnx.export(graph.eval(), tuple(example.values()), file, dynamo=True, dynamic_shapes=sides, verbose=False)
    return len(onnx.load(file).graph.node)


def test_there_are_few_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = _operations(model_of("bert"), tmp_path / "after.onnx", quick=True)
    monkeypatch.setattr(unpadded_encoder, "unpadded", lambda _: None)
    before = _operations(model_of("bert"), tmp_path / "before.onnx", quick=False)
    assert after < 0.7 * before, (after, before)


@pytest.mark.parametrize("made", [_with_another_activation, _with_adapters, _that_reads_all])
def test_what_it_does_not_know_is_left_alone(made: Any) -> None:
    model = made()
    before = _said(model, **asked())
    assert unpadded_encoder.unpadded(model) is None
    assert torch.equal(_said(model, **asked()), before)


def test_an_encoder_that_would_say_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("bert", initializer_range=0.3)
    before = _said(model, **asked())
    own = unpadded_encoder._Block.forward

    def forgets_the_mask(self: Any, x: torch.Tensor, layout: Any) -> torch.Tensor:
        return own(self, x, replace(layout, mask=0 * layout.mask))

    monkeypatch.setattr(unpadded_encoder._Block, "forward", forgets_the_mask)
    assert unpadded_encoder.unpadded(model) is None
    assert torch.equal(_said(model, **asked()), before)
