"""Training on real sentences: as exact as a plain loop, and what it says and leaves behind."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sft_magics.core import errors
from sft_magics.core.events import CheckpointSaved, EpochDone, Remark, RunPlanned, StepDone
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.inputs import batching
from sft_magics.engine.jobs import worker
from sft_magics.engine.kernels import encoder_fast_path
from sft_magics.engine.training import optimizers
from tests.engine.house import LABELS, Ear, films, order, table


def plain_loop(spec: dict, steps: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The same training as anyone would write it, with torch's own unfused AdamW and its scheduler."""
    from sft_magics.datasets import read_rows

    rows = read_rows(Path(spec["data"]), "train")
    base, options = spec["start"]["path"], spec["options"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.set_num_threads(options["threads"])
    torch.manual_seed(options["seed"])
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, dtype=torch.float32)
    model.eval()  # no dropout
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": rest, "weight_decay": 0.0}],
        lr=options["lr"], weight_decay=options["weight_decay"], fused=False, foreach=False,
    )  # fmt: skip
    lengths = [len(ids) for ids in tokenizer(list(rows["text"]), truncation=True, max_length=48)["input_ids"]]
    losses = []
    for step, indices in enumerate(batching.epoch_batches(lengths, options["batch"], options["seed"], 0)[:steps]):
        for group in optimizer.param_groups:
            group["lr"] = optimizers.rate(step, steps, options["lr"], options["warmup"])
        texts = [rows["text"].iloc[i] for i in indices]
        batch = tokenizer(
            texts, truncation=True, max_length=48, padding=True, pad_to_multiple_of=8, return_tensors="pt"
        )
        targets = torch.tensor([LABELS.index(rows["label"].iloc[i]) for i in indices])
        loss = nn.functional.cross_entropy(model(**batch).logits, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, {k: v.detach() for k, v in model.state_dict().items()}


def test_it_gives_the_losses_and_weights_of_a_plain_loop(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 48, 8), dropout=False)
    ear = Ear()
    worker.train(spec, ear, tmp_path / "run")
    losses, weights = plain_loop(spec, 6)
    ours = load_file(tmp_path / "run" / "checkpoints" / "step-00000006" / "model.safetensors")
    told = math.fsum(e.train_loss for e in ear.all(EpochDone))
    assert told == pytest.approx(sum(losses) / 6, abs=1e-6)
    # The sums of a fused and a plain optimizer round differently; a step moves a weight by at most about the rate.
    assert all(torch.allclose(ours[name], weights[name], rtol=0, atol=2e-6) for name in ours)
    start = load_file(Path(spec["start"]["path"]) / "model.safetensors")
    assert not torch.equal(
        ours["bert.encoder.layer.0.output.dense.weight"], start["encoder.layer.0.output.dense.weight"]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ear, worker.Trained, Path]:
    """One epoch and a half on 240 sentences in this machine's own precision."""
    folder = tmp_path_factory.mktemp("engine")
    data = films(folder, 240, 60)
    ear = Ear()
    trained = worker.train(order(data, precision="auto", epochs=1.5, lr=1e-4, batch=16), ear, folder / "run")
    return folder / "run", ear, trained, data


def test_it_says_what_happens(run: tuple[Path, Ear, worker.Trained, Path]) -> None:
    folder, ear, trained, _ = run
    (plan,) = ear.all(RunPlanned)
    assert (plan.steps, plan.rows, plan.validation_rows, plan.resumed_at) == (23, 240, 60, 0)
    assert 0 <= plan.padding_waste < 0.2
    steps = ear.all(StepDone)
    assert [s.step for s in steps] == sorted({s.step for s in steps})
    assert steps[-1].step == 23
    assert all(math.isfinite(s.loss) and s.memory_mb > 50 and s.rows_per_second > 0 for s in steps)
    assert max(s.lr for s in steps) <= 1e-4
    assert steps[-1].lr < 1e-5
    assert [e.epoch for e in ear.all(EpochDone)] == [1.0, pytest.approx(1.5333, abs=1e-3)]
    saved = ear.all(CheckpointSaved)
    assert [(c.step, c.why) for c in saved] == [(15, "epoch"), (23, "epoch")]
    assert all((folder / c.path / "manifest.json").is_file() for c in saved)
    assert any("Computing in" in r.text for r in ear.all(Remark))
    assert (trained.stopped, trained.steps) == (False, 23)


