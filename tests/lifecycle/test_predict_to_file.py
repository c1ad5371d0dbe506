"""The answers to many rows in a file: beside the rows' own columns, whole or not there, of a version or an endpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sft_magics as sft
from sft_magics.__main__ import main
from sft_magics.core import errors, observer
from sft_magics.core.views import JobView
from sft_magics.core.workspace import Workspace
from sft_magics.notebook import panels

READ: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".parquet": pd.read_parquet,
}


@pytest.fixture
def rows(film_csv: Path) -> pd.DataFrame:
    """Ninety sentences with a number, a column of ours that is taken, and an index that starts anywhere."""
    frame = pd.read_csv(film_csv).head(90)
    frame.insert(0, "number", range(1000, 1090))
    frame["prediction"] = "mine"
    frame.loc[3, "text"] = 'Voilà, "quoted", with a comma\nand a second line 🎬'
    frame.index = pd.Index(range(500, 590))
    return frame


@pytest.mark.parametrize("ending", sorted(READ))
def test_a_version_s_answers_lie_beside_the_rows(
    trained_once: Path, rows: pd.DataFrame, tmp_path: Path, ending: str
) -> None:
    place = tmp_path / f"answers{ending}"
    said = sft.predict("films:1", data=rows, to=str(place), workspace=trained_once)
    found = READ[ending](place)
    assert list(found.columns) == [
        "number", "text", "label", "prediction", "prediction_", "confidence", "score_negative", "score_positive",
        "version",
    ]  # fmt: skip
    assert list(found["number"]) == list(rows["number"])
    assert list(found["text"]) == list(rows["text"])
    assert set(found["prediction"]) == {"mine"}
    assert list(found["prediction_"]) == [a.label for a in said.rows]
    assert list(found["confidence"]) == pytest.approx([a.confidence for a in said.rows])
    assert list(found["score_positive"]) == pytest.approx([a.scores["positive"] for a in said.rows])
    assert set(found["version"]) == {"films:1"}
    assert said.file == str(place)
    assert f"All of them are in {place}." in str(said)
    assert place.name in str(panels.html(said))
    assert [p.name for p in tmp_path.iterdir()] == [place.name], "nothing half-written is left"
    assert len(rows.columns) == 4, "the frame that was given stays as it was"


def test_a_file_is_scored_from_the_command_line(
    trained_once: Path, rows: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, place = tmp_path / "films.csv", tmp_path / "answers.jsonl"
    rows.to_csv(source, index=False)
    line = ["predict", "films:1", "--data", str(source), "--to", str(place), "--workspace", str(trained_once)]
    assert main([*line, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["file"] == str(place)
    assert len(told["rows"]) == 90
    found = [json.loads(one) for one in place.read_text().splitlines()]
    assert [one["number"] for one in found] == [str(n) for n in rows["number"]], "cells of a CSV file stay as they are"
    before = place.read_bytes()
    assert main(line) == 2
    assert "is there already, and is not overwritten.\nNext: add --overwrite" in capsys.readouterr().err
    assert main([*line, "--overwrite"]) == 0
    assert place.read_bytes() == before


class Watcher:
    """Remembers how far each job had come."""

    face = "test"

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def hear(self, job: str, event: Any) -> None:
        """Do nothing."""

    def show(self, view: JobView) -> None:
        """Note it."""
        self.seen.append((view.title, view.done, view.total))

    def close(self) -> None:
        """Do nothing."""


def test_an_endpoint_s_answers_come_with_ids_in_order_and_with_progress(
    trained: Workspace, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "REDRAW_SECONDS", 0.0)
    many = pd.concat([rows] * 6, ignore_index=True)
    sft.deploy("films:1", name="asked", workspace=trained)
    place = tmp_path / "answers.parquet"
    watcher = Watcher()
    with observer.watched_by(watcher):
        said = sft.predict("asked", data=many, endpoint=True, to=str(place), workspace=trained)
    found = pd.read_parquet(place)
    own = sft.predict("films:1", data=many, workspace=trained)
    assert list(found["prediction_"]) == [a.label for a in said.rows] == [a.label for a in own.rows]
    assert list(found["confidence"]) == pytest.approx([a.confidence for a in own.rows], abs=0.02)
    assert found["request_id"].nunique() == len(many) == 540
    assert set(found["version"]) == {"films:1"}
    steps = sorted({done for title, done, total in watcher.seen if total == 540 and "asking endpoint" in title})
    assert steps[0] == 0 < steps[1] < steps[-1] == 540
    told = found.head(1).rename(columns={"request_id": "id"})
    added = sft.feedback("asked", told[["id", "label"]], workspace=trained)
    assert added.added == 1
    assert sft.monitor("asked", workspace=trained).requests == 540
    sft.stop("asked", workspace=trained)
    with pytest.raises(errors.EndpointProblem, match="does not answer"):
        sft.predict("asked", data=many, endpoint=True, to=str(tmp_path / "none.csv"), workspace=trained)
    assert not (tmp_path / "none.csv").exists()


def test_texts_and_datasets_are_written_too(trained_once: Path, tmp_path: Path) -> None:
    place = tmp_path / "few.csv"
    sft.predict("films:1", "a moving film", "a dull one", to=str(place), workspace=trained_once)
    assert list(pd.read_csv(place)["text"]) == ["a moving film", "a dull one"]
    sft.predict("films:1", data="films", to=str(tmp_path / "all.parquet"), workspace=trained_once)
    found = pd.read_parquet(tmp_path / "all.parquet")
    assert {"id", "text", "label", "split", "prediction"} <= set(found.columns)
    assert len(found) == 600


def test_what_cannot_be_written_is_said_before_anything_is_asked(
    trained_once: Path, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sft_magics.lifecycle.evaluation.evaluate.score", lambda *_: pytest.fail("it asked"))
    source = tmp_path / "films.csv"
    rows.to_csv(source, index=False)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "there.csv").write_text("precious")
    (tmp_path / "link.csv").symlink_to(source)
    for options, kind, says in (
        ({"to": "answers.xlsx"}, errors.UsageProblem, r"no kind that can be written: \.csv"),
        ({"to": "answers"}, errors.UsageProblem, "no kind that can be written"),
        ({"to": str(tmp_path / "no" / "a.csv")}, errors.UsageProblem, "There is no folder"),
        ({"to": str(tmp_path / "there.csv")}, errors.Refused, "is not overwritten"),
        ({"to": str(tmp_path / "folder.csv"), "overwrite": True}, errors.Refused, "is not overwritten"),
        ({"to": str(source), "overwrite": True}, errors.Refused, "is the file that is asked about"),
        ({"to": str(tmp_path / "link.csv"), "overwrite": True}, errors.Refused, "is the file that is asked about"),
        ({"overwrite": True}, errors.UsageProblem, "--overwrite goes with a file to write"),
    ):
        with pytest.raises(kind, match=says):
            sft.predict("films:1", data=str(source), workspace=trained_once, **options)
    assert (tmp_path / "there.csv").read_text() == "precious"


def test_rows_that_fit_no_parquet_are_said_in_a_sentence(trained_once: Path, tmp_path: Path) -> None:
    mixed = pd.DataFrame({"text": ["a film", "a book"], "odd": [1, {"a": "b"}]})
    with pytest.raises(errors.DataProblem, match="do not fit a Parquet file") as caught:
        sft.predict("films:1", data=mixed, to=str(tmp_path / "a.parquet"), workspace=trained_once)
    assert "\n" not in caught.value.what
    sft.predict("films:1", data=mixed, to=str(tmp_path / "a.jsonl"), workspace=trained_once)
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[1])["odd"] == {"a": "b"}
