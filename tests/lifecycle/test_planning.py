"""A plan and a range test: a few real steps, nothing kept; what they say is what a run then takes."""

import math
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoTokenizer

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.events import Remark
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import LrRangeTest, RunPlan, Version
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets.tables import parquet
from sft_magics.engine.jobs import dry_run
from sft_magics.notebook import panels
from sft_magics.registry import ArtifactStore, Registry


def _words_of(root: Path, plan: RunPlan) -> int:
    """Return how many different tokens the training texts of a model have, that of padding included."""
    ws = Workspace(root)
    frame = parquet.rows(ws, Registry(ws).dataset(plan.model))
    tokenizer = AutoTokenizer.from_pretrained(fetch("minilm"))
    ids = tokenizer(list(frame.loc[frame["split"] == "train", "text"]), truncation=True, max_length=256)["input_ids"]
    return len({tokenizer.pad_token_id, *(i for row in ids for i in row)})


def test_a_plan_says_what_the_run_then_takes(trained_once: Path) -> None:
    before, jobs = ({p.name for p in (trained_once / part).iterdir()} for part in ("runs", "jobs"))
    found = sft.plan("films", epochs=2, workspace=trained_once)
    assert {p.name for p in (trained_once / "runs").iterdir()} == before, "nothing is kept"
    assert {p.name for p in (trained_once / "jobs").iterdir()} == jobs
    dataset = sft.data("films", workspace=trained_once)
    assert found.rows == dataset.counts["train"]
    assert found.steps == 2 * math.ceil(found.rows / 32)
    assert found.seconds_low <= found.seconds <= found.seconds_high
    assert found.weights == found.learning == 22_713_986
    assert found.fits
    assert 200 < found.memory_mb < 8_000
    ws = Workspace(trained_once)
    folder = ArtifactStore(ws.artifacts).checkout(Registry(ws).version("films:1").artifact)
    assert found.version_bytes == pytest.approx(sum(f.stat().st_size for f in folder.rglob("*.safetensors")), rel=0.01)
    # three checkpoints of weights and two moments, 4 bytes each; of the embeddings, 384 wide, what the texts use
    kept = found.weights - (30_522 - _words_of(trained_once, found)) * 384
    assert found.disk_bytes == pytest.approx(3 * 3 * 4 * kept + found.version_bytes, rel=0.001)
    assert found.next_step == "%sft_finetune films --epochs 2"
    assert "--max-length 128" in str(found)
    assert "Cheaper choices" in str(panels.html(found))
    half = sft.plan("films", epochs=2, batch=8, workspace=trained_once)
    assert half.steps > found.steps
    assert half.next_step.endswith("--batch 8")


def test_the_rate_rises_until_the_loss_goes_away(trained_once: Path) -> None:
    found = sft.lr("films", steps=40, workspace=trained_once)
    assert list(found.rates) == sorted(found.rates)
    assert found.rates[0] == pytest.approx(1e-7)
    assert found.diverged is not None
    assert found.diverged > 1e-3
    assert found.advised == found.recipe == 5e-5, "of a transformer its own recipe is taken"
    assert "reads too high" in found.note
    assert "<svg" in str(panels.html(found))
    assert [p.ref for p in sft.versions("films", workspace=trained_once)] == ["films:1"]


def test_advice_is_where_the_loss_falls_fastest() -> None:
    rates = [10 ** (-7 + i / 5) for i in range(35)]
    losses = [1.0 - 0.5 / (1 + math.exp(-4 * (math.log10(r) + 4))) if r < 0.1 else 5.0 * r for r in rates]
    found = dry_run.advice(rates, losses)
    assert 3e-5 < found["steepest"] < 3e-4
    assert found["fell"]
    assert found["tenth"] == pytest.approx(rates[losses.index(min(losses))] / 10)
    flat = dry_run.advice(rates[:10], [0.7] * 10)
    assert not flat["fell"]
    assert flat["diverged"] is None
    gone = dry_run.advice(rates[:3], [0.7, 0.7, math.nan])
    assert gone["diverged"] == rates[2]


def test_bad_input_is_a_sentence(trained_once: Path) -> None:
    with pytest.raises(errors.NotFound, match="no model called 'flims'"):
        sft.plan("flims", workspace=trained_once)
    with pytest.raises(errors.UsageProblem, match="--epochs cannot be 0"):
        sft.plan("films", epochs=0, workspace=trained_once)
    with pytest.raises(errors.UsageProblem, match="--steps cannot be 3"):
        sft.lr("films", steps=3, workspace=trained_once)
    with pytest.raises(errors.ModelProblem, match="--method qlora is not there for text-classification"):
        sft.plan("films", method="qlora", workspace=trained_once)


def test_what_the_checks_of_the_data_found_is_said_again_by_the_run(tmp_path: Path, film_csv: Path) -> None:
    frame = pd.read_csv(film_csv).head(60)
    frame["split"] = ["validation" if i % 4 == 0 else "train" for i in range(60)]
    leaked = pd.concat([frame, frame[frame["split"] == "validation"].assign(split="train")])
    sft.data("leaky", leaked, workspace=tmp_path)
    sft.create("leaky", data="leaky", workspace=tmp_path)
    made = sft.finetune("leaky", epochs=0.25, workspace=tmp_path)
    assert isinstance(made, Version)
    said = [e.text for e in JobFolder(tmp_path / "runs" / made.run).history() if isinstance(e, Remark)]
    assert any("15 rows of validation are also in train" in text for text in said)


def test_a_loss_that_ended_as_no_number_is_drawn_without_it() -> None:
    found = LrRangeTest(
        "m", "t", (1e-5, 1e-3, 1e-1), (0.7, 0.6, math.nan), (0.7, 0.65, math.inf), 1e-3, 1e-4, 0.1, 1e-4, 1e-4
    )  # fmt: skip
    assert "<svg" in str(panels.html(found))
