"""What `predict --endpoint --to` wrote is feedback as it is, whatever the column of the right labels is called."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.registry import Registry
from sft_magics.registry.testing import a_model, a_version
from sft_magics.serving.client import lifecycle
from tests.serving.house import House

TRUTHS = ["Positive", "negative", None, "positive ", "cat", "NEGATIVE"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    registry = Registry(made.ws)
    registry.add_model(a_model("m"))
    registry.commit_version(a_version("m"))
    made.start()
    yield made
    made.end_all()


def _answered(house: House, ending: str, data: object = None) -> Path:
    """Ask the endpoint about rows that have a label, and return the file of its answers."""
    rows = pd.DataFrame({"id": range(6), "text": [f"film {i}" for i in range(6)], "sentiment": TRUTHS})
    place = house.root / f"answers{ending}"
    sft.predict("demo", data=rows if data is None else data, endpoint=True, to=str(place), workspace=house.ws.root)
    return place


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_the_file_of_answers_is_taken_as_it_is(house: House, ending: str) -> None:
    told = sft.feedback("demo", str(_answered(house, ending)), workspace=house.ws.root)
    assert (told.added, told.mended, told.unknown) == (4, 2, ())
    assert told.refused == "1 refused ('cat'): the labels are negative, positive"
    assert "4 labels taken, 2 of them spelled otherwise" in str(told)
    assert told.metrics["accuracy"].value == 0.5


def test_of_a_file_that_was_asked_about_again_the_newest_answers_count(house: House) -> None:
    first = _answered(house, ".csv")
    again = _answered(house, "-again.csv", str(first))
    assert sft.feedback("demo", str(again), workspace=house.ws.root).added == 4
    with lifecycle.prediction_log(house.ws, "demo") as log:
        told = {row.id for row in log.labeled()}
    assert told <= set(pd.read_csv(again)["request_id_"])


def test_a_file_without_the_right_labels_is_refused_in_a_sentence(house: House) -> None:
    only = house.root / "only.csv"
    sft.predict("demo", "a film", "another", endpoint=True, to=str(only), workspace=house.ws.root)
    with pytest.raises(errors.DataProblem, match=r"only.csv has no column that looks like the label"):
        sft.feedback("demo", str(only), workspace=house.ws.root)
    place = str(_answered(house, ".csv"))
    with pytest.raises(errors.DataProblem, match=r"No label was stored for demo: 6 refused .*negative, positive"):
        sft.feedback("demo", place, label="id", workspace=house.ws.root)
    with pytest.raises(errors.DataProblem, match=r"has no column 'truth'"):
        sft.feedback("demo", place, label="truth", workspace=house.ws.root)
    with pytest.raises(errors.DataProblem, match=r"several columns|looks like the label|No label was stored"):
        sft.feedback("demo", place, label="confidence", workspace=house.ws.root)
