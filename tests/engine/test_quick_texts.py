"""What makes text models quick on a CPU computes what it stands for: dropout, attention, embeddings in part."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from sft_magics.engine.inference import scoring
from sft_magics.engine.kernels import attention, dropout, fused_qkv
from sft_magics.engine.models import tensor_files, used_embeddings
from sft_magics.engine.runtime import hardware
from sft_magics.engine.training import optimizers


def _bert(**more: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=300, num_labels=2, **more,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    return BertForSequenceClassification(config)


def _batch(width: int = 12, high: int = 20) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, high, (4, width), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, width // 2 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": torch.tensor([0, 1, 1, 0])}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_rate_and_keeps_the_mean(kind: torch.dtype) -> None:
    torch.manual_seed(3)
    rows = torch.ones(1000, 1001, dtype=kind)
    said = dropout.dropped(rows, 0.1)
    assert float((said == 0).float().mean()) == pytest.approx(0.1, abs=0.002)
    assert float(said.float().mean()) == pytest.approx(1.0, abs=0.005)
    assert len(said.unique()) == 2
    # neighbors are dropped independently: both of a pair in a hundredth of all cases
    gone = (said == 0)[:, :1000]
    assert float((gone[:, ::2] & gone[:, 1::2]).float().mean()) == pytest.approx(0.01, abs=0.001)


def test_dropout_follows_from_torchs_generator_and_its_gradient_from_what_it_dropped() -> None:
    rows = torch.randn(50, 7, requires_grad=True)
    torch.manual_seed(5)
    first, second = dropout.dropped(rows, 0.5), dropout.dropped(rows, 0.5)
    torch.manual_seed(5)
    again = dropout.dropped(rows, 0.5)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    first.sum().backward()
    assert rows.grad is not None
    assert torch.equal(rows.grad == 0, first == 0)


def test_dropout_is_quickened_only_where_it_learns() -> None:
    net = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.0), nn.Dropout(1.0))
    dropout.quicken(net)
    rows = torch.ones(200, 10)
    assert float((net.train()[0](rows) == 0).float().mean()) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(net[1](rows), rows)
    assert not net[2](rows).any()
    assert torch.equal(net.eval()[0](rows), rows)


@pytest.mark.parametrize("width", [12, 280])  # the second is longer than what it does itself
def test_attention_says_what_torchs_says(width: int) -> None:
    plain = _bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    quick = copy.deepcopy(plain)
    attention.quicken(quick)
    assert quick.config._attn_implementation == attention.NAME
    said, known = quick(**_batch(width)), plain(**_batch(width))
    torch.testing.assert_close(said.logits, known.logits, rtol=1e-4, atol=1e-5)
    said.loss.backward()
    known.loss.backward()
    for one, other in zip(quick.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_attention_in_bfloat16_has_no_holes_where_texts_are_filled_up() -> None:
    quick = _bert(attention_probs_dropout_prob=0.2).train()
    attention.quicken(quick)
    with torch.autocast("cpu", torch.bfloat16):
        assert bool(torch.isfinite(quick(**_batch()).loss))


def test_a_saved_model_names_nothing_of_ours(tmp_path: Path) -> None:
    quick = _bert()
    attention.quicken(quick)
    quick.config.save_pretrained(tmp_path)
    assert attention.NAME not in (tmp_path / "config.json").read_text()
    quick.save_pretrained(tmp_path)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def _learned(model: nn.Module, steps: int) -> torch.optim.Optimizer:
    optimizer = optimizers.adamw(model, 1e-2, 0.1)
    used_embeddings.follow(model, optimizer)
    for step in range(steps):
        optimizers.set_rate(optimizer, 1e-2 / (step + 1))
        model(**_batch()).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def test_embeddings_learned_in_part_are_those_learned_whole() -> None:
    plain = _bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    part = copy.deepcopy(plain)
    used_embeddings.reduce(part, _batch()["input_ids"].tolist())
    split = part.bert.embeddings.word_embeddings
    assert isinstance(split, used_embeddings.UsedEmbedding)
    assert len(split.used) == len({0, *_batch()["input_ids"].flatten().tolist()}) < 60
    start = plain.bert.embeddings.word_embeddings.weight.detach().clone()
    _learned(plain, 5)
    _learned(part, 5)
    found = used_embeddings.whole_of(part, tensor_files.weights_of(part))
    known = tensor_files.weights_of(plain)
    assert found.keys() == known.keys()
    for name, tensor in known.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
    name = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(found[name][50], start[50])  # no text uses it, and it has decayed
    strange = {**_batch(), "input_ids": torch.randint(1, 60, (4, 12))}
    torch.testing.assert_close(part.eval()(**strange).logits, plain.eval()(**strange).logits, rtol=1e-4, atol=1e-5)


def test_whole_embeddings_are_taken_back_where_they_are_split(tmp_path: Path) -> None:
    part, other = _bert(), _bert()
    for model in (part, other):
        used_embeddings.reduce(model, [[5, 6, 7]])
    _learned(part, 0)
    with torch.no_grad():
        part.bert.embeddings.word_embeddings.used.add_(1.0)
        part.bert.embeddings.word_embeddings.decayed.mul_(0.5)
    tensor_files.save_tensors(
        used_embeddings.whole_of(part, tensor_files.weights_of(part)), tmp_path / "model.safetensors"
    )
    stored = load_file(tmp_path / "model.safetensors")
    tensor_files.put(other, used_embeddings.take(other, stored))
    again = used_embeddings.whole_of(other, tensor_files.weights_of(other))
    assert again.keys() == stored.keys()
    assert all(torch.equal(again[n], stored[n]) for n in stored)


def test_words_of_no_training_text_are_read_before_anything_was_learned() -> None:
    model = _bert().eval()
    ids = torch.tensor([[40, 41, 42]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
    used_embeddings.reduce(model, [[5, 6, 7]])
    task: Any = SimpleNamespace(
        model=model, collate=lambda *_: {"input_ids": ids}, scores=lambda batch: model(**batch).logits
    )
    rows: Any = SimpleNamespace(lengths=[3])
    (said,) = scoring.score(task, rows, hardware.choose("cpu", "fp32", 1))
    assert torch.allclose(said, before[0], atol=1e-6)


def test_embeddings_stay_whole_where_nothing_is_gained_or_a_head_shares_them() -> None:
    many = _bert()
    used_embeddings.reduce(many, [list(range(50))])
    shared = _bert()
    shared.classifier.weight = nn.Parameter(torch.zeros(2, 32))
    shared.register_parameter("again", shared.bert.embeddings.word_embeddings.weight)
    used_embeddings.reduce(shared, [[1, 2]])
    frozen = _bert()
    frozen.bert.embeddings.word_embeddings.weight.requires_grad = False
    used_embeddings.reduce(frozen, [[1, 2]])
    for model in (many, shared, frozen):
        assert type(model.bert.embeddings.word_embeddings) is nn.Embedding
    used_embeddings.reduce(nn.Linear(2, 2), [[1]])  # has none


def test_queries_keys_and_values_together_are_what_they_are_alone() -> None:
    plain = _bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    quick = copy.deepcopy(plain)
    fused_qkv.quicken(quick)
    assert sum("forward" in vars(m) for m in quick.modules()) == 6
    for model in (plain, quick):
        with torch.autocast("cpu", torch.bfloat16):
            model(**_batch()).loss.backward()
    for (name, one), other in zip(quick.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert one.grad.dtype == torch.float32
        far = float((one.grad - other.grad).norm())
        # the two sum their parts in another order, and round to bfloat16 at other places
        assert far <= 0.03 * float(other.grad.norm()) + 1e-4, name
    exact = copy.deepcopy(quick)
    torch.testing.assert_close(exact(**_batch()).logits, plain(**_batch()).logits)


def test_layers_that_are_asked_in_another_order_or_for_something_else_answer_all_the_same() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 4) for _ in range(3)]
    joint = fused_qkv.FusedProjection(tuple(layers))
    one, other = torch.randn(2, 5, 6), torch.randn(3, 6)
    for which, rows in ((2, one), (0, one), (1, other), (1, one), (0, other), (1, other), (2, other)):
        torch.testing.assert_close(joint(which, rows, torch.float32), layers[which](rows))


def test_gradients_are_shortened_alike_by_fused_adamw() -> None:
    torch.manual_seed(0)
    models = [nn.Linear(4, 3) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    rows = torch.randn(8, 4)
    optimizer_ours, optimizer_plain = (optimizers.adamw(m, 0.1, 0.0) for m in models)
    for scale in (100.0, 0.001):  # one is too long, one is not
        for model in models:
            model.zero_grad()
            (model(rows).square().mean() * scale).backward()
        norm = nn.utils.get_total_norm([p.grad for p in models[0].parameters() if p.grad is not None])
        optimizers.shorten(optimizer_ours, norm, 1.0)
        optimizer_ours.step()
        nn.utils.clip_grad_norm_(models[1].parameters(), 1.0)
        optimizer_plain.step()
        for mine, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)
            torch.testing.assert_close(optimizer_ours.state[mine]["exp_avg"], optimizer_plain.state[theirs]["exp_avg"])
