"""Which columns are used, what is asked when it is not clear, and what becomes of the cells."""

import numpy as np
import pandas as pd
import pytest

from sft_magics.core.errors import DataProblem
from sft_magics.datasets import load

LONG = [f"a sentence that goes on for a while, number {i}" for i in range(40)]
OTHER = [f"another sentence of about the same length, {i}" for i in range(40)]
TWO = ["yes", "no"] * 20
THREE = ["a", "b", "c", "a"] * 10
NUMBERS = list(range(40))


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"text": LONG, "label": TWO}, {"text": "text", "label": "label"}),
        ({"Review": LONG, "Sentiment": TWO}, {"text": "Review", "label": "Sentiment"}),
        ({"id": NUMBERS, "content": LONG, "stars": [1, 2] * 20}, {"text": "content", "label": "stars"}),
        ({"title": ["t"] * 40, "body": LONG, "class": TWO}, {"text": "body", "label": "class"}),
        ({"text": LONG, "title": OTHER, "label": TWO}, {"text": "text", "label": "label"}),
        ({"blurb": LONG, "verdict": TWO}, {"text": "blurb", "label": "verdict"}),
        ({"id": NUMBERS, "what was said": LONG, "mood": TWO}, {"text": "what was said", "label": "mood"}),
        ({0: LONG, 1: TWO}, {"text": "0", "label": "1"}),
        ({"text": LONG, "label": TWO, "mood": THREE}, {"text": "text", "label": "label"}),
        (
            {"text": LONG, "label": TWO, "split": ["Train", "test"] * 20},
            {"text": "text", "label": "label", "split": "split"},
        ),
        ({"text": LONG, "label": TWO, "set": THREE}, {"text": "text", "label": "label"}),
    ],
)
def test_columns_are_found(columns: dict[object, list[object]], found: dict[str, str]) -> None:
    assert load(pd.DataFrame(columns)).columns == found


@pytest.mark.parametrize(
    ("columns", "given", "problem", "flags"),
    [
        (
            {"said": LONG, "heard": OTHER, "label": TWO},
            {},
            "could be the text: said, heard",
            ["--text said", "--text heard"],
        ),
        (
            {"review": LONG, "title": OTHER, "stars": TWO},
            {"label": "stars"},
            "could be the text: review, title",
            ["add --label stars --text review", "--text title"],
        ),
        (
            {"review": LONG, "stars": TWO, "target": THREE},
            {"text": "review"},
            "could be the label: stars, target",
            ["add --text review --label stars", "--label target"],
        ),
        ({"review": LONG, "mood of it": TWO, "kind": THREE}, {}, "could be the label", ['--label "mood of it"']),
        ({"review": LONG, "n": NUMBERS}, {}, "no column that looks like the label; it has: review, n", ["--label"]),
        ({"a": NUMBERS, "b": NUMBERS}, {}, "no column that looks like the text", ["--text"]),
        ({"text": LONG, "label": TWO}, {"label": "lable"}, "no column 'lable'. Did you mean 'label'", ["--label"]),
        ({"text": LONG, "label": TWO}, {"text": "zzz"}, "It has: text, label", ["--text"]),
        ({"text": LONG, "label": TWO}, {"split": "part"}, "no column 'part'", ["--split"]),
        ({"text": LONG, "label": TWO}, {"text": "label", "label": "label"}, "cannot both be", ["--text A --label B"]),
        (
            {"text": LONG, "label": TWO, "part": THREE},
            {"split": "part"},
            "holds 'a', which is not",
            ["leave --split out"],
        ),
    ],
)
def test_what_is_not_clear_is_asked(
    columns: dict[str, list[object]], given: dict[str, str], problem: str, flags: list[str]
) -> None:
    with pytest.raises(DataProblem) as caught:
        load(pd.DataFrame(columns), **given)  # type: ignore[arg-type]
    assert problem in caught.value.what
    for flag in flags:
        assert flag in caught.value.next_step


