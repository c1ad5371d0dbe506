"""Rows of a pack are apart in most architectures; where they are not, rows are padded, and it is said."""

from pathlib import Path

import pytest
import torch

from sft_magics.core import errors
from sft_magics.engine.models import pack_isolation
from sft_magics.engine.tasks import find
from tests.engine import tiny

CPU = torch.device("cpu")
APART = ("llama", "qwen2", "gemma", "phi", "falcon", "gpt2", "gpt_neox", "mistral", "gpt_neo")
MIXED = ("opt", "bloom", "mpt", "xglm", "mamba")
_SIZES: dict[str, dict[str, object]] = {
    "gemma": {"num_key_value_heads": 1, "head_dim": 16}, "mistral": {"sliding_window": 8, "num_key_value_heads": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32}, "bloom": {"n_head": 2},
    "mpt": {"d_model": 32, "n_heads": 2, "n_layers": 2, "max_seq_len": 64, "max_position_embeddings": None},
    "xglm": {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 2}, "mamba": {"state_size": 4},
}  # fmt: skip


@pytest.mark.parametrize("kind", [*APART, *MIXED])
def test_a_row_in_a_batch_has_the_loss_it_has_alone(kind: str, tmp_path: Path) -> None:
    base = tiny.save(tmp_path, tiny.language(kind, **_SIZES.get(kind, {})))
    task = find("causal-lm").load({"kind": "folder", "path": str(base)}, [], {"method": "full"})
    task.suit(bf16=False)
    task.probe()
    task.model.eval()
    rows = task.encode(["say one", "say the small red river .", "count"], ["one two", "blue", "one two three"])
    with torch.no_grad():
        together = task.scores(task.collate(rows, [0, 1, 2]))
        alone = [task.scores(task.collate(rows, [i]))[0] for i in range(3)]
    for one, other in zip(together, alone, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    said = any(remark.startswith("Rows are padded, not packed") for remark in task.remarks(rows))
    assert said == (kind in MIXED)
    assert pack_isolation.packs(task.model, CPU) == (kind in APART)


def test_an_encoder_is_no_causal_language_model(tmp_path: Path) -> None:
    base = tiny.save(tmp_path, tiny.language("bert"))
    task = find("causal-lm").load({"kind": "folder", "path": str(base)}, [], {"method": "full"})
    with pytest.raises(errors.ModelProblem, match="is no causal language model"):
        task.probe()


def test_the_check_holds_in_half_precision_and_beside_lora() -> None:
    for kind, apart in (("llama", True), ("opt", False)):
        model = tiny.language(kind, **_SIZES.get(kind, {})).to(torch.bfloat16).train()
        assert pack_isolation.packs(model, CPU) == apart
        assert model.training
