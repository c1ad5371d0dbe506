"""A version is never measured on rows that it or an ancestor was trained on, under whatever name they come."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Version
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import identity, rows
from sft_magics.lifecycle.evaluation import gates, row_selection, seen_requests
from sft_magics.lifecycle.evaluation.row_selection import Wanted
from sft_magics.lifecycle.jobs import seen_rows
from sft_magics.registry import ArtifactStore, Registry
from sft_magics.serving.log.prediction_log import LabeledRow, hashed


@pytest.fixture(scope="module")
def family(trained_once: Path, film_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The trained workspace with the same rows split anew, and version 2, trained on these from version 1."""
    root = tmp_path_factory.mktemp("family") / "workspace"
    shutil.copytree(trained_once, root)
    sft.data("again", str(film_csv), seed=7, workspace=root)
    sft.finetune("films", from_="films:1", data="again", epochs=0.1, workspace=root)
    return Workspace(root)


def split_of(ws: Workspace, name: str) -> dict[str, set[str]]:
    frame = rows(ws, Registry(ws).dataset(name))
    return {split: set(part["text"]) for split, part in frame.groupby("split")}


def test_of_its_own_data_it_is_measured_on_the_validation_rows(family: Workspace) -> None:
    found = sft.evaluate("films:1", workspace=family)
    assert (found.split, found.n) == ("validation", Registry(family).dataset("films").counts["validation"])
    assert not found.overlap.seen
    assert "trained on" not in str(found)


def test_the_same_rows_under_another_name_are_recognized(family: Workspace) -> None:
    films, again = split_of(family, "films"), split_of(family, "again")
    whole = sum(len(part) for part in films.values())
    found = sft.evaluate("films:1", data="again", workspace=family)
    assert (found.n, found.overlap.rows, found.overlap.seen) == (
        len(films["validation"]), whole, len(films["train"]),
    )  # fmt: skip
    assert f"{len(films['train'])} of {whole} rows were trained on by films:1 and are left out." in str(found)

    held_out = again["validation"] & films["validation"]
    found = sft.evaluate("films:1", data="again", split="validation", workspace=family)
    assert (found.n, found.overlap.measured) == (len(held_out), len(held_out))
    assert f"Only {len(held_out)} rows are left: too few to judge by." in str(found)


def test_the_rows_of_an_ancestor_count_for_its_children(family: Workspace) -> None:
    films, again = split_of(family, "films"), split_of(family, "again")
    held_out = films["validation"] & again["validation"]
    assert sft.evaluate("films:2", data="films", workspace=family).n == len(held_out)
    gallery = sft.errors_("films:2", data="again", workspace=family)
    assert (gallery.n, gallery.overlap.measured) == (len(held_out), len(held_out))
    version = Registry(family).version("films:2")
    known = seen_rows.of(family, version)
    assert known is not None
    assert known.complete
    assert len(known.rows) == len(films["train"] | again["train"])


def test_kept_metrics_of_a_child_are_of_rows_its_parent_never_saw(family: Workspace) -> None:
    films, again = split_of(family, "films"), split_of(family, "again")
    version = Registry(family).version("films:2")
    assert version.overlap is not None
    held_out = len(films["validation"] & again["validation"])
    assert (version.overlap.rows, version.overlap.measured) == (len(again["validation"]), held_out)
    assert version.metrics["accuracy"].n == held_out
    said = (JobFolder(family.runs / version.run).events).read_text()
    assert f"{version.overlap.seen} of {len(again['validation'])} rows were trained on and are left out" in said
    result = gates.check(gates.parse("accuracy >= 0", version)[0], version, lambda _: None)
    assert f"on {held_out} validation rows ({version.overlap.seen} of {len(again['validation'])} rows" in result.seen


def test_two_versions_are_compared_on_rows_that_neither_saw(family: Workspace) -> None:
    films, again = split_of(family, "films"), split_of(family, "again")
    found = sft.diff("films:1", "films:2", workspace=family)
    assert found.n == len(films["validation"] & again["validation"])
    assert found.overlap.by == {"films:2": found.overlap.seen}
    other = sft.diff("films:1", "films:2", data="again", workspace=family)
    assert other.overlap.by["films:2"] >= other.overlap.by["films:1"] > 0
    assert "were trained on by films:1 (" in str(other)
    flattering = sft.diff("films:1", "films:2", data="again", seen="include", workspace=family)
    assert flattering.n > found.n
    assert f"This includes rows that were trained on: {flattering.overlap.seen} of {flattering.n}" in str(flattering)


def test_where_no_row_is_left_that_is_said_and_there_is_a_choice(family: Workspace) -> None:
    with pytest.raises(errors.DataProblem, match=r"No row of films:1 \(train\) is left .*: \d+ of \d+ ") as no:
        sft.evaluate("films:1", split="train", workspace=family)
    assert "--seen include" in no.value.next_step
    found = sft.evaluate("films:1", split="train", seen="include", workspace=family)
    assert (found.n, found.overlap.seen) == (found.overlap.rows, found.overlap.rows)
    assert found.overlap.remarks[0].level == "error"


