"""Answers do not depend on the order or the company of a text, nor on how the weights are stored."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from sft_magics.core import errors
from sft_magics.core.fetching import fetch
from sft_magics.datasets.samples import read_sample
from sft_magics.engine import tasks
from sft_magics.engine.predictor import Predictor
from tests.engine.house import LABELS

# bfloat16 has 8 bits of mantissa: sums over other widths round differently.
CLOSE = {"fp32": 1e-5, "bf16": 0.02}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("version") / "best"
    start = {"kind": "folder", "path": str(fetch("minilm"))}
    tasks.find("text-classification").load(start, LABELS, {"seed": 5, "max_length": 64}).save(path)
    return path


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [*read_sample("reviews")[0][:60], "", "<b>a</b>", "good " * 300]


def test_pictures_are_answered_in_bfloat16_too(tmp_path: Path) -> None:
    task = tasks.find("image-classification").load({"kind": "name", "path": "resnet18", "weights": "none"}, LABELS, {})
    picture = str(tmp_path / "a.png")
    Image.new("RGB", (90, 70), "teal").save(picture)
    task.encode([picture], None)
    task.save(tmp_path / "version")
    code = f"""
from pathlib import Path
from sft_magics.engine.predictor import Predictor
made = [Predictor(Path({str(tmp_path / "version")!r}), threads=1, precision=p) for p in ("fp32", "bf16")]
one, other = (p.scores([{picture!r}])[0] for p in made)
assert max(abs(a - b) for a, b in zip(one, other)) <= 0.02
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert child.stderr == "", "nothing is said when it ends"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_order_nor_company_changes_an_answer(folder: Path, texts: list[str], precision: str) -> None:
    predictor = Predictor(folder, threads=1, precision=precision)
    scores = predictor.scores(texts)
    mixed = list(range(len(texts)))
    random.Random(0).shuffle(mixed)
    shuffled = predictor.scores([texts[i] for i in mixed])
    alone = [predictor.scores([text])[0] for text in texts]
    for place, i in enumerate(mixed):
        assert shuffled[place] == pytest.approx(scores[i], abs=CLOSE[precision])
        assert alone[i] == pytest.approx(scores[i], abs=CLOSE[precision])
    assert all(sum(row) == pytest.approx(1.0, abs=1e-5) for row in scores)
    assert len({row[0] for row in scores}) > 50


def test_weights_cast_once_answer_as_weights_cast_at_every_call(folder: Path, texts: list[str]) -> None:
    cast = Predictor(folder, threads=1, precision="bf16")
    kept = Predictor(folder, threads=1, precision="bf16")
    for module in kept._task.model.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.float32)
    whole = Predictor(folder, threads=1, precision="fp32")._task.model.state_dict()
    kept._task.model.load_state_dict(whole)
    assert kept.scores(texts) == cast.scores(texts)


def test_nothing_asked_is_nothing_answered_and_labels_are_in_order(folder: Path) -> None:
    predictor = Predictor(folder, threads=1)
    assert predictor.scores([]) == []
    assert predictor.labels == tuple(LABELS)


def test_a_folder_without_a_version_is_said_to_have_none(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(errors.ModelProblem, match="no trained version"):
        Predictor(fetch("minilm"))
    (tmp_path / "sft.json").write_text('{"task": "text-classification"}')
    with pytest.raises(errors.ModelProblem, match="no trained version"):
        Predictor(tmp_path)


def test_a_version_whose_head_is_missing_does_not_answer(tmp_path: Path, folder: Path) -> None:
    for file in fetch("minilm").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "sft.json").write_bytes((folder / "sft.json").read_bytes())
    with pytest.raises(errors.ModelProblem, match=r"not whole: classifier\.bias"):
        Predictor(tmp_path)
