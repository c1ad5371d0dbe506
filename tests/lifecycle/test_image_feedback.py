"""Pictures that an endpoint was asked, and what is learned from the labels that came back."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.records import Predictions
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import load, rows
from sft_magics.registry import Registry


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A workspace with the image model `digits`, trained on 40 pictures of each of two digits; a folder with 30 more,
    three of which it has learned from.
    """
    root = tmp_path_factory.mktemp("asked")
    met = {"0": 0, "1": 0}
    loaded = load("sample:digits")
    for path, label in zip(loaded.texts, loaded.labels, strict=True):
        if label not in met or met[label] >= 55:
            continue
        met[label] += 1
        for into in (("known",) * (met[label] <= 40)) + (
            ("new",) * (met[label] > 40 or (label == "0" and met[label] <= 3))
        ):
            (root / into / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / into / label)
    ws = root / "workspace"
    sft.data("digits", str(root / "known"), workspace=ws)
    sft.create("digits", data="digits", workspace=ws)
    sft.finetune("digits", epochs=2, workspace=ws)
    return ws, root / "new"


def _labels(answers: Predictions, folder: Path) -> pd.DataFrame:
    truths = [Path(row.text).parent.name for row in answers.rows]
    assert len(truths) == len(list(folder.glob("*/*")))
    return pd.DataFrame({"id": [row.id for row in answers.rows], "label": truths})


def test_what_an_endpoint_saw_is_learned_from_when_its_labels_come(asked: tuple[Path, Path]) -> None:
    ws, new = asked
    with pytest.raises(errors.DataProblem, match="There are 0 labeled answers of digits"):
        sft.retrain("digits", from_="digits:1", workspace=ws)
    sft.deploy("digits:1", name="seen", engine="torch", workspace=ws)
    try:
        answers = sft.predict("seen", str(new), endpoint=True, workspace=ws)
        assert sft.feedback("seen", _labels(answers, new), workspace=ws).added == 33
    finally:
        sft.stop("seen", workspace=ws)
    shutil.rmtree(new)  # the log has what it was asked

    compared = sft.retrain("digits", from_="digits:1", epochs=1, workspace=ws)
    made = sft.show(compared.candidate, workspace=ws).version
    assert made.parent == "digits:1"
    assert made.data == "digits-feedback:1"
    assert Registry(Workspace(ws)).dataset(made.data).parents == ("digits:1",)
    assert made.options["lr"] == 0.001  # as for pictures, not for texts
    place = Workspace(ws)
    joined = rows(place, Registry(place).dataset(made.data))
    assert len(joined) == 80 + 30  # three were known
    assert all(Path(path).is_file() for path in joined["text"])
    assert {pair.data for pair in compared.pairs} == {"digits:1", "feedback"}


def test_an_endpoint_that_keeps_no_inputs_has_no_pictures(asked: tuple[Path, Path], tmp_path: Path) -> None:
    ws, _ = asked
    own = tmp_path / "workspace"
    shutil.copytree(ws, own)
    shutil.rmtree(own / "endpoints")
    sft.deploy("digits:1", name="blind", engine="torch", log_inputs=False, workspace=own)
    try:
        known = ws.parent / "known"
        answers = sft.predict("blind", str(known), endpoint=True, workspace=own)
        assert sft.feedback("blind", _labels(answers, known), workspace=own).added == 80
    finally:
        sft.stop("blind", workspace=own)
    with pytest.raises(errors.DataProblem, match="There are 0 labeled answers"):
        sft.retrain("digits", from_="digits:1", workspace=own)