def test_test_rows_are_taken_when_asked_for_and_each_look_is_in_the_history(family: Workspace, film_csv: Path) -> None:
    sft.data("tested", str(film_csv), test=0.3, seed=5, workspace=family)
    films, tested = split_of(family, "films"), split_of(family, "tested")
    found = sft.evaluate("films:1", data="tested", workspace=family)
    assert (found.split, found.overlap.rows) == ("train and validation", 600 - len(tested["test"]))
    assert not [e for e in Registry(family).history("films") if e.action == "test"]

    fresh = tested["test"] & films["validation"]
    assert sft.evaluate("films:1", data="tested", split="test", workspace=family).n == len(fresh)
    assert sft.errors_("films:1", data="tested", split="test", workspace=family).n == len(fresh)
    looks = [e for e in Registry(family).history("films") if e.action == "test"]
    look = f"looked at {len(fresh)} test rows of tested:1"
    assert [(e.subject, e.after) for e in looks] == [("films:1", look)] * 2
    assert [e.reason for e in looks] == ["errors", "evaluate"]
    assert str(looks[0]).endswith(f" test films:1: {look} (errors)")
    assert sft.diff("films:1", "films:2", data="tested", workspace=family).rows == "tested:1 (train and validation)"
    assert len([e for e in Registry(family).history("films") if e.action == "test"]) == 2


def test_near_duplicates_are_measured_and_counted(family: Workspace, tmp_path: Path) -> None:
    texts = sorted(split_of(family, "films")["train"])[:30]
    labels = dict(zip(*(rows(family, Registry(family).dataset("films"))[c] for c in ("text", "label")), strict=True))
    frame = pd.DataFrame({"text": [f"RT: {t.upper()}!!" for t in texts], "label": [labels[t] for t in texts]})
    found = sft.evaluate("films:1", data=frame, workspace=family)
    assert (found.n, found.overlap.seen, found.overlap.near) == (30, 0, 30)
    assert "30 of 30 rows are near-duplicates of rows that were trained on" in str(found)


def test_a_file_is_measured_as_predict_takes_it_and_as_it_writes_it(family: Workspace, tmp_path: Path) -> None:
    own = sft.evaluate("films:1", workspace=family)
    frame = rows(family, Registry(family).dataset("films"), "validation")[["text", "label"]]
    given, answers = tmp_path / "given.csv", tmp_path / "answers.csv"
    frame.to_csv(given, index=False)
    sft.predict("films:1", data=str(given), to=str(answers), workspace=family)
    for source in (str(given), str(answers), frame):
        found = sft.evaluate("films:1", data=source, workspace=family)
        assert (found.n, found.metrics) == (own.n, own.metrics)
    sft.predict("films:1", data="films", to=str(tmp_path / "all.jsonl"), workspace=family)
    found = sft.evaluate("films:1", data=str(tmp_path / "all.jsonl"), workspace=family)
    assert (found.n, found.metrics, found.overlap.seen) == (own.n, own.metrics, 600 - own.n)
    renamed = frame.rename(columns={"text": "said", "label": "meant"})
    assert sft.evaluate("films:1", data=renamed, text="said", label="meant", workspace=family).metrics == own.metrics
    assert sft.diff("films:1", "films:2", data=str(answers), workspace=family).n > 0
    with pytest.raises(errors.UsageProblem, match="has no splits"):
        sft.evaluate("films:1", data=str(given), split="validation", workspace=family)
    with pytest.raises(errors.DataProblem, match="has labels that films:1 does not know: odd"):
        sft.evaluate("films:1", data=frame.assign(label="odd"), workspace=family)


def test_imported_versions_need_no_dataset_of_where_they_come_from(family: Workspace, tmp_path: Path) -> None:
    sft.export("films:2", str(tmp_path / "films.zip"), workspace=family)
    there = Workspace(tmp_path / "there")
    sft.import_(str(tmp_path / "films.zip"), name="films", workspace=there)
    with pytest.raises(errors.DataProblem, match="The data that films:1 was trained on is not in this workspace"):
        sft.evaluate("films:1", workspace=there)
    frame = rows(family, Registry(family).dataset("films"))[["text", "label"]]
    held_out = split_of(family, "films")["validation"] & split_of(family, "again")["validation"]
    assert sft.evaluate("films:1", data=frame, workspace=there).n == len(held_out)
    assert sft.errors_("films:1", data=frame, workspace=there).n == len(held_out)
    sft.export("films:1", str(tmp_path / "first"), workspace=family)
    sft.import_(str(tmp_path / "first"), name="films", workspace=there)
    assert sft.diff("films:1", "films:2", data=frame, workspace=there).n == len(held_out)
    done = sft.promote("films:1", workspace=there)
    assert done.after == "films:1"
    with pytest.raises(errors.Refused, match=r"not-worse live failed, only the making .* not in this workspace"):
        sft.promote("films:2", gate="not-worse live", workspace=there)
    done = sft.promote("films:2", gate="not-worse live", data=frame, workspace=there)
    assert f"on {len(held_out)} rows" in done.gates[0].seen

    plain = tmp_path / "plain"
    shutil.copytree(tmp_path / "first", plain)
    for name in ("sft_version.json", identity.FILE):
        (plain / name).unlink()
    sft.import_(str(plain), workspace=there)
    found = sft.evaluate("plain:1", data=frame, workspace=there)
    assert (found.n, found.overlap.unknown) == (600, ("plain:1",))
    assert "Not all rows that plain:1 was trained on are known here." in str(found)


