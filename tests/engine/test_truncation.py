"""Rows longer than the limit are named exactly before the first step, then cut, left out or refused."""

import csv
from pathlib import Path

import pandas as pd
import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.events import Remark, RunPlanned, StepDone
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, read_rows
from sft_magics.engine.inputs import truncation
from sft_magics.engine.jobs import worker
from sft_magics.engine.tasks import find
from tests.engine import test_causal_lm as words
from tests.engine.house import Ear, order, small_base, table
from tests.engine.test_causal_lm import base  # noqa: F401 - a fixture

LIMIT = 16
# [CLS] and [SEP] count: 14 words of one token each are just as many as are read.
SHORT, JUST, LONG = "good " * 6, "good " * (LIMIT - 2), "good " * (LIMIT - 1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    texts = [SHORT, JUST, LONG, LONG + "film ", SHORT, JUST, SHORT, SHORT, LONG, JUST]
    return table(tmp_path, texts, ["negative", "positive"] * 5, ["train"] * 7 + ["validation"] * 3)


def run(data: Path, folder: Path, how: str) -> Ear:
    ear = Ear()
    spec = order(data, start=small_base(folder / "base"), max_length=LIMIT, long=how, batch=2)
    worker.train(spec, ear, folder / "run")
    return ear


def listing(folder: Path) -> list[dict[str, str]]:
    with (folder / "run" / truncation.LISTING).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_that_just_fits_is_not_long(data: Path, tmp_path: Path) -> None:
    ear = run(data, tmp_path, "cut")
    (said,) = [r.text for r in ear.all(Remark) if "longer than" in r.text]
    assert said.startswith(
        "3 rows (30%) are longer than 16 tokens, and what is beyond is not read (--max-length, --long): r3 (18 t"
    )
    assert ear.all(RunPlanned)[0].rows == 7
    assert [(row["id"], row["split"], row["tokens"]) for row in listing(tmp_path)] == [
        ("r2", "train", "17"), ("r3", "train", "18"), ("r8", "validation", "17")
    ]  # fmt: skip
    assert listing(tmp_path)[1]["text"].endswith("film")


def test_they_are_left_out(data: Path, tmp_path: Path) -> None:
    ear = run(data, tmp_path, "skip")
    (said,) = [r for r in ear.all(Remark) if "longer than" in r.text]
    assert said.level == "warning"
    assert "and left out (--long skip)" in said.text
    (plan,) = ear.all(RunPlanned)
    assert (plan.rows, plan.validation_rows) == (5, 2)


def test_they_are_refused_before_the_first_step(data: Path, tmp_path: Path) -> None:
    ear = Ear()
    spec = order(data, start=small_base(tmp_path / "base"), max_length=LIMIT, long="refuse", batch=2)
    with pytest.raises(errors.DataProblem, match=r"3 rows \(30%\) are longer than 16 tokens: r3") as caught:
        worker.train(spec, ear, tmp_path / "run")
    assert "--max-length 32" in caught.value.next_step
    assert ear.all(StepDone) == []
    assert len(listing(tmp_path)) == 3


def test_where_none_would_be_left_it_is_said(tmp_path: Path) -> None:
    data = table(tmp_path, [LONG, LONG + "film", SHORT], ["negative", "positive", "negative"],
                 ["train", "train", "validation"])  # fmt: skip
    with pytest.raises(errors.DataProblem, match="no rows are left to train"):
        run(data, tmp_path, "skip")


def test_nothing_is_said_where_all_fit(tmp_path: Path) -> None:
    data = table(tmp_path, [SHORT, JUST, SHORT], ["negative", "positive", "negative"], ["train", "train", "validation"])
    ear = run(data, tmp_path, "refuse")
    assert not [r for r in ear.all(Remark) if "longer" in r.text]
    assert not (tmp_path / "run" / truncation.LISTING).exists()


def test_many_are_counted_and_all_of_them_are_in_the_file(tmp_path: Path) -> None:
    texts = [LONG + "film " * n for n in range(9)] + [SHORT] * 3
    data = table(tmp_path, texts, ["negative", "positive"] * 6, ["train"] * 10 + ["validation"] * 2)
    ear = run(data, tmp_path, "cut")
    (said,) = [r.text for r in ear.all(Remark) if "longer than" in r.text]
    assert "r8 (25 tokens" in said
    assert "and 4 more, all in" in said
    assert len(listing(tmp_path)) == 9


def test_dialogues_count_their_prompts_and_answers(base: Path, tmp_path: Path) -> None:  # noqa: F811
    answers = [f"{n} " + "so " * (50 if n == 5 else 2) for n in range(12)]
    rows = pd.DataFrame({"prompt": [f"Say {n}." for n in range(12)], "response": answers})
    rows["split"] = ["train"] * 9 + ["validation"] * 3
    dataset = build("x", rows, workspace=Workspace(tmp_path / "sft").prepare())
    file = tmp_path / "sft" / dataset.file
    frame = read_rows(file)
    key = frame["id"][frame["text"] == "Say 5."].item()
    ear = Ear()
    worker.train(words.order(file, base, max_length=60, long="skip"), ear, tmp_path / "run")
    assert ear.all(RunPlanned)[0].rows == 8
    (said,) = [r.text for r in ear.all(Remark) if "longer than 60 tokens" in r.text]
    assert key in said
    task = find("causal-lm").load({"kind": "folder", "path": str(base)}, [], {"max_length": 60})
    exact = len(task._ids(task.chat.prompt("Say 5.")) + task._ids(answers[5] + task.chat.end))  # type: ignore[attr-defined]
    assert f"({exact} tokens" in said


def test_the_option_reaches_the_run_and_the_sentence_the_user(trained: Workspace, film_csv: Path) -> None:
    frame = pd.read_csv(film_csv).head(60)
    frame.loc[7, "text"] = "very " * 300 + "good"
    sft.data("long", frame, workspace=trained)
    with pytest.raises(errors.DataProblem, match=r"1 row \(2%\) is longer than 256 tokens"):
        sft.finetune("films", data="long", long="refuse", workspace=trained)
