"""Rows that a version is measured on are what the data set was made of."""

from pathlib import Path

import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build
from sft_magics.lifecycle.evaluation import evaluate


def test_a_picture_that_changed_is_refused_before_it_is_answered(tmp_path: Path) -> None:
    for number in range(8):
        path = tmp_path / "pets" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(path)
    ws = Workspace(tmp_path / "workspace").prepare()
    dataset = build("pets", str(tmp_path / "pets"), workspace=ws)
    assert len(evaluate.rows_of(ws, dataset, "all")) == 8
    Image.new("RGB", (9, 9), "red").save(path)
    with pytest.raises(errors.DataProblem, match=r"1 picture of dataset pets changed after it was made: 7\.png"):
        evaluate.rows_of(ws, dataset, "all")
