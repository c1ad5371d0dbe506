"""Whole data sets: the record, the file, the findings, and what happens to files that are harmed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from sft_magics.core.errors import DataProblem, Refused, SftError, UsageProblem, WorkspaceProblem
from sft_magics.core.records import Dataset
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, combine, frame_of, load, read_rows, rows

Write = Callable[[str, str | bytes], str]


@pytest.fixture(scope="module")
def films() -> pd.DataFrame:
    frame: pd.DataFrame = load("sample:reviews").frame
    return frame[["text", "label"]]


def codes(dataset: Dataset) -> list[str]:
    return [finding.code for finding in dataset.findings]


def message(dataset: Dataset, code: str) -> str:
    return next(finding.message for finding in dataset.findings if finding.code == code)


@pytest.mark.network
def test_the_record_and_the_file_agree(ws: Workspace, films: pd.DataFrame) -> None:
    dataset = build("films", films, workspace=ws)
    frame = rows(ws, dataset)
    assert list(frame.columns) == ["id", "text", "label", "split"]
    assert frame["id"].is_unique
    assert not frame.isna().any().any()
    assert frame["split"].value_counts().to_dict() == dataset.counts
    assert len(rows(ws, dataset, "validation")) == dataset.counts["validation"]
    for split, counts in dataset.class_counts.items():
        assert rows(ws, dataset, split)["label"].value_counts().to_dict() == counts
    assert sorted(zip(frame["text"], frame["label"], strict=True)) == sorted(
        zip(films["text"], films["label"], strict=True)
    )
    assert dataset.file == f"datasets/films/{dataset.fingerprint[:12]}.parquet"
    assert sum(dataset.lengths) == len(frame)
    assert len(dataset.length_edges) == len(dataset.lengths) + 1
    assert list(dataset.length_edges) == sorted(set(dataset.length_edges))
    assert {example.label for example in dataset.examples} == set(dataset.labels)
    assert {column.name: str(column.type) for column in pq.read_schema(ws.root / dataset.file)} == {
        "id": "string", "text": "string", "label": "string", "split": "string",
    }  # fmt: skip


@pytest.mark.network
def test_shuffled_rows_from_another_file_are_the_same_dataset(
    ws: Workspace, films: pd.DataFrame, tmp_path: Path
) -> None:
    first = build("films", films, workspace=ws)
    before = (ws.root / first.file).read_bytes()
    films.sample(frac=1, random_state=1).to_csv(tmp_path / "films.csv", index=False)
    again = build("films", str(tmp_path / "films.csv"), workspace=ws)
    assert (again.fingerprint, again.file, again.examples) == (first.fingerprint, first.file, first.examples)
    assert (ws.root / again.file).read_bytes() == before
    other = build("films", films, workspace=ws, seed=1)
    assert other.fingerprint != first.fingerprint
    assert rows(ws, first).equals(read_rows(ws.root / first.file))  # the older file is still there


@pytest.mark.network
def test_added_rows_leave_the_others_where_they_are(ws: Workspace, films: pd.DataFrame) -> None:
    part = rows(ws, build("part", films[:4000], workspace=ws))
    whole = rows(ws, build("whole", films, workspace=ws))
    before = dict(zip(part["text"], part["split"], strict=True))
    after = dict(zip(whole["text"], whole["split"], strict=True))
    assert all(after[text] == split for text, split in before.items())


def test_html_in_texts_and_labels_is_kept_as_it_is(ws: Workspace, write: Write) -> None:
    html = "<script>alert('x')</script> & <b>bold</b>"
    lines = "".join(f"{html} {i},<i>{'ab'[i % 2]}</i>\n" for i in range(60))
    dataset = build("html", write("html.csv", "text,label\n" + lines), workspace=ws)
    assert dataset.labels == ("<i>a</i>", "<i>b</i>")
    assert all(text.startswith(html) for text in rows(ws, dataset)["text"])


def frame_with(n: int, labels: list[str], **more: object) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"sentence number {i}" for i in range(n)], "label": labels, **more})


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["good"] * 40, "of one class, 'good'"),
        ([f"label {i}" for i in range(40)], "are not classes"),
    ],
)
def test_labels_that_cannot_be_learned(ws: Workspace, labels: list[str], problem: str) -> None:
    with pytest.raises(DataProblem, match=problem) as caught:
        build("bad", frame_with(40, labels), workspace=ws, label="label")
    assert "--label" in caught.value.next_step
    assert not list(ws.datasets.iterdir())


def test_scores_are_no_classes(ws: Workspace) -> None:
    scores = [f"{i % 15 + 0.5}" for i in range(60)]
    with pytest.raises(DataProblem, match="15 numbers with fractions") as caught:
        build("bad", frame_with(60, scores), workspace=ws)
    assert "pandas.qcut" in caught.value.next_step


@pytest.mark.parametrize(("labels", "many"), [(["0.5", "1", "1.5"], 3), ([str(i) for i in range(15)], 15)])
def test_numbers_that_are_taken_as_classes_are_told(ws: Workspace, labels: list[str], many: int) -> None:
    dataset = build("numbers", frame_with(60, labels * (60 // many)), workspace=ws)
    assert message(dataset, "numeric_labels").startswith(f"The labels are {many} numbers")
    assert "numeric_labels" not in {
        f.code for f in build("few", frame_with(60, ["1", "2"] * 30), workspace=ws).findings
    }


def test_a_class_that_only_the_validation_rows_have(ws: Workspace) -> None:
    frame = frame_with(40, ["a", "b"] * 19 + ["c", "c"], split=["train"] * 30 + ["validation"] * 10)
    with pytest.raises(DataProblem, match="no train row has the label 'c'") as caught:
        build("bad", frame, workspace=ws)
    assert "--split none" in caught.value.next_step
    assert build("good", frame, workspace=ws, split="none").labels == ("a", "b", "c")


def test_a_declared_class_without_rows_is_said_and_left_out(ws: Workspace) -> None:
    frame = frame_with(40, ["a", "b"] * 20)
    frame["label"] = pd.Categorical(frame["label"], categories=["a", "b", "never <seen>"])
    dataset = build("some", frame, workspace=ws)
    assert dataset.labels == ("a", "b")
    assert "'never <seen>'" in message(dataset, "empty_class")


def test_findings_on_untidy_data(ws: Workspace) -> None:
    frame = pd.DataFrame(
        {
            "text": ["Same text", "same  TEXT", "clash here", "Clash here", "word " * 400]
            + [f"sentence number {i}" for i in range(395)]
            + ["", None],
            "label": ["a", "a", "a", "b", "a"] + ["a"] * 380 + ["b"] * 9 + ["rare"] * 3 + ["A"] * 3 + ["a", "b"],
        }
    )
    dataset = build("untidy", frame, workspace=ws)
    assert set(codes(dataset)) == {
        "empty_texts", "conflicting_labels", "label_spelling", "rare_class", "imbalance", "duplicates", "long_texts",
    }  # fmt: skip
    assert "“clash here”: a and b" in message(dataset, "conflicting_labels").lower()
    assert message(dataset, "duplicates").startswith("2 rows repeat")
    assert "2 rows without a text" in message(dataset, "empty_texts")
    assert "rare (" in message(dataset, "rare_class")
    assert "A, a" in message(dataset, "label_spelling")


def test_leaks_of_a_split_of_the_user(ws: Workspace) -> None:
    frame = frame_with(60, ["a", "b"] * 30, split=["train"] * 40 + ["val"] * 12 + ["test"] * 8)
    frame.loc[45, "text"] = "SENTENCE number  3"
    frame.loc[55, "text"] = "sentence number 5"
    dataset = build("leaky", frame, workspace=ws)
    assert dataset.counts == {"train": 40, "validation": 12, "test": 8}
    assert dataset.columns["split"] == "split"
    leaks = [finding.message for finding in dataset.findings if finding.code == "leak"]
    assert "1 row of validation is also in train, such as “SENTENCE number 3”" in leaks[0]
    assert "1 row of test is also in train" in leaks[1]
    assert len(rows(ws, dataset, "test")) == 8


def test_near_duplicates_across_splits_are_a_finding_of_their_own(ws: Workspace) -> None:
    frame = frame_with(60, ["a", "b"] * 30, split=["train"] * 40 + ["val"] * 12 + ["test"] * 8)
    frame.loc[45, "text"] = "RT @someone: sentence number 3!"
    frame.loc[46, "text"] = "“Sentence” number 3"
    frame.loc[47, "text"] = "SENTENCE number  3"
    dataset = build("near", frame, workspace=ws)
    found = {f.code: f.message for f in dataset.findings}
    assert "1 row of validation is also in train" in found["leak"]
    assert "2 rows of validation are near-duplicates of train rows" in found["near_leak"]
    assert "such as “RT @someone: sentence number 3!”" in found["near_leak"]


def test_a_test_split_is_put_aside_on_request(ws: Workspace) -> None:
    frame = frame_with(400, ["a", "b"] * 200)
    dataset = build("kept", frame, workspace=ws, validation=0.2, test=0.1)
    assert dataset.counts["test"] == pytest.approx(40, abs=20)
    assert build("plain", frame, workspace=ws, validation=0.2).counts["validation"] == dataset.counts["validation"]
    own = frame.assign(split=["train"] * 350 + ["test"] * 50)
    with pytest.raises(UsageProblem, match="has test rows of its own"):
        build("own", own, workspace=ws, test=0.1)
    with pytest.raises(UsageProblem, match=r"--test cannot be 0\.9 beside --validation 0\.2"):
        build("much", frame, workspace=ws, validation=0.2, test=0.9)


def test_clean_data_has_no_findings(ws: Workspace) -> None:
    assert build("clean", frame_with(1000, ["a", "b"] * 500), workspace=ws).findings == ()


def test_tiny_data_is_said(ws: Workspace) -> None:
    dataset = build("tiny", frame_with(4, ["a", "b"] * 2), workspace=ws)
    assert {"tiny", "rare_class"} <= set(codes(dataset))
    assert dataset.counts["train"] >= 2
    assert dataset.counts["validation"] >= 1


def test_numbers_are_ordered_as_numbers(ws: Workspace) -> None:
    dataset = build("stars", frame_with(60, [10, 2, 1] * 20), workspace=ws)  # type: ignore[arg-type]
    assert dataset.labels == ("1", "2", "10")


@pytest.mark.parametrize("validation", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_that_is_none(ws: Workspace, validation: float) -> None:
    with pytest.raises(UsageProblem, match="fraction"):
        build("x", frame_with(40, ["a", "b"] * 20), workspace=ws, validation=validation)


def test_a_name_that_is_none(ws: Workspace) -> None:
    with pytest.raises(UsageProblem, match="cannot name a dataset"):
        build("../x", frame_with(40, ["a", "b"] * 20), workspace=ws)


def test_a_workspace_that_cannot_be_written_loses_nothing(ws: Workspace) -> None:
    first = build("kept", frame_with(40, ["a", "b"] * 20), workspace=ws)
    (ws.datasets / "blocked").write_text("a file where a folder should be")
    with pytest.raises(WorkspaceProblem):
        build("blocked", frame_with(40, ["a", "b"] * 20), workspace=ws)
    assert len(rows(ws, first)) == 40


def test_damaged_and_missing_rows_are_refused(ws: Workspace) -> None:
    dataset = build("some", frame_with(400, ["a", "b"] * 200), workspace=ws)
    path = ws.root / dataset.file
    good = path.read_bytes()
    path.write_bytes(good[:-100])
    with pytest.raises(DataProblem, match="are damaged"):
        rows(ws, dataset)
    frame = pd.read_parquet(ws.root / build("other", frame_with(400, ["b", "a"] * 200), workspace=ws).file)
    frame.to_parquet(path)  # legal Parquet with other rows
    with pytest.raises(DataProblem, match="are damaged"):
        rows(ws, dataset, "train")
    path.unlink()
    with pytest.raises(DataProblem, match="are gone") as caught:
        rows(ws, dataset)
    assert "%sft_data some" in caught.value.next_step
    path.write_bytes(good)
    assert len(rows(ws, dataset)) == 400


def test_nothing_half_written_is_left(ws: Workspace) -> None:
    dataset = build("some", frame_with(40, ["a", "b"] * 20), workspace=ws)
    assert [path.name for path in (ws.datasets / "some").iterdir()] == [Path(dataset.file).name]


def test_importing_the_room_brings_in_nothing_heavy() -> None:
    code = (
        "import sys, sft_magics.datasets, sft_magics.core.runtime.fetching\n"
        "print([n for n in ('pandas', 'numpy', 'pyarrow', 'torch', 'IPython') if n in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    child = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


# combine


def test_rows_and_feedback(ws: Workspace) -> None:
    base = build("base", frame_with(400, ["a", "b"] * 200), workspace=ws)
    old = rows(ws, base)
    held = old[old["split"] == "validation"].iloc[0]
    texts = [f"new sentence {i}" for i in range(200)] + [held["text"].upper(), old["text"].iloc[0]]
    labels = ["a", "b"] * 100 + ["b" if held["label"] == "a" else "a", old["label"].iloc[0]]
    both = combine(
        "both", [old, frame_of(texts, labels)], workspace=ws, source="base + feedback", parents=["base"],
        labels=("b", "a"),
    )  # fmt: skip
    frame = rows(ws, both)
    assert len(frame) == 600
    assert both.labels == ("b", "a")
    assert both.parents == ("base",)
    assert both.source == "base + feedback"
    split = dict(zip(frame["text"], frame["split"], strict=True))
    assert all(split[text] == kept for text, kept in zip(old["text"], old["split"], strict=True))
    new = [split[text] for text in texts[:200]]
    assert 12 < new.count("validation") < 50
    changed = frame[frame["text"] == held["text"]]
    assert list(changed["label"]) == [labels[200]]
    assert message(both, "relabeled") == "1 row took its label from a later part."


def test_combining_twice_gives_the_same_and_growing_feedback_moves_nothing(ws: Workspace) -> None:
    old = rows(ws, build("base", frame_with(400, ["a", "b"] * 200), workspace=ws))
    texts = [f"new sentence {i}" for i in range(200)]
    few = frame_of(texts[:100], ["a", "b"] * 50)
    more = frame_of(texts, ["a", "b"] * 100)
    first = combine("x", [old, few], workspace=ws, source="s")
    assert combine("x", [old, few], workspace=ws, source="s").fingerprint == first.fingerprint
    grown = rows(ws, combine("x", [old, more], workspace=ws, source="s"))
    after = dict(zip(grown["text"], grown["split"], strict=True))
    before = rows(ws, first)
    assert all(after[text] == split for text, split in zip(before["text"], before["split"], strict=True))


def test_pictures_of_which_only_the_files_are_known_are_told_apart_by_them(ws: Workspace) -> None:
    hashes = [f"{i:064d}" for i in range(200)]
    part = frame_of([f"/nowhere/{i}.png" for i in range(200)], ["a", "b"] * 100, hashes)
    found = combine("x", [part], workspace=ws, source="s", task="image-classification")
    assert 12 < found.counts["validation"] < 50
    assert not [finding for finding in found.findings if finding.code in ("duplicates", "leak", "conflicting_labels")]


def test_a_new_label_comes_after_the_known_ones(ws: Workspace) -> None:
    part = frame_of([f"sentence {i}" for i in range(60)], ["good", "bad", "awful"] * 20)
    assert combine("x", [part], workspace=ws, source="s", labels=("good", "bad")).labels == ("good", "bad", "awful")


def test_parts_that_cannot_be_combined(ws: Workspace) -> None:
    with pytest.raises(DataProblem, match="no column 'label'"):
        combine("x", [pd.DataFrame({"text": ["a"]})], workspace=ws, source="s")
    with pytest.raises(SftError, match="no rows"):
        combine("x", [], workspace=ws, source="s")


def test_texts_and_pictures_are_not_joined(ws: Workspace) -> None:
    texts = frame_of(["a", "b"], ["x", "y"])
    pictures = frame_of(["/a.png", "/b.png"], ["x", "y"], ["1" * 64, "2" * 64])
    with pytest.raises(DataProblem, match="joins texts and pictures"):
        combine("both", [texts, pictures], workspace=ws, source="texts + pictures")
    with pytest.raises(Refused, match="are not joined"):
        combine("both", [texts, texts], workspace=ws, source="s", task="object-detection")
