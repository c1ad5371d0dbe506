"""Room can be freed: unfinished runs, versions of datasets, what work left behind; never what something needs."""

import os
import time
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.events import Ended
from sft_magics.core.jobs import JobFolder
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.admin import leftovers
from sft_magics.lifecycle.jobs import client
from sft_magics.registry import Registry

WEEK = 7 * 86400


def a_run(ws: Workspace, name: str, state: str, *, ago: float = 0.0, data: str = "films:1") -> JobFolder:
    """A run that ended in some state without a version, with 3 MB of its own."""
    made = time.time() - ago
    spec = {"kind": "finetune", "model": "films", "data": data, "options": {"epochs": 1.0}, "created_at": made,
            "data_file": str(ws.root / "datasets" / "films" / "x.parquet")}  # fmt: skip
    job = JobFolder(ws.runs / name).create(spec)
    (job.path / "best").mkdir()
    (job.path / "best" / "model.safetensors").write_bytes(os.urandom(3_000_000))
    if state != "lost":
        client.write_down(job, Ended(state, "it ended", "go on", at=made))
    else:
        client.write_down(job, client.started("training"))
    return job


def told(found: sft.core.records.Collection) -> list[str]:
    return [g.what for g in found.garbage]


def test_runs_are_chosen_by_state_and_age(trained: Workspace) -> None:
    for name, state, ago in (
        ("run-0001", "interrupted", 0), ("run-0002", "interrupted", 2 * WEEK), ("run-0003", "failed", 2 * WEEK),
        ("run-0004", "lost", 2 * WEEK),
    ):  # fmt: skip
        a_run(trained, name, state, ago=ago)
    assert told(sft.gc(workspace=trained)) == [], "runs go only when asked for"
    assert told(sft.gc(runs="interrupted", older="7d", workspace=trained)) == ["run-0002 of films"]
    with pytest.raises(errors.UsageProblem, match="neither is named") as caught:
        sft.gc(older="7d", workspace=trained)
    assert caught.value.next_step == "%sft_gc --runs interrupted --older 7d"
    assert told(sft.gc(runs="failed", workspace=trained)) == ["run-0003 of films"]
    assert told(sft.gc(runs="lost", workspace=trained)) == ["run-0004 of films"]
    every = sft.gc(runs="all", workspace=trained)
    assert sorted(told(every)) == [f"run-000{n} of films" for n in (1, 2, 3, 4)]
    assert every.bytes > 12_000_000
    assert "at step" in str(every) or "without a version" in str(every)
    done = sft.gc(runs="interrupted", older="7d", yes=True, workspace=trained)
    assert done.bytes > 3_000_000
    assert not (trained.runs / "run-0002").exists()
    assert (trained.runs / "run-0001").exists()
    newest = Registry(trained).history()[0]
    assert (newest.action, newest.subject, newest.before) == ("gc", "run-0002", "interrupted")
    (version,) = Registry(trained).versions()
    assert (trained.runs / version.run / "examples.json").exists(), "the run of a version stays"


def test_a_run_is_dropped_by_name_unless_it_works_or_its_version_needs_it(trained: Workspace) -> None:
    job = a_run(trained, "run-0001", "interrupted")
    made = Registry(trained).version("films:1").run
    with pytest.raises(errors.Refused, match="made films:1, which is in use"):
        sft.gc(made, workspace=trained)
    lock = job.claim()
    assert lock is not None
    with pytest.raises(errors.Refused, match="run-0001 is"):
        sft.gc("run-0001", yes=True, workspace=trained)
    os.close(lock)
    assert sft.gc("run-0001", workspace=trained).next_step == "%sft_gc run-0001 --yes"
    assert job.path.exists()
    sft.gc("run-0001", yes=True, workspace=trained)
    assert not job.path.exists()
    with pytest.raises(errors.NotFound):
        sft.gc("run-0001", workspace=trained)
    with pytest.raises(errors.UsageProblem, match="dropped alone"):
        sft.gc("run-0001", runs="all", workspace=trained)


