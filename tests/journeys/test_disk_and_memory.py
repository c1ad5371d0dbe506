"""What the machine does to a run: a full disk, a read-only disk, too little memory, a torn label. Nothing is lost."""

import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import sft_magics as sft
from sft_magics.core.errors import RunProblem, WorkspaceProblem
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 150 MB: enough for the data, too small for a checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("a real small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def newest(root: Path) -> Run:
    run: Run = sft.runs(workspace=root).rows[0]
    return run


def test_a_full_disk_ends_the_run_with_a_sentence_and_resume_finishes_it(small_disk: Path, film_csv: Path) -> None:
    root = small_disk / "workspace"
    sft.data("films", str(film_csv), workspace=root)
    sft.create("films", data="films", workspace=root)
    with pytest.raises((RunProblem, WorkspaceProblem)) as caught:
        sft.finetune("films", epochs=0.4, workspace=root)
    assert "disk is full" in caught.value.what.lower()
    assert "--resume" in caught.value.next_step
    assert len(sft.versions(workspace=root)) == 0
    assert len(sft.data(workspace=root)) == 1, "what was acknowledged is there"
    remount(small_disk, "size=2g")
    version = sft.finetune(resume=newest(root).id, workspace=root)
    assert version.ref == "films:1"


def test_a_read_only_workspace_can_be_read_and_says_that_it_cannot_be_written(small_disk: Path, film_csv: Path) -> None:
    root = small_disk / "workspace"
    sft.data("films", str(film_csv), workspace=root)
    remount(small_disk, "ro")
    assert len(sft.data(workspace=root)) == 1
    for line in (
        lambda: sft.data("more", str(film_csv), workspace=root),
        lambda: sft.create("films", data="films", workspace=root),
        lambda: sft.data(workspace=small_disk / "new"),
    ):
        with pytest.raises(WorkspaceProblem) as caught:
            line()
        assert "cannot be written" in caught.value.what
    remount(small_disk, "rw")
    sft.data("more", str(film_csv), workspace=root)


def test_a_worker_without_memory_says_so(trained_once: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "workspace"
    shutil.copytree(trained_once, root)
    # In bfloat16 a step without memory for its compiled kernel goes on with a plain one, a hundred times slower.
    run = sft.finetune("films", epochs=20, precision="fp32", background=True, workspace=root)
    job = JobFolder(Path(run.folder))
    deadline = time.monotonic() + 240
    while newest(root).step < 2:
        assert time.monotonic() < deadline, newest(root)
        time.sleep(0.1)
    process = psutil.Process(job.pid())
    process.rlimit(resource.RLIMIT_AS, (process.memory_info().vms + 2_000_000, -1))
    while newest(root).state == "running":
        assert time.monotonic() < deadline, newest(root)
        time.sleep(0.1)
    ended = newest(root)
    assert ended.state == "failed", ended
    assert "memory" in ended.why
    assert "--batch" in ended.next_step
    assert len(sft.versions(workspace=root)) == 1, "the version that was there still is"


def test_markup_in_texts_and_labels_is_shown_as_text(tmp_path: Path, film_csv: Path) -> None:
    import pandas as pd

    from sft_magics.notebook import panels

    frame = pd.read_csv(film_csv).head(120)
    frame["text"] = "<script>alert(1)</script> " + frame["text"]
    frame["label"] = frame["label"].map({"negative": "<b>bad</b>", "positive": 'good"&'})
    root = tmp_path / "workspace"
    dataset = sft.data("films", frame, workspace=root)
    assert set(dataset.labels) == {"<b>bad</b>", 'good"&'}
    sft.create("films", data="films", workspace=root)
    version = sft.finetune("films", epochs=0.5, workspace=root)
    answers = sft.predict(version.ref, "<img src=x onerror=alert(1)>", workspace=root)
    found = sft.evaluate(version.ref, workspace=root)
    for thing in (dataset, version, answers, found):
        shown = panels.html(thing) or ""
        assert "<script>" not in shown
        assert "<b>bad</b>" not in shown
        assert "<img src=x" not in shown
        assert "&lt;" in shown