def test_labeled_requests_that_were_trained_on_are_left_out_of_the_accuracy(family: Workspace) -> None:
    version = Registry(family).version("films:1")
    splits = split_of(family, "films")
    seen, fresh = sorted(splits["train"])[0], sorted(splits["validation"])[0]
    asked = [seen.upper(), fresh, hashed(seen)]
    labeled = [LabeledRow(str(i), 0.0, "films:1", text, "0", "1") for i, text in enumerate(asked)]
    ids, overlap = seen_requests.find(family, version, labeled[:2])
    assert (ids, overlap.rows, overlap.seen, overlap.unknown) == ({"0"}, 2, 1, ())
    ids, overlap = seen_requests.find(family, version, labeled)
    assert (ids, overlap.unknown) == ({"0"}, ("films:1",))
    assert seen_requests.find(family, version, []) == (set(), replace(overlap, rows=0, seen=0, by={}, unknown=()))


def test_a_candidate_and_the_live_version_are_compared_on_rows_that_neither_saw(family: Workspace) -> None:
    films, again = split_of(family, "films"), split_of(family, "again")
    fresh = len(films["validation"] & again["validation"])
    found = sft.retrain("films", from_="films:1", data="again", epochs=0.1, workspace=family)
    assert [(pair.data, pair.n) for pair in found.pairs] == [("again:1", fresh)]
    assert found.overlaps["again:1"].rows == len(again["validation"])
    assert "were trained on by films:1 (" in str(found)


def pretended(ws: Workspace, registry: Registry, number: int, trained: list[str], parent: Version | None) -> Version:
    """Commit a version whose artifact says what it was trained on, written by the code that commits a run."""
    from sft_magics.datasets.tables.parquet import write

    folder, data = ws.root / f"pretended-{number}", ws.root / f"rows-{number}"
    folder.mkdir()
    table = sorted((text, text, "a", "train") for text in trained)
    mark = identity_of_file(table)
    write(data / f"{mark}.parquet", list(zip(*table, strict=True)))
    start = ArtifactStore(ws.artifacts).checkout(parent.artifact) if parent else ws.root / "base"
    spec = {
        "task": "text-classification", "start": {"kind": "folder", "path": str(start)},
        "parent": parent.ref if parent else None,
        "data_file": str(data / f"{mark}.parquet"), "data": str(data / f"{mark}.parquet"),
    }  # fmt: skip
    seen_rows.write(folder, spec)
    (folder / "weights").write_text(str(number))
    stored = ArtifactStore(ws.artifacts).save(folder)
    base = registry.version("films:1")
    return registry.commit_version(replace(base, parent=spec["parent"], artifact=stored.id, run=f"run-{number}"))


def identity_of_file(table: list[tuple[str, str, str, str]]) -> str:
    from sft_magics.datasets.fingerprints import fingerprint

    return fingerprint((text, label, split) for _, text, label, split in table)[:12]


@pytest.mark.parametrize("seed", range(3))
def test_no_history_of_splits_names_and_parents_hides_a_seen_row(trained: Workspace, seed: int) -> None:
    rng = random.Random(seed)
    registry = Registry(trained)
    world = [f"sentence number {i}" for i in range(120)]
    truth: dict[str, set[str]] = {}
    made: dict[str, Version] = {}
    for number in range(4):
        parent = rng.choice([None, *made.values()])
        chosen = rng.sample(world, rng.randrange(10, 70))
        version = pretended(trained, registry, number, chosen, parent)
        made[version.ref] = version
        truth[version.ref] = {*chosen, *(truth[parent.ref] if parent else ())}
    for turn in range(3):
        frame = pd.DataFrame({"text": rng.sample(world, 100)})
        frame["label"] = [rng.choice(registry.model("films").labels) for _ in range(100)]
        frame["text"] = [rng.choice((t, t.upper(), f" {t} ")) for t in frame["text"]]
        sft.data(f"renamed-{turn}", frame, seed=turn, validation=rng.uniform(0.1, 0.6), workspace=trained)
        pair = rng.sample(sorted(made), 2)
        both = truth[pair[0]] | truth[pair[1]]
        whole = {t.lower().strip() for t in frame["text"]}
        try:
            found = row_selection.choose(trained, registry, [made[ref] for ref in pair], Wanted(f"renamed-{turn}"))
        except errors.DataProblem as problem:
            assert "were trained on by" in problem.what  # noqa: PT017
            continue
        measured = {t.lower().strip() for t in found.texts}
        assert not measured & both
        assert found.overlap.measured == len(measured)
        assert found.overlap.seen == found.overlap.rows - len(measured)
        if found.split == "all":
            assert measured == whole - both
            assert found.overlap.by == {ref: len(whole & truth[ref]) for ref in pair if whole & truth[ref]}
