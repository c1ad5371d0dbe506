"""Every method of fine-tuning makes a version like any other: asked, compared, exported."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sft_magics as sft


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, film_csv: Path) -> Path:
    """A workspace with a model of few films, and three versions of it: head, lora, unfrozen."""
    root = tmp_path_factory.mktemp("methods")
    pd.read_csv(film_csv).head(120).to_csv(root / "films.csv", index=False)
    ws = root / "workspace"
    here: dict[str, Any] = {"workspace": ws, "in_process": True, "threads": 1, "max_length": 48}
    sft.data("films", str(root / "films.csv"), workspace=ws)
    sft.create("films", data="films", workspace=ws)
    sft.finetune("films", method="head", epochs=8, **here)
    sft.finetune("films", method="lora", sampling="balanced", epochs=1, **here)
    sft.finetune("films", unfreeze=0.5, layer_decay=0.8, epochs=1, **here)
    return ws


def test_what_was_asked_for_is_on_record(made: Path) -> None:
    head, lora, full = sorted(sft.versions("films", workspace=made), key=lambda v: v.number)
    assert (head.options["method"], head.options["lr"]) == ("head", 1e-3)
    assert (lora.options["method"], lora.options["lr"], lora.options["sampling"]) == ("lora", 5e-4, "balanced")
    assert (full.options["lr"], full.options["unfreeze"]) == (5e-5, 0.5)
    assert head.added > 80e6
    assert lora.added < 60e6, "embeddings are stored once, and all that LoRA leaves as it is"
    assert full.added < 60e6, "embeddings had not learned yet"


@pytest.mark.parametrize("number", [1, 2])
def test_each_answers_and_leaves_as_a_folder(made: Path, number: int, tmp_path: Path) -> None:
    from transformers import pipeline

    ref = f"films:{number}"
    said = sft.predict(ref, "a warm and funny film", workspace=made).rows[0]
    sft.export(ref, str(tmp_path / "out"), workspace=made)
    (theirs,) = pipeline("text-classification", model=str(tmp_path / "out"), top_k=None)(["a warm and funny film"])
    scores = {row["label"]: row["score"] for row in theirs}
    assert scores == pytest.approx(said.scores, abs=2e-2)


def test_two_of_them_are_compared(made: Path) -> None:
    found = sft.diff("films:1", "films:2", workspace=made)
    assert {"method", "lr"} <= {change.name for change in found.options}
    blocks = {layer["block"] if isinstance(layer, dict) else layer.block for layer in found.layers}
    assert "bert.encoder.layer.5" in blocks
