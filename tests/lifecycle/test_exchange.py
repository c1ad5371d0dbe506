"""Show, export, import, reproduce and gc, on a really trained version."""

import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.registry import ArtifactStore, Registry

TEXTS = ["a moving, funny film", "dull and far too long"]


@pytest.fixture(scope="module")
def zipped(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zip") / "films.zip"
    done = sft.export("films:1", str(path), workspace=trained_once)
    assert (done.kind, done.bytes) == ("a bundle", path.stat().st_size)
    return path


def answers(ws: object, ref: str) -> list[tuple[str, float]]:
    return [(r.label, r.confidence) for r in sft.predict(ref, *TEXTS, workspace=ws).rows]


def test_a_folder_is_loaded_by_transformers_alone(trained: Workspace, tmp_path: Path) -> None:
    from transformers import pipeline

    done = sft.export("films:1", str(tmp_path / "out"), workspace=trained)
    assert done.kind == "a folder"
    ask = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")
    ours = answers(trained, "films:1")
    for (label, confidence), theirs in zip(ours, ask(TEXTS), strict=True):
        assert theirs["label"] == label
        assert theirs["score"] == pytest.approx(confidence, abs=0.02)  # ours may compute in bfloat16
    assert (tmp_path / "out" / "README.md").read_text().startswith("# Model card: films:1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "workspace"]


def test_a_version_keeps_identity_lineage_and_hashes_on_another_machine(
    trained: Workspace, zipped: Path, tmp_path: Path
) -> None:
    here = Registry(trained).version("films:1")
    other = tmp_path / "other"
    there = sft.import_(str(zipped), workspace=other)
    for field in ("artifact", "run", "created_at", "data_fingerprint", "options", "labels", "metrics", "cells", "size"):
        assert getattr(there, field) == getattr(here, field), field
    assert there.environment["imported"]["ref"] == "films:1"
    assert (there.ref, there.aliases) == ("films:1", ())
    assert sft.import_(str(zipped), workspace=other).ref == "films:1", "the same again is the one that is there"
    assert len(Registry(Workspace(other)).versions()) == 1
    assert answers(other, "films:1") == answers(trained, "films:1")
    entry = Registry(Workspace(other)).history("films")[0]
    assert (entry.action, entry.reason) == ("commit", "import of films:1")
    card = sft.show("films:1", workspace=other)
    assert any(step.startswith("films:1 on ") for step in card.lineage)
    assert card.dataset is None
    assert sft.import_(str(zipped), name="critics", workspace=other).ref == "critics:1"


def test_an_exported_folder_comes_in_as_the_version_it_is(trained: Workspace, tmp_path: Path) -> None:
    sft.export("films:1", str(tmp_path / "out"), workspace=trained)
    there = sft.import_(str(tmp_path / "out"), workspace=tmp_path / "other")
    assert there.artifact == Registry(trained).version("films:1").artifact
    (tmp_path / "out" / "config.json").write_text((tmp_path / "out" / "config.json").read_text() + " ")
    with pytest.raises(errors.ModelProblem, match="not those of films:1"):
        sft.import_(str(tmp_path / "out"), workspace=tmp_path / "third")
    assert Registry(Workspace(tmp_path / "third")).models() == []


def test_a_stranger_s_folder_becomes_version_one(trained: Workspace, tmp_path: Path) -> None:
    sft.export("films:1", str(tmp_path / "out"), workspace=trained)
    for name in ("sft_version.json", "sft.json", "README.md"):
        (tmp_path / "out" / name).unlink()
    there = sft.import_(str(tmp_path / "out"), name="stranger", workspace=tmp_path / "other")
    assert (there.ref, there.labels, there.metrics) == ("stranger:1", ("negative", "positive"), {})
    assert answers(tmp_path / "other", "stranger:1") == answers(trained, "films:1")


def test_what_cannot_come_in_is_refused_in_a_sentence(zipped: Path, tmp_path: Path) -> None:
    base = sft.__file__ and tmp_path / "headless"
    assert base is not None
    base.mkdir()
    (base / "config.json").write_text("{}")
    (tmp_path / "text.zip").write_text("no zip")
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(zipped) as old, zipfile.ZipFile(changed, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "sft_version.json":
                about = json.loads(data)
                about["version"]["note"] = "the best of all"
                data = json.dumps(about).encode()
            new.writestr(entry, data)
    for source, says in (
        (tmp_path / "nothing.zip", "no file or folder"),
        (tmp_path / "text.zip", "no whole bundle"),
        (changed, "damaged or was changed"),
        (base, "names no labels"),
    ):
        with pytest.raises(errors.SftError, match=says):
            sft.import_(str(source), workspace=tmp_path / "other")
    assert not [p for p in (tmp_path / "other").iterdir() if p.name.startswith(".import")]


def test_an_export_overwrites_nothing(trained: Workspace, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for to, says in (("full", "is there already"), ("nowhere/out", "There is no folder")):
        with pytest.raises(errors.SftError, match=says):
            sft.export("films:1", str(tmp_path / to), workspace=trained)
    (tmp_path / "empty").mkdir()
    sft.export("films:1", str(tmp_path / "empty"), workspace=trained)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_damaged_weights_are_not_exported(trained: Workspace, tmp_path: Path) -> None:
    (pack,) = (trained.artifacts / "packs").iterdir()
    pack.chmod(0o600)
    with pack.open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"damage")
    with pytest.raises(errors.ModelProblem, match="is damaged"):
        sft.export("films:1", str(tmp_path / "out"), workspace=trained)
    assert [p.name for p in tmp_path.iterdir()] == ["workspace"]
    with pytest.raises(errors.ModelProblem, match="is damaged"):
        sft.predict("films:1", *TEXTS, workspace=trained)


def test_the_card_gathers_what_is_known_and_stays_up_to_date(trained: Workspace, tmp_path: Path) -> None:
    first = sft.show("films:1", workspace=trained)
    assert first.intended_use == ""
    assert first.lineage[0] == "base minilm"
    assert first.lineage[-1] == "films:1"
    sft.tag("films:1", "intended-use=short film reviews | in <English>", workspace=trained)
    sft.promote("films:1", reason="first", workspace=trained)
    card = sft.show("films:1", to=str(tmp_path / "card.md"), workspace=trained)
    assert card.intended_use == "short film reviews | in <English>"
    assert {m.action for m in card.moments} == {"commit", "tag", "promote"}
    text = (tmp_path / "card.md").read_text()
    for wanted in (
        "# Model card: films:1",
        "Aliases: live",
        "short film reviews &#124; in &#60;English&#62;",
        "## Metrics",
    ):
        assert wanted in text
    sft.show("films:1", to=str(tmp_path / "card.html"), workspace=trained)
    page = (tmp_path / "card.html").read_text()
    assert "in &lt;English&gt;" in page
    assert "<h2>History</h2>" in page
    for to, says in (("card.pdf", ".md or .html"), ("nowhere/card.md", "no folder")):
        with pytest.raises(errors.UsageProblem, match=says.replace(".", r"\.")):
            sft.show("films:1", to=str(tmp_path / to), workspace=trained)


def test_a_recipe_comes_out_the_same_to_the_bit(trained: Workspace) -> None:
    before, jobs = ({p.name for p in (trained.root / part).iterdir()} for part in ("runs", "jobs"))
    again = sft.reproduce("films:1", workspace=trained)
    assert again.same_weights
    assert again.same_metrics
    assert (again.metrics, again.largest) == ((), 0.0)
    assert "every weight agrees to the bit" in again.verdict
    assert len(Registry(trained).versions()) == 1, "nothing is committed"
    assert {p.name for p in trained.runs.iterdir()} - {"device.lock"} == before - {"device.lock"}
    assert {p.name for p in (trained.root / "jobs").iterdir()} == jobs


def test_what_cannot_be_made_again_is_refused(trained: Workspace, zipped: Path, tmp_path: Path) -> None:
    sft.import_(str(zipped), workspace=tmp_path / "other")
    with pytest.raises(errors.Refused, match="its data films:1 is not in this workspace"):
        sft.reproduce("films:1", workspace=tmp_path / "other")


def old(ws: Workspace) -> None:
    """Make everything in the store older than the grace."""
    before = time.time() - 7200
    for path in (ws.artifacts / "manifests").iterdir():
        os.utime(path, (before, before))


def test_gc_shows_first_and_removes_when_told(trained: Workspace, tmp_path: Path) -> None:
    assert sft.gc(workspace=trained).garbage == ()
    stray = tmp_path / "stray"
    stray.mkdir()
    (stray / "model.bin").write_bytes(os.urandom(100_000))
    ArtifactStore(trained.artifacts).save(stray)
    assert sft.gc(workspace=trained).garbage == (), "it was saved just now"
    old(trained)
    shown = sft.gc(workspace=trained)
    assert (shown.done, shown.bytes) == (False, 100_000)
    assert shown.next_step == "%sft_gc --yes"
    assert len(ArtifactStore(trained.artifacts).ids()) == 2
    done = sft.gc(yes=True, workspace=trained)
    assert (done.done, done.bytes) == (True, 100_000)
    assert ArtifactStore(trained.artifacts).ids() == [Registry(trained).version("films:1").artifact]
    assert answers(trained, "films:1")


def test_gc_takes_the_weights_of_retired_versions_only_when_nothing_needs_them(trained: Workspace) -> None:
    registry = Registry(trained)
    artifact = registry.version("films:1").artifact
    child = sft.finetune("films", from_="films:1", epochs=0.05, workspace=trained)
    sft.retire("films:1", reason="old", workspace=trained)
    old(trained)
    shown = sft.gc(retired=True, workspace=trained)
    assert [k.why for k in shown.kept] == [f"needed by {child.ref}, which was made from it"]
    assert artifact in ArtifactStore(trained.artifacts).ids()
    sft.retire(child.ref, workspace=trained)
    done = sft.gc(retired=True, yes=True, workspace=trained)
    assert done.bytes > 90_000_000
    assert ArtifactStore(trained.artifacts).ids() == []
    assert len(registry.versions("films")) == 2, "the records stay"
    assert {row.state for row in sft.registry_(workspace=trained)} == {"ok"}
    assert shutil.disk_usage(trained.root).free
