"""Instruction tuning: packed rows see themselves alone, the loss is on answers, LoRA leaves the base as it was.

Most tests train a Llama of half a million drawn weights under the packaged model's tokenizer and chat template.
"""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sft_magics.core import errors
from sft_magics.core.events import Remark, StepDone
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build
from sft_magics.datasets.chats import chat_tables
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.inputs import packing
from sft_magics.engine.inputs.chats import Chat
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import language_models, tensor_files
from sft_magics.engine.tasks import find
from sft_magics.engine.tasks.causal_lm import CausalLM
from tests.engine import tiny
from tests.engine.house import Ear

USUAL: dict[str, Any] = {
    "epochs": 1.0, "lr": 0.01, "batch": 8, "weight_decay": 0.0, "warmup": 0.1, "max_length": 128, "seed": 1,
    "precision": "fp32", "device": "cpu", "threads": 1, "checkpoint_seconds": 3600.0, "method": "lora", "lora_rank": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama with drawn weights, and the real tokenizer."""
    folder = tmp_path_factory.mktemp("llama")
    real = language_models._converted(fetch("smollm2"))
    tokenizer = AutoTokenizer.from_pretrained(real)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("says")
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    table = pd.DataFrame(
        {
            "prompt": [f"Say {words[i % 8]} and {words[i // 8]}." + " Please." * (i % 5) for i in range(64)],
            "response": [f"{words[i % 8]}, {words[i // 8]}" for i in range(64)],
        }
    )
    return root / "sft" / build("says", table, workspace=Workspace(root / "sft").prepare()).file


def order(data: Path, base: Path, **options: Any) -> dict[str, Any]:
    return {
        "task": "causal-lm", "start": {"kind": "folder", "path": str(base)}, "labels": [], "data": str(data),
        "options": {**USUAL, **options},
    }  # fmt: skip


def loaded(base: Path, **options: Any) -> CausalLM:
    task = find("causal-lm").load({"kind": "folder", "path": str(base)}, [], {**USUAL, **options})
    assert isinstance(task, CausalLM)
    task.suit(bf16=False)
    task.model.eval()
    return task


PROMPTS = ["What is up?", "Why does the sun rise in the east and set in the west?", "Hi", "Count to three, slowly."]
ANSWERS = ["The sky.", "The earth turns.", "Hello to you.", "One. Two. Three."]


def test_packed_rows_see_themselves_alone(base: Path) -> None:
    task = loaded(base)
    rows = task.encode(PROMPTS, ANSWERS)
    together = task.collate(rows, range(4))
    assert together["input_ids"].shape[0] == 1, "they share a pack"
    with torch.no_grad():
        packed = task.scores(together)
        alone = [task.scores(task.collate(rows, [i]))[0] for i in range(4)]
    for one, other in zip(packed, alone, strict=True):
        assert one["tokens"] == other["tokens"] > 0
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_the_loss_is_that_of_transformers_on_the_answers(base: Path) -> None:
    task = loaded(base, method="full")
    rows = task.encode(PROMPTS, ANSWERS)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    total, tokens = 0.0, 0
    for ids, start in zip(rows.ids, rows.starts or [], strict=True):
        labels = torch.tensor([[packing.IGNORED] * start + ids[start:]])
        with torch.no_grad():
            said = model(input_ids=torch.tensor([ids]), labels=labels)
        total += float(said.loss) * (len(ids) - start)
        tokens += len(ids) - start
    with torch.no_grad():
        ours = task.loss(task.collate(rows, range(4)))
    assert float(ours) == pytest.approx(total / tokens, rel=1e-4)


def test_prompts_are_the_template_s_and_answers_end_as_it_says(base: Path) -> None:
    task = loaded(base)
    rows = task.encode(PROMPTS[:1], ANSWERS[:1])
    assert rows.starts is not None
    said = str(task.tokenizer.decode(rows.ids[0]))
    assert said.endswith("<|im_start|>assistant\nThe sky.<|im_end|>")
    assert task.tokenizer.decode(rows.ids[0][rows.starts[0] :]) == "The sky.<|im_end|>"
    chat = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                       {"role": "user", "content": "c"}])  # fmt: skip
    assert [m["content"] for m in chat_tables.messages(chat)] == ["a", "b", "c"]
    turns = task.encode([chat], ["d"])
    assert turns.starts is not None
    assert task.tokenizer.decode(turns.ids[0][turns.starts[0] :]) == "d<|im_end|>"


CHAT = [("user", "Hi"), ("assistant", "Hello."), ("user", "And now?"), ("assistant", "Bye.")]


def written(said: list[tuple[str, str]], silent: tuple[int, ...] = ()) -> str:
    return json.dumps(
        [{"role": r, "content": c, **({"weight": 0} if i in silent else {})} for i, (r, c) in enumerate(said)]
    )


@pytest.mark.parametrize("template", ["its own", "none"])
def test_every_answer_of_a_chat_has_loss_but_those_of_weight_0(base: Path, template: str) -> None:
    task = loaded(base)
    if template == "none":
        task.tokenizer.chat_template = None
        task.chat = Chat(task.tokenizer, "the base")
    end = "<|im_end|>" if template == "its own" else task.tokenizer.eos_token
    for silent, said in (((), f"Hello.{end}Bye.{end}"), ((1,), f"Bye.{end}")):
        rows = task.encode([written(CHAT[:3], silent), "Hi"], [CHAT[3][1], "Hello."])
        batch = task.collate(rows, [0, 1])
        learned = (batch["labels"] != packing.IGNORED) & (batch["rows"] == 0)
        assert task.tokenizer.decode(batch["labels"][learned]) == said
        assert task.weight(batch) == rows.learned(0) + rows.learned(1)
        shown = task.turned_back(rows, batch, [0])[0]["pieces"]
        assert [p["kind"] for p in shown if p["kind"] == "learned"] == ["learned"] * said.count(end)


def test_the_model_reads_the_same_tokens_when_it_learns_and_when_it_is_asked(base: Path) -> None:
    task = loaded(base)
    rows = task.encode([written(CHAT[:3])], ["Bye."])
    assert rows.starts is not None
    assert rows.ids[0][: rows.starts[0]] == task.encode([written(CHAT[:3])], None).ids[0]


def test_answers_that_the_template_rewrites_are_said_not_to_be_learned(base: Path) -> None:
    task = loaded(base)
    task.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>"
        "{{ m.content if loop.index >= messages|length else m.content.split('#')[-1] }}</end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    task.chat = Chat(task.tokenizer, "the base")
    rows = task.encode([written([CHAT[0], ("assistant", "think#Hello."), CHAT[2]])], ["Bye."])
    assert (rows.rewritten, rows.earlier) == (1, [[]])
    assert "1 earlier answers is read and not learned" in task.remarks(rows)[1]


def test_packs_are_full_and_hold_every_row_once() -> None:
    lengths = [100, 300, 250, 40, 512, 7, 130]
    made = packing.packs(lengths)
    assert sorted(i for pack in made for i in pack) == list(range(7))
    assert all(sum(lengths[i] for i in pack) <= 512 for pack in made)
    assert len(made) == 3
    assert packing.packs([600, 5]) == [[0], [1]]


def test_a_part_of_a_batch_weighs_what_it_has_of_answers(base: Path) -> None:
    task = loaded(base)
    rows = task.encode(PROMPTS, ANSWERS)
    assert rows.starts is not None
    batch = task.collate(rows, range(4))
    assert task.weight(batch) == sum(len(i) - s for i, s in zip(rows.ids, rows.starts, strict=True))


@pytest.fixture(scope="module")
def trained(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[worker.Trained, Ear]:
    ear = Ear()
    return worker.train(order(data, base, epochs=10.0), ear, tmp_path_factory.mktemp("run")), ear


def test_lora_learns_and_leaves_the_base_as_it_was(trained: tuple[worker.Trained, Ear], base: Path) -> None:
    found, ear = trained
    losses = [e.loss for e in ear.all(StepDone)]
    assert losses[-1] < losses[0] - 0.5
    assert 1.0 < found.metrics["perplexity"].value < math.exp(losses[0])
    assert 0.0 <= found.metrics["token_accuracy"].value <= 1.0
    kept, before = load_file(found.folder / "model.safetensors"), load_file(base / "model.safetensors")
    assert kept.keys() == before.keys()
    assert all(torch.equal(kept[n].float(), before[n].float().to(kept[n].dtype).float()) for n in kept)
    adapter = load_file(found.folder / "adapter" / "adapter_model.safetensors")
    assert all("lora_" in n for n in adapter)
    assert any(float(t.abs().max()) > 0 for n, t in adapter.items() if "lora_B" in n)
    assert [e.text for e in ear.all(Remark) if "--method lora" in e.text]


def test_what_was_learned_is_compared_with_the_base_before_training(
    trained: tuple[worker.Trained, Ear], data: Path, base: Path, tmp_path: Path
) -> None:
    found, ear = trained
    (before,) = [e.text for e in ear.all(Remark) if e.text.startswith("Before training, on the validation rows: perp")]
    assert float(before.split("perplexity ")[1].split(",")[0]) > found.metrics["perplexity"].value
    assert found.concern == ""
    nothing = worker.train(order(data, base, lr=1e-12), Ear(), tmp_path / "run")
    assert "is no better than before training" in nothing.concern


def test_peft_loads_what_was_saved_and_it_answers_alike(trained: tuple[worker.Trained, Ear]) -> None:
    folder = trained[0].folder
    stranger = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), folder / "adapter"
    ).eval()
    task = loaded(folder)
    rows = task.encode(PROMPTS[:1], ANSWERS[:1])
    with torch.no_grad():
        theirs = stranger(input_ids=torch.tensor([rows.ids[0]])).logits
        ours = task.model(input_ids=torch.tensor([rows.ids[0]])).logits
    assert torch.allclose(theirs, ours, atol=1e-4)


def test_a_saved_folder_answers_as_it_was_measured(trained: tuple[worker.Trained, Ear], data: Path) -> None:
    from sft_magics.datasets import read_rows

    found = trained[0]
    frame = read_rows(data, "validation")
    predictor = Predictor(found.folder, threads=1, precision="fp32")
    again = predictor.report(list(frame["text"]), list(frame["label"]))
    assert again.metrics["perplexity"].value == pytest.approx(found.metrics["perplexity"].value, rel=2e-2)
    answers = predictor.scores(list(frame["text"])[:3])
    assert all(isinstance(a["text"], str) and 0.0 <= a["confidence"] <= 1.0 for a in answers)
    alone = [predictor.scores([text])[0]["text"] for text in list(frame["text"])[:3]]
    assert alone == [a["text"] for a in answers], "an answer does not depend on what is asked beside it"


def test_it_goes_on_from_a_version_and_from_a_checkpoint(
    trained: tuple[worker.Trained, Ear], data: Path, tmp_path: Path
) -> None:
    again = worker.train(order(data, trained[0].folder, epochs=1.0), Ear(), tmp_path / "more")
    assert again.metrics["perplexity"].value < trained[0].metrics["perplexity"].value * 1.5
    whole = worker.train(order(data, trained[0].folder, epochs=2.0), Ear(), tmp_path / "whole")
    stopped = worker.train(
        order(data, trained[0].folder, epochs=2.0), Ear(lambda e: isinstance(e, StepDone)), tmp_path / "stopped"
    )
    assert stopped.stopped
    checkpoint = next((tmp_path / "stopped" / "checkpoints").glob("step-*"))
    assert all("lora_" in n for n in tensor_files.part(checkpoint)), "only what learns is written"
    resumed = worker.train(order(data, trained[0].folder, epochs=2.0), Ear(), tmp_path / "stopped")
    one, two = (load_file(t.folder / "adapter" / "adapter_model.safetensors") for t in (whole, resumed))
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_full_fine_tuning_changes_the_base(data: Path, base: Path, tmp_path: Path) -> None:
    found = worker.train(order(data, base, method="full", lr=0.001), Ear(), tmp_path)
    kept, before = load_file(found.folder / "model.safetensors"), load_file(base / "model.safetensors")
    assert not any(torch.equal(kept[n], before[n]) for n in kept if "mlp" in n)
    assert not (found.folder / "adapter").exists()


def test_answers_that_do_not_fit_are_said_or_refused(data: Path, base: Path, tmp_path: Path) -> None:
    task = loaded(base, max_length=32)
    with pytest.raises(errors.DataProblem, match="No answer is left to learn"):
        task.encode(["a " * 100], ["b"])
    rows = task.encode(["hi", "a " * 100], ["a very long answer " * 20, "b"])
    assert list(rows.over) == list(task.over(rows)) == [0, 1]
    assert min(task.over(rows).values()) > 32
    (said,) = task.warnings(rows)
    assert said.startswith("1 training row has no token of an answer left (50%): all their labels are masked")
    with pytest.raises(errors.ModelProblem, match="--method head is not there for causal-lm"):
        worker.train(order(data, base, method="head"), Ear(), tmp_path)


def test_weights_that_do_not_fit_are_refused_by_name(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for file in base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(base / "model.safetensors")
    gone = "model.layers.1.mlp.up_proj.weight"
    save_file({n: t for n, t in tensors.items() if n != gone}, tmp_path / "model.safetensors")
    with pytest.raises(errors.ModelProblem, match=f"fit only in part; are missing: {gone}"):
        loaded(tmp_path)
    save_file({**tensors, "model.extra": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(errors.ModelProblem, match=r"belong to no layer: model\.extra"):
        loaded(tmp_path)


def test_the_packaged_model_answers_in_words() -> None:
    """The real SmolLM2: unpacked once, then loaded from the cache."""
    task = find("causal-lm").load({"kind": "folder", "path": str(fetch("smollm2"))}, [], {"max_new_tokens": 12})
    assert task.facts()["parameters"] == 134_515_008
    task.suit(bf16=False)
    task.model.eval()
    rows = task.encode(["What is the capital of France?"], None)
    with torch.inference_mode():
        (said,) = task.scores(task.collate(rows, [0]))
    assert "Paris" in said["text"]


def test_a_batch_without_an_answer_teaches_nothing_and_breaks_nothing(base: Path) -> None:
    task = loaded(base, max_length=32)
    rows = task.encode(["a " * 100, "hi"], ["b", "c"])
    batch = task.collate(rows, [0])
    assert task.weight(batch) == 0.0
    assert float(task.loss(batch).detach()) == 0.0


def test_full_fine_tuning_keeps_its_precision_and_takes_in_what_lora_learned(
    trained: tuple[worker.Trained, Ear], base: Path, tmp_path: Path
) -> None:
    lora = loaded(trained[0].folder)
    full = loaded(trained[0].folder, method="full")
    assert not any("lora_" in n for n, _ in full.model.named_parameters())
    assert all(p.requires_grad for p in full.model.parameters())
    rows = lora.encode(PROMPTS[:1], ANSWERS[:1])
    with torch.no_grad():
        one, two = (t.model(input_ids=torch.tensor([rows.ids[0]])).logits for t in (lora, full))
    assert torch.allclose(one, two, atol=2e-2)
    config = json.loads((base / "config.json").read_text())
    (tmp_path / "half").mkdir()
    for file in base.iterdir():
        (tmp_path / "half" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "half" / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    task = loaded(tmp_path / "half", method="full")
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.add_(1e-4)  # less than bfloat16 can tell
    task.save(tmp_path / "out")
    again = loaded(tmp_path / "out", method="full")
    assert all(torch.equal(p, q) for p, q in zip(task.model.parameters(), again.model.parameters(), strict=True))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"


def test_rows_at_the_end_of_the_context_are_measured_and_answered(tmp_path: Path) -> None:
    """Prompts of 56 and of 70 tokens for 64 positions: the one has a short answer, the other none."""
    saved = tiny.save(tmp_path / "base", tiny.language("gpt2"))
    find("causal-lm").load({"kind": "folder", "path": str(saved)}, [], {"method": "full"}).save(tmp_path / "version")
    texts, targets = ["red " * 50, "blue " * 70, "say"], ["one two", "three", "one"]
    spec = {"folder": str(tmp_path / "version"), "texts": texts, "targets": targets, "worst": 9, "wrong": 0.0}
    found = worker.evaluate(spec, Ear())
    assert sorted(row["text"].split()[0] for row in found["worst"]) == ["red", "say"]
    assert all(row["answer"]["text"] for row in found["worst"])
