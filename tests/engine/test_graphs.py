"""Encoders that are exported as few operations say what their own modules say, or are left alone."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch.export import Dim

from sft_magics.engine import exporting, graphs
from tests.engine.test_first import KINDS, asked, model_of
from tests.engine.test_lean import _that_reads_all, _with_adapters, _with_another_activation


def _said(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs).logits
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_its_modules_say(kind: str) -> None:
    model = model_of(kind, initializer_range=0.3)  # so that attention is far from even, and a mask matters
    truth, names = _said(model, **asked()), list(model.state_dict())
    assert truth.std() > 0.1
    assert graphs.simplify(model)
    assert torch.allclose(_said(model, **asked()), truth, atol=1e-4)
    assert list(model.state_dict()) == names


def _operations(model: Any, file: Path) -> int:
    ids = torch.full((2, 16), 5)
    sides = {name: {0: Dim("rows"), 1: Dim("length")} for name in ("input_ids", "attention_mask")}
    graph, example = exporting._Texts(model).eval(), (ids, torch.ones_like(ids))
    with torch.no_grad(), exporting._quiet():
        torch.onnx.export(graph, example, file, dynamo=True, dynamic_shapes=sides, verbose=False)
    return len(onnx.load(file).graph.node)


def test_there_are_few_operations(tmp_path: Path) -> None:
    model = model_of("bert")
    before = _operations(model, tmp_path / "before.onnx")
    assert graphs.simplify(model)
    after = _operations(model, tmp_path / "after.onnx")
    assert after < 0.7 * before, (after, before)


@pytest.mark.parametrize("made", [_with_another_activation, _with_adapters, _that_reads_all])
def test_what_it_does_not_know_is_left_alone(made: Any) -> None:
    model = made()
    before = _said(model, **asked())
    assert not graphs.simplify(model)
    assert torch.equal(_said(model, **asked()), before)


def test_an_encoder_that_would_say_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("bert", initializer_range=0.3)
    before = _said(model, **asked())
    own = graphs._Block.forward
    monkeypatch.setattr(graphs._Block, "forward", lambda self, x, mask: own(self, x, 0 * mask))  # forgets the mask
    assert not graphs.simplify(model)
    assert torch.equal(_said(model, **asked()), before)