def test_the_answer_to_the_question_works() -> None:
    frame = pd.DataFrame({"review": LONG, "title": OTHER, "stars": TWO, "mood": THREE})
    assert load(frame, text="title", label="mood").columns == {"text": "title", "label": "mood"}


def test_split_values_are_understood_and_can_be_ignored() -> None:
    splits = ["train", "Validation", "val", "dev", "TEST", None, "training", "valid"] * 5
    frame = pd.DataFrame({"text": LONG, "label": TWO, "fold": splits})
    read = ["train", "validation", "validation", "validation", "test", None, "train", "validation"]
    assert load(frame).splits == read * 5
    ignored = load(frame, split="none")
    assert ignored.splits == [None] * 40
    assert "split" not in ignored.columns


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pd.Series([0, 1, 0]), ["0", "1", "0"]),
        (pd.Series([0.0, 1.0, 0.0]), ["0", "1", "0"]),
        (pd.Series([1.5, 2.0, 1.5]), ["1.5", "2.0", "1.5"]),
        (pd.Series(["01", "1.0", "2"]), ["01", "1", "2"]),
        (pd.Series([True, False, True]), ["True", "False", "True"]),
        (pd.Series([" good", "good ", "bad"]), ["good", "good", "bad"]),
        (pd.Series([1, 2, 1], dtype="Int64"), ["1", "2", "1"]),
        (pd.Series(np.array([1, 2, 1], dtype=np.int8)), ["1", "2", "1"]),
        (pd.Series(["x", "y", "x"], dtype="category"), ["x", "y", "x"]),
    ],
)
def test_labels_become_strings(labels: "pd.Series[object]", expected: list[str]) -> None:
    assert load(pd.DataFrame({"text": LONG[:3], "label": labels})).labels == expected


def test_missing_cells_of_every_kind() -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None, np.nan, pd.NA, "  ", "b", "c", "d"],
            "label": [1, 1, 1, 1, 1, None, np.nan, 2],
        }
    )
    loaded = load(frame)
    assert (loaded.texts, loaded.labels) == (["a", "d"], ["1", "2"])
    assert [f.message for f in loaded.findings] == [
        "4 rows without a text were left out.",
        "2 rows without a label were left out.",
    ]


def test_half_a_character_does_not_stop_the_rest() -> None:
    halves = {"text": ["fine", "half \ud83d of it"], "label": ["a", "b"]}
    assert load(halves).texts == ["fine", "half ? of it"]
    assert load(pd.DataFrame(halves, dtype=object)).texts == ["fine", "half ? of it"]


def test_bytes_are_read_as_utf8_or_refused() -> None:
    frame = pd.DataFrame({"text": ["é".encode(), b"b"], "label": ["a", "b"]})
    assert load(frame, text="text").texts == ["é", "b"]
    frame = pd.DataFrame({"text": [b"caf\xe9", b"b"], "label": ["a", "b"]})
    with pytest.raises(DataProblem, match=r"not UTF-8 \(byte 3\)"):
        load(frame, text="text")


def test_declared_classes_that_no_row_has() -> None:
    labels = pd.Categorical(["a", "b", "a"], categories=["a", "b", "c"])
    assert load(pd.DataFrame({"text": LONG[:3], "label": labels})).empty_classes == ("c",)


@pytest.mark.parametrize("source", [3, None, ["a", "b"], object(), pd.Series(["a"])])
def test_what_is_no_data_set(source: object) -> None:
    with pytest.raises(DataProblem, match="is no data set"):
        load(source)


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (pd.DataFrame(), "no rows"),
        (pd.DataFrame({"text": [], "label": []}), "no rows"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "two columns called 'text'"),
        ({"text": ["a", "b"], "label": ["x"]}, "not a table"),
    ],
)
def test_frames_that_cannot_be_read(frame: object, problem: str) -> None:
    with pytest.raises(DataProblem, match=problem):
        load(frame)


def test_an_arrow_table_is_taken() -> None:
    import pyarrow as pa

    loaded = load(pa.table({"text": LONG, "label": TWO}))
    assert loaded.texts == LONG
