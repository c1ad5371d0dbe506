"""Datasets have versions: runs take the newest that fits, versions keep theirs, and every change can be seen."""

import io
import json
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.__main__ import main
from sft_magics.core import errors
from sft_magics.core.records import Dataset, DatasetDiff, Table
from sft_magics.core.workspace import Workspace
from sft_magics.notebook import panels
from sft_magics.registry import Registry


def rows_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def load(ws: Workspace, path: Path, lines: list[str], name: str = "films") -> Dataset:
    path.write_text("\n".join(lines) + "\n")
    found = sft.data(name, str(path), workspace=ws)
    assert isinstance(found, Dataset)
    return found


def test_the_life_of_a_dataset_with_three_versions(trained: Workspace, film_csv: Path, tmp_path: Path) -> None:
    lines = rows_of(film_csv)
    shorter = load(trained, tmp_path / "b.csv", lines[:301])
    assert shorter.ref == "films:2"
    assert sft.data("films", workspace=trained).ref == "films:2"
    assert sft.data("films:1", workspace=trained).counts != shorter.counts

    # the version that was trained on films:1 keeps it
    measured = sft.evaluate("films:1", workspace=trained)
    assert (measured.data, measured.split) == ("films:1", "validation")
    assert measured.n == sft.data("films:1", workspace=trained).counts["validation"]
    assert sft.errors_("films:1", workspace=trained).data == "films:1"

    # the same content again is the same version, and that is said
    again = load(trained, tmp_path / "c.csv", lines)
    assert again.ref == "films:1"
    assert again.findings[0].code == "same_version"
    assert "films alone still means films:2" in str(again)
    assert "same_version" not in {f.code for f in Registry(trained).dataset("films:1").findings}

    # a third with a label that the model does not know: a run takes the newest that fits
    strange = load(trained, tmp_path / "d.csv", [*lines[:101], *(f"row {i},mixed" for i in range(40))])
    assert strange.ref == "films:3"
    version = sft.finetune("films", epochs=0.1, workspace=trained)
    assert version.data == "films:2"
    assert Registry(trained).version("films:2").data_fingerprint == shorter.fingerprint
    pinned = sft.finetune("films", data="films:1", epochs=0.1, workspace=trained)
    assert pinned.data == "films:1"

    compared = sft.diff("films:1", "films:2", workspace=trained)
    assert compared.rows == "films:1 (validation)"

    became = sft.history(dataset="films", workspace=trained)
    assert isinstance(became, Table)
    told = [(e.dataset, e.what) for e in became.rows]
    assert ("films:3", "made") in told
    assert ("films:1", "loaded again") in told
    assert [e.detail for e in became.rows if e.dataset == "films:2" and e.what == "trained"] == [
        f"{version.run} of films, which made films:2"
    ]
    only = sft.history(dataset="films:2", workspace=trained)
    assert {e.dataset for e in only.rows} == {"films:2"}
    assert "What became of a dataset" in str(panels.html(became))


def test_versions_are_compared_row_by_row_in_every_face(
    trained: Workspace, film_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = rows_of(film_csv)
    turned = [line[:-8] + "positive" if line.endswith("negative") else line for line in lines[5:20]]
    load(trained, tmp_path / "b.csv", [lines[0], *turned, *lines[20:], "a film of its own,positive"])
    found = sft.data("films:2", diff="films:1", workspace=trained)
    assert isinstance(found, DatasetDiff)
    changed = sum(a != b for a, b in zip(turned, lines[5:20], strict=True))
    assert changed > 0
    assert (found.added, found.relabeled, found.rows_after) == (1, changed, len(lines) - 4)
    assert found.removed == 4
    assert str(found).startswith("films:2 has 1 rows that films:1 lacks and lacks 4")
    page = str(panels.html(found))
    assert "a film of its own" in page
    assert "negative → positive" in page
    assert main(["data", "films:2", "--diff", "films:1", "--json", "--workspace", str(trained.root)]) == 0
    told = json.load(io.StringIO(capsys.readouterr().out))
    assert (told["added"], told["relabeled"]) == (1, changed)


@pytest.mark.parametrize(
    ("call", "said", "step"),
    [
        (lambda ws, csv: sft.data("sample", csv, workspace=ws), "reserved", "my-sample"),
        (lambda ws, csv: sft.data("hub", csv, workspace=ws), "reserved", "my-hub"),
        (lambda ws, csv: sft.data("feedback", csv, workspace=ws), "reserved", "my-feedback"),
        (lambda ws, csv: sft.data("films:2", csv, workspace=ws), "is not chosen", "%sft_data films SOURCE"),
        (lambda ws, _: sft.data("films:9", workspace=ws), "has no version 9", "films:1"),
        (lambda ws, _: sft.data("films", diff="films:1", workspace=ws), "Both are films:1", "--dataset films"),
        (lambda ws, csv: sft.data("films", csv, diff="films:1", workspace=ws), "--diff compares", "--diff"),
        (lambda ws, _: sft.finetune("films", data="films:4", workspace=ws), "has no version 4", "films:1"),
        (lambda ws, _: sft.evaluate("films:1", data="films@live", workspace=ws), "cannot name a dataset", "films-live"),
        (lambda ws, _: sft.history("films", dataset="films", workspace=ws), "alone", "--dataset films"),
        (lambda ws, _: sft.history(dataset="flims", workspace=ws), "mean 'films'", "%sft_data flims"),
    ],
)
def test_what_is_refused_says_what_to_type(
    trained_once: Path, film_csv: Path, call: object, said: str, step: str
) -> None:
    with pytest.raises(errors.SftError, match=said) as caught:
        call(trained_once, str(film_csv))  # type: ignore[operator]
    assert step in caught.value.next_step


def test_the_tab_key_knows_the_versions(trained_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_magics.notebook.completion import suggest
    from sft_magics.verbs import VERBS

    monkeypatch.setenv("SFT_HOME", str(trained_once))
    assert suggest(VERBS["data"].signature, [], "") == ["films", "films:1"]
    assert suggest(VERBS["history"].signature, ["--dataset"], "") == ["films", "films:1"]