def test_versions_of_datasets_go_when_nothing_needs_them(trained: Workspace, film_csv: Path, tmp_path: Path) -> None:
    lines = film_csv.read_text().splitlines()
    for n in (2, 3, 4):
        (tmp_path / "x.csv").write_text("\n".join(lines[: 100 * n]))
        assert sft.data("films", str(tmp_path / "x.csv"), workspace=trained).ref == f"films:{n}"
    run = a_run(trained, "run-0001", "interrupted", data="films:3")
    shown = sft.gc(datasets=True, workspace=trained)
    assert told(shown) == ["dataset films:2"]
    assert {k.what: k.why for k in shown.kept} == {
        "dataset films:1": "needed by version films:1",
        "dataset films:3": "needed by run-0001, which may go on",
        "dataset films:4": "needed by model films",
    }
    assert told(sft.gc(datasets=True, older="1d", workspace=trained)) == []
    for needed in ("films:1", "films:3", "films:4"):
        with pytest.raises(errors.Refused, match=f"{needed} is needed by"):
            sft.gc(needed, workspace=trained)
    with pytest.raises(errors.UsageProblem, match="names 4 versions"):
        sft.gc("films", workspace=trained)

    file = trained.root / sft.data("films:2", workspace=trained).file
    done = sft.gc("films:2", yes=True, workspace=trained)
    assert done.bytes > 1000
    assert not file.exists()
    with pytest.raises(errors.NotFound, match="films:2 was dropped"):
        sft.data("films:2", workspace=trained)
    became = sft.history(dataset="films:2", workspace=trained)
    assert [e.what for e in became.rows] == ["dropped", "made"]

    both = sft.gc(datasets=True, runs="interrupted", yes=True, workspace=trained)
    assert sorted(told(both)) == ["dataset films:3", "run-0001 of films"], "what only that run needed goes with it"
    assert not run.path.exists()
    assert sft.evaluate("films:1", workspace=trained).data == "films:1"


def test_what_work_left_behind_is_found(trained: Workspace, tmp_path: Path) -> None:
    from PIL import Image

    old = time.time() - 7200
    job = JobFolder(trained.jobs / "job-0001").create({"kind": "predict"})
    (job.path / "output.log").write_bytes(bytes(40_000))
    kept = tmp_path / "pictures"
    kept.mkdir()
    frame_rows = []
    for i in range(24):
        picture = Image.new("RGB", (8, 8), (10 * i, 20, 30))
        frame_rows.append((picture, "dark" if i < 12 else "light"))
    import pandas as pd

    frame = pd.DataFrame(frame_rows, columns=["image", "label"])
    sft.data("shapes", frame, workspace=trained)
    sft.data("shapes", frame.iloc[2:], workspace=trained)
    stray = trained.root / "pictures" / "ab" / "stray.png"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(bytes(30_000))
    table = trained.datasets / "shapes" / "0123456789ab.parquet"
    table.write_bytes(bytes(20_000))
    assert told(sft.gc(workspace=trained)) == [], "all of it is young"
    for path in (job.path, stray, table, *(trained.root / "pictures").rglob("*.png")):
        os.utime(path, (old, old))
    found = {g.what: g.bytes for g in sft.gc(workspace=trained).garbage}
    assert list(found) == ["1 folder of jobs", "tables", "1 picture"]
    assert found["1 picture"] == 30_000
    dropping = {g.what for g in sft.gc(datasets=True, workspace=trained).garbage}
    assert dropping == {"1 folder of jobs", "tables", "dataset shapes:1", "3 pictures"}, "pictures of what goes go too"
    sft.gc(yes=True, workspace=trained)
    assert not any(path.exists() for path in (job.path, stray, table))
    assert len(sft.data("shapes:1", workspace=trained).examples) == 6
    assert sft.gc(workspace=trained).garbage == ()


def test_only_what_has_no_other_name_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(bytes(1000))
    (tmp_path / "b").hardlink_to(tmp_path / "a" / "x")
    assert leftovers.freed([tmp_path / "a"]) == 0
    assert leftovers.freed([tmp_path / "a", tmp_path / "b"]) == 1000
    assert leftovers.freed([tmp_path / "nothing"]) == 0