def test_the_best_weights_are_a_folder_that_others_load_and_the_predictor_repeats(
    run: tuple[Path, Ear, worker.Trained, Path],
) -> None:
    from sft_magics.datasets import read_rows

    _, ear, trained, data = run
    model = AutoModelForSequenceClassification.from_pretrained(trained.folder)
    assert model.config.id2label == dict(enumerate(LABELS))
    rows = read_rows(data, "validation")
    assert trained.validation_ids == list(rows["id"])
    quick = np.array(Predictor(trained.folder).scores(list(rows["text"])))
    assert np.abs(quick - np.array(trained.validation_scores)).max() <= 0.02, "other sums of bfloat16"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoder_fast_path, "quicken", lambda _: set())
        plain = Predictor(trained.folder, threads=1)
        assert plain.scores(list(rows["text"])) == trained.validation_scores, "to the last bit, by the same ways"
    best = max(ear.all(EpochDone), key=lambda e: (e.metrics["accuracy"], -e.validation_loss))
    assert (trained.step, best.best) == (best.step, True)
    hits = [LABELS[s.index(max(s))] == t for s, t in zip(trained.validation_scores, rows["label"], strict=True)]
    assert sum(hits) / len(hits) == pytest.approx(best.metrics["accuracy"])
    assert trained.fresh == ("classifier.bias", "classifier.weight")
    assert {"torch", "transformers", "python", "device", "precision", "threads"} <= set(trained.environment)


def test_an_order_to_stop_ends_it_after_the_step_with_a_checkpoint_and_it_goes_on_from_there(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 64, 8), batch=4)
    ear = Ear(stop=lambda e: isinstance(e, StepDone) and e.step >= 3)
    stopped = worker.train(spec, ear, tmp_path / "run")
    assert (stopped.stopped, stopped.steps) == (True, 16)
    assert 3 <= stopped.step < 16
    assert [(c.step, c.why) for c in ear.all(CheckpointSaved)] == [(stopped.step, "stop")]
    again = Ear()
    done = worker.train(spec, again, tmp_path / "run")
    assert not done.stopped
    assert again.all(RunPlanned)[0].resumed_at == stopped.step
    worker.train(spec, Ear(), tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def weights(run: Path) -> bytes:
    return (run / "best" / "model.safetensors").read_bytes()


def test_without_resume_it_begins_anew(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 16, 8))
    worker.train(spec, Ear(), tmp_path / "run")
    ear = Ear()
    worker.train({**spec, "resume": False}, ear, tmp_path / "run")
    assert ear.all(RunPlanned)[0].resumed_at == 0
    assert ear.all(StepDone)[-1].step == 2


def test_a_tenth_of_an_epoch_is_measured_too(tmp_path: Path) -> None:
    ear = Ear()
    worker.train(order(films(tmp_path, 80, 8), epochs=0.1), ear, tmp_path / "run")
    assert [e.epoch for e in ear.all(EpochDone)] == [pytest.approx(0.1)]


def test_without_validation_rows_it_says_so_and_reports_no_scores(tmp_path: Path) -> None:
    ear = Ear()
    trained = worker.train(order(films(tmp_path, 16, 0)), ear, tmp_path / "run")
    assert (trained.validation_ids, trained.validation_scores) == ([], [])
    assert any("no validation rows" in r.text for r in ear.all(Remark))


def test_long_texts_and_a_class_that_is_never_answered_are_remarked(tmp_path: Path) -> None:
    texts = ["good " * 100] * 15 + ["a dreadful, dreary bore"] + ["lovely", "awful"]
    labels = ["positive"] * 15 + ["negative", "positive", "negative"]
    ear = Ear()
    data = table(tmp_path, texts, labels, ["train"] * 16 + ["validation"] * 2)
    worker.train(order(data, lr=1e-3, epochs=2.0), ear, tmp_path / "run")
    said = " ".join(r.text for r in ear.all(Remark))
    assert "15 rows (83%) are longer than 48 tokens" in said
    assert "No validation row is answered with negative" in said


def test_a_label_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    data = table(tmp_path, ["a", "b"], ["negative", "mixed"], ["train", "train"])
    with pytest.raises(errors.DataProblem, match="mixed"):
        worker.train(order(data), Ear(), tmp_path / "run")
