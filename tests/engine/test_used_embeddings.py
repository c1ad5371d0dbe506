"""Only used embedding rows are trained; the one that fills up rows is used by every batch."""

from pathlib import Path

import pytest
import torch

from sft_magics.engine.models import used_embeddings
from sft_magics.engine.tasks import find
from tests.engine import house, tiny


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "bert"])
def test_padding_is_among_the_rows_that_are_used(kind: str, tmp_path: Path) -> None:
    base = tiny.save(tmp_path, tiny.classifier(kind), tiny.tokenizer(pad_token="39"))  # a token that no text has
    task = find("text-classification").load({"kind": "folder", "path": str(base)}, house.LABELS, {})
    rows = task.encode(["the good film", "a"], house.LABELS)
    task.economize(rows, {"method": "full"})
    assert any(isinstance(module, used_embeddings.UsedEmbedding) for module in task.model.modules())
    task.model.train()
    loss = task.loss(task.collate(rows, [0, 1], 0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert bool(torch.isfinite(loss))
