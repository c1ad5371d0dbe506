"""Tokenizer and weights belong together: a missing vocabulary, tokens without embeddings, texts it does not know."""

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from sft_magics.core import errors
from sft_magics.core.events import Remark
from sft_magics.engine.inputs import tokenization
from sft_magics.engine.jobs import worker
from sft_magics.engine.tasks import Task, find
from tests.engine import house, tiny

LABELS = house.LABELS


def load(folder: Path, task: str = "text-classification") -> Task:
    found = find(task).load({"kind": "folder", "path": str(folder)}, LABELS if task.startswith("text") else [], {})
    found.probe()
    return found


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_base_without_a_tokenizer_is_refused(kind: str, tmp_path: Path) -> None:
    tiny.classifier(kind).save_pretrained(tmp_path)
    with pytest.raises(errors.ModelProblem, match="tokenizer"):
        load(tmp_path)
    tiny.language("gpt2").save_pretrained(tmp_path)
    with pytest.raises(errors.ModelProblem, match="tokenizer"):
        load(tmp_path, "causal-lm")


def test_tokens_without_embeddings_are_refused_by_name(tmp_path: Path) -> None:
    words = tiny.tokenizer()
    words.add_tokens(["zebra", "quagga"])
    tiny.save(tmp_path, tiny.classifier("bert"), words)
    with pytest.raises(errors.ModelProblem, match=r"of 2 tokens \(zebra, quagga\) there is no embedding among"):
        load(tmp_path)


def test_a_padding_token_beyond_the_embeddings_is_replaced(tmp_path: Path) -> None:
    words = tiny.tokenizer(pad_token=None)
    words.add_special_tokens({"pad_token": "[PAD]"})
    tiny.save(tmp_path, tiny.language("llama"), words)
    task = load(tmp_path, "causal-lm")
    assert task.tokenizer.pad_token == "</s>"  # type: ignore[attr-defined]


@pytest.mark.parametrize("gone", [("pad_token",), ("pad_token", "eos_token"), ("pad_token", "eos_token", "unk_token")])
def test_a_tokenizer_without_padding_gets_a_token_that_is_there(gone: tuple[str, ...], tmp_path: Path) -> None:
    tiny.save(tmp_path, tiny.classifier("gpt2", pad_token_id=None), tiny.tokenizer(**dict.fromkeys(gone)))
    task = load(tmp_path)
    assert task.model.config.pad_token_id is not None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "deberta-v2", "distilbert", "albert", "electra", "xlnet", "llama", "qwen2"]
)
def test_tiny_bases_of_many_kinds_classify_a_longest_text(kind: str, tmp_path: Path) -> None:
    sizes = {"max_position_embeddings": None, "d_head": 16, "d_inner": 64} if kind == "xlnet" else {}
    base = tiny.classifier(kind, **sizes)
    fresh = load(tiny.save(tmp_path, base)).fresh
    assert fresh
    assert all(name.startswith(("classifier.", "score.", "logits_proj.")) for name in fresh), (
        "all but the head is there"
    )


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "deberta-v2", "distilbert", "albert", "electra", "xlnet", "gpt2", "gpt_neox"]
)
def test_of_a_base_with_a_head_for_words_the_body_is_taken(kind: str, tmp_path: Path) -> None:
    sizes = {"max_position_embeddings": None, "d_head": 16, "d_inner": 64} if kind == "xlnet" else {}
    base = tiny.masked(kind, **sizes) if kind not in ("gpt2", "gpt_neox", "xlnet") else tiny.language(kind, **sizes)
    task = load(tiny.save(tmp_path, base))
    body = base.base_model.state_dict()
    taken = task.model.base_model.state_dict()  # type: ignore[union-attr, operator]
    assert all(torch.equal(tensor, taken[name]) for name, tensor in body.items() if "pooler" not in name)


def test_a_sequence_to_sequence_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(vocab_size=99, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    tiny.save(tmp_path, model)
    with pytest.raises(errors.ModelProblem, match="cannot be loaded as a causal language model"):
        load(tmp_path, "causal-lm")


@pytest.mark.parametrize("files", [("vocab.txt",), ("tokenizer.json",), ("vocab.txt", "tokenizer_config.json")])
def test_one_file_of_a_tokenizer_is_enough_if_it_holds_the_vocabulary(files: tuple[str, ...], tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tiny.WORDS]
    tiny.classifier("bert").save_pretrained(tmp_path)
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    contents = {
        "vocab.txt": "\n".join(words), "tokenizer.json": inner.to_str(),
        "tokenizer_config.json": '{"tokenizer_class": "BertTokenizer"}',
    }  # fmt: skip
    for name in files:
        (tmp_path / name).write_text(contents[name])
    task = load(tmp_path)
    good = words.index("good")
    assert good in task.encode(["good"], None).ids[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_damaged_file_is_no_defect(name: str, tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.classifier("bert"))
    for i, content in enumerate((b"", b"{", b"[]", b'{"model": 3, "model_type": 7}', b"\xff\xfe\x00")):
        other = tmp_path / str(i)
        shutil.copytree(base, other)
        (other / name).write_bytes(content)
        if name == "tokenizer_config.json" and content == b'{"model": 3, "model_type": 7}':
            continue  # a configuration may hold more than is known
        with pytest.raises(errors.ModelProblem):
            load(other)


def test_the_share_of_unknown_tokens_is_said_or_refused(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.classifier("bert"))

    def run(name: str, texts: list[str]) -> list[str]:
        file = house.table(tmp_path / name, texts, LABELS * 6, ["train"] * 8 + ["validation"] * 4)
        ear = house.Ear()
        worker.prepare(house.order(file, start=base), ear, tmp_path / name)
        return [remark.text for remark in ear.all(Remark) if "unknown to the base" in remark.text]

    assert run("known", ["the good film"] * 12) == []
    (said,) = run("half", ["the good ñandú"] * 12)
    assert said.startswith("33% of the tokens of the training texts (8 of 24) are unknown")
    with pytest.raises(errors.ModelProblem, match="does not know 100% of the tokens"):
        run("none", ["ñandú qué"] * 12)


def test_tokenizers_of_bytes_know_everything() -> None:
    words = tiny.tokenizer(unk_token="</s>")
    assert tokenization.unknown(words, [[2, 2, 2]], "x") == []
