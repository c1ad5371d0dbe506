"""A user's session in a real kernel, on real sentences: cells, interrupts, a killed kernel, a killed worker."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Run
from sft_magics.core.workspace import Workspace
from tests.journeys.kernels import Kernel

pytestmark = pytest.mark.alone

LONG = "%sft_finetune films --epochs 40 --checkpoint-seconds 3"


@pytest.fixture
def kernel(trained: Workspace, tmp_path: Path) -> Iterator[Kernel]:
    made = Kernel(tmp_path, trained.root)
    yield made
    made.close()


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until `condition` holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.1)


def newest(ws: Workspace) -> Run:
    """The run that was started last."""
    run: Run = sft.runs(workspace=ws).rows[0]
    return run


def training(ws: Workspace) -> bool:
    """Whether the newest run has taken a few steps and left a checkpoint."""
    run = newest(ws)
    return run.step >= 3 and any(Path(run.folder, "checkpoints").glob("step-*"))


@pytest.fixture
def finished(trained: Workspace) -> Iterator[Workspace]:
    """The workspace, with every run ended when the test ends."""
    yield trained
    for run in sft.runs(workspace=trained).rows:
        JobFolder(Path(run.folder)).kill()


def test_the_cells_of_a_session(kernel: Kernel, film_csv: Path) -> None:
    assert "films" in kernel.run("%sft").plain
    assert "torch" in kernel.run("%sft_doctor").plain
    outcome = kernel.run(f"%sft_data mine {film_csv} -o mine\n")
    assert "510 train" in outcome.plain or "train" in outcome.plain
    assert kernel.run("%sft_create mine --task text-classification --base minilm --data mine").error is None
    outcome = kernel.run("%sft_finetune mine --epochs 0.5 -o first")
    assert outcome.error is None
    assert "mine:1" in outcome.plain
    assert "<svg" in outcome.html, "the finished panel is a plain picture"
    assert not any("application/vnd.jupyter.widget-view+json" in b for b in outcome.bundles), "no widget is left behind"
    assert max(len(str(b)) for b in outcome.bundles) <= 200_000
    assert kernel.run("first.ref").plain.strip() == "'mine:1'"
    assert "mine:1" in kernel.run("%sft_versions mine").plain
    assert "accuracy" in kernel.run("%sft_evaluate mine:1").plain
    answers = kernel.run('%sft_predict mine:1 "a moving, funny film" -o answers')
    assert "a moving, funny film" in answers.plain
    assert kernel.run("%%sft_predict mine:1\ngood\nbad\n").plain.count("\n") >= 2
    assert kernel.run("texts = ['one', 'two', 'three']\n%sft_predict mine:1 texts -o three").error is None
    assert kernel.run("len(three)").plain.strip() == "3"
    body = '%%sft_finetune mine\nepochs = 0.2\nlr = 3e-5\nprecision = "fp32"\n'
    outcome = kernel.run(body)
    assert outcome.error is None
    assert "mine:2" in outcome.plain


def test_serving_and_monitoring_from_cells(kernel: Kernel, film_csv: Path) -> None:
    kernel.run("%sft_alias films:1 live")
    outcome = kernel.run("%sft_deploy films@live")
    assert outcome.error is None, outcome.plain
    assert "A box to try the endpoint films" in outcome.plain, "what a saved notebook shows of the box"
    assert "ready" in kernel.run("%sft_endpoints").plain
    assert kernel.run("%sft_predict films --endpoint --data films -o answers").error is None
    kernel.run(
        "import pandas as pd\n"
        "labels = pd.DataFrame(answers.columns())[['id', 'truth']].rename(columns={'truth': 'label'})"
    )
    assert "accuracy" in kernel.run('%sft_alert films "accuracy < 0.999"').plain
    outcome = kernel.run("%sft_feedback films labels")
    assert "600 labels taken" in outcome.plain, outcome.plain
    assert "firing" in outcome.plain
    report = kernel.run("%sft_monitor films")
    assert "600 requests" in report.plain
    assert "firing" in kernel.run("%sft_alerts").plain
    outcome = kernel.run("%sft_retrain films --from live --data films+feedback --epochs 0.5 -o comparison")
    assert outcome.error is None, outcome.plain
    assert "films:2" in outcome.plain
    outcome = kernel.run('%sft_retire films:1 --successor films:2 --reason "drift"')
    assert "films:1 retired" in outcome.plain
    assert "films:2" in kernel.run("%sft_endpoints").plain, "the endpoint moved to the successor"
    answered = kernel.run('%sft_predict films --endpoint "so happy" -o again')
    assert "films:2" in answered.plain
    assert kernel.run("%sft_deploy films:1").lines[0].startswith("films:1 is retired")
    assert "retire" in kernel.run("%sft_history films").plain


def test_the_kernel_answers_while_a_run_trains(kernel: Kernel, finished: Workspace) -> None:
    assert kernel.run(LONG + " --background -o run").error is None
    wait_for(lambda: training(finished), 90, "training")
    outcome = kernel.run("1 + 1", seconds=5)
    assert outcome.plain.strip() == "2"
    assert newest(finished).state == "running"
    stopped = kernel.run("%sft_stop {run.id}")
    assert "interrupted" in stopped.plain
    kept = kernel.run("%sft_keep {run.id}")
    assert "films:2" in kept.plain


def test_an_interrupt_checkpoints_and_resume_goes_on(kernel: Kernel, finished: Workspace) -> None:
    request = kernel.client.execute("%sft_finetune films --epochs 2 --checkpoint-seconds 3")
    wait_for(lambda: len(sft.runs(workspace=finished).rows) == 2 and newest(finished).step >= 3, 90, "training")
    kernel.interrupt()
    outcome = kernel.collect(request, 60)
    assert len(outcome.lines) == 2, outcome.lines
    assert "checkpoint" in outcome.lines[0]
    assert "--resume run-" in outcome.lines[1]
    run = newest(finished)
    assert run.state == "interrupted"
    outcome = kernel.run(f"%sft_finetune --resume {run.id}")
    assert outcome.error is None, outcome.lines
    assert newest(finished).version == "films:2"


@pytest.mark.parametrize("moment", [0.2, 1.5, 4.0])
def test_an_interrupt_at_any_moment_loses_nothing(kernel: Kernel, finished: Workspace, moment: float) -> None:
    request = kernel.client.execute("%sft_finetune films --epochs 1")
    time.sleep(moment)
    kernel.interrupt()
    outcome = kernel.collect(request, 90)
    assert len(outcome.lines) <= 2, outcome.lines
    assert kernel.run("1 + 1").plain.strip() == "2"
    assert len(sft.versions("films", workspace=finished)) == 1
    runs = sft.runs(workspace=finished).rows
    if len(runs) == 2:  # the interrupt came after the run had begun
        assert runs[0].state in ("interrupted", "lost")  # lost: its process had not begun
        assert kernel.run(f"%sft_finetune --resume {runs[0].id}").error is None
        assert newest(finished).version == "films:2"


def test_a_second_interrupt_ends_at_once_and_keeps_the_checkpoint(kernel: Kernel, finished: Workspace) -> None:
    request = kernel.client.execute(LONG)
    wait_for(lambda: len(sft.runs(workspace=finished).rows) == 2 and training(finished), 90, "a checkpoint")
    kernel.interrupt()
    time.sleep(0.05)
    kernel.interrupt()
    outcome = kernel.collect(request, 60)
    assert "--resume" in outcome.lines[1]
    assert newest(finished).state == "interrupted"
    wait_for(lambda: not JobFolder(Path(newest(finished).folder)).alive(), 30, "the end of the process")


WORK = (
    "%sft_evaluate films:1", "%sft_predict films:1 --data films", "%sft_errors films:1", "%sft_plan films",
    "%sft_lr films", "%sft_models --data films", "%sft_preview films", "%sft_deploy films:1 --engine auto",
)  # fmt: skip


def test_work_that_is_interrupted_ends_says_so_and_leaves_nothing(
    trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_ENGINE", "auto")  # a deploy then compares engines first, in a job as the others are
    kernel = Kernel(tmp_path, trained.root)
    try:
        for line in WORK:
            request = kernel.client.execute(line)
            wait_for(lambda: any(JobFolder(f).alive() for f in trained.jobs.iterdir()), 120, f"the job of {line}")
            kernel.interrupt()
            outcome = kernel.collect(request, 60)
            assert len(outcome.lines) == 2, (line, outcome.lines)
            assert "interrupted" in outcome.lines[0], line
            assert outcome.error is not None
            assert outcome.error["ename"] == "Interrupted"
            assert "<b>interrupted</b>" in outcome.html, (line, outcome.html)
            assert not any("application/vnd.jupyter.widget-view+json" in b for b in outcome.bundles), line
            assert list(trained.jobs.iterdir()) == [], line
        assert len(sft.endpoints(workspace=trained)) == 0
        request = kernel.client.execute(WORK[0])
        wait_for(lambda: any(JobFolder(f).alive() for f in trained.jobs.iterdir()), 120, "the job")
        kernel.interrupt()
        kernel.interrupt()
        assert len(kernel.collect(request, 60).lines) == 2
        wait_for(lambda: not any(JobFolder(f).alive() for f in trained.jobs.iterdir()), 30, "the end of the process")
    finally:
        kernel.close()


@pytest.mark.parametrize("line", ["%sft_deploy films:1", "%sft_bench films:1 --seconds 60"])
def test_an_endpoint_that_is_interrupted_while_it_starts_is_gone(kernel: Kernel, trained: Workspace, line: str) -> None:
    def alive() -> list[JobFolder]:
        return [job for job in map(JobFolder, trained.endpoints.iterdir()) if job.alive()]

    request = kernel.client.execute(line)
    wait_for(lambda: bool(alive()), 120, "the endpoint's process")
    kernel.interrupt()
    outcome = kernel.collect(request, 60)
    assert len(outcome.lines) == 2, outcome.lines
    assert "interrupted" in outcome.lines[0]
    assert "<b>interrupted</b>" in outcome.html
    assert alive() == []
    assert [e.state for e in sft.endpoints(workspace=trained)] in ([], ["stopped"])


def test_training_in_this_very_process(kernel: Kernel) -> None:
    outcome = kernel.run("%sft_finetune films --epochs 0.3 --in-process")
    assert outcome.error is None, outcome.lines
    assert "films:2" in outcome.plain
    assert "<svg" in outcome.html


def test_a_killed_kernel_does_not_end_the_run(trained: Workspace, tmp_path: Path) -> None:
    first = Kernel(tmp_path, trained.root)
    first.client.execute("%sft_finetune films --epochs 3")
    wait_for(lambda: len(sft.runs(workspace=trained).rows) == 2 and newest(trained).step >= 3, 90, "training")
    os.kill(first.pid, signal.SIGKILL)
    first.client.stop_channels()
    second = Kernel(tmp_path, trained.root)
    try:
        assert newest(trained).state == "running"
        assert second.run("%sft_watch").error is None
        wait_for(lambda: newest(trained).state == "done", 240, "the end of the run")
        outcome = second.run("%sft_watch")
        assert "films:2" in outcome.plain
        assert "<svg" in outcome.html, "the whole curve is shown"
    finally:
        second.close()
        first.manager.cleanup_resources()


def test_a_killed_worker_is_lost_and_can_be_resumed(kernel: Kernel, finished: Workspace) -> None:
    request = kernel.client.execute("%sft_finetune films --epochs 2 --checkpoint-seconds 2")
    wait_for(lambda: len(sft.runs(workspace=finished).rows) == 2 and training(finished), 90, "a checkpoint")
    pid = JobFolder(Path(newest(finished).folder)).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    outcome = kernel.collect(request, 60)
    assert "gone without a word" in outcome.lines[0]
    run = newest(finished)
    assert run.state == "lost"
    assert "lost" in kernel.run("%sft_runs").plain
    outcome = kernel.run(f"%sft_finetune --resume {run.id}")
    assert outcome.error is None, outcome.lines
    assert newest(finished).state == "done"


def test_a_run_is_edited_paused_and_resumed_from_cells(kernel: Kernel, finished: Workspace) -> None:
    kernel.run(LONG + " --background -o run")
    wait_for(lambda: training(finished), 120, "a checkpoint")
    edited = kernel.run("%sft_edit {run.id} --lr 1e-5 --epochs +1")
    assert "lr 1e-05, +1 epochs from step" in edited.plain
    paused = kernel.run("%sft_pause {run.id}")
    assert paused.error is None, paused.lines
    assert "paused after step" in paused.plain
    assert not JobFolder(Path(newest(finished).folder)).alive()
    before = newest(finished).step
    assert kernel.run("%sft_resume {run.id} --background").error is None
    wait_for(lambda: newest(finished).step > before, 120, "a step after the pause")
    again = kernel.run("%sft_finetune --resume {run.id} --lr 1")
    assert "goes on with the options it has" in again.lines[0]
    kernel.run("%sft_stop {run.id}")
    shown = kernel.run("%sft_watch {run.id}")
    assert "epochs 40 → 41, lr 5e-5 → 1e-5" in shown.plain
    assert "Edited from step" in shown.html


def test_a_second_run_waits_for_the_first(kernel: Kernel, finished: Workspace) -> None:
    kernel.run(LONG + " --background -o one")
    wait_for(lambda: newest(finished).state == "running", 60, "the first run")
    kernel.run("%sft_finetune films --epochs 0.2 --background -o two")
    wait_for(lambda: "behind" in newest(finished).why, 60, "queueing")
    assert newest(finished).state == "queued"
    kernel.run("%sft_stop {one.id}")
    wait_for(lambda: newest(finished).state == "done", 120, "the second run")


def test_help_and_completion(kernel: Kernel) -> None:
    reply = kernel.client.inspect("%sft_finetune", len("%sft_finetune"), reply=True, timeout=30)
    assert "--epochs" in reply["content"]["data"]["text/plain"]
    for line, expected in (
        ("%sft_finetune films --ep", "epochs"),
        ("%sft_finetune fi", "films"),
        ("%sft_deploy films:", "1"),
        ("%sft_data x sample:re", "reviews"),
        ("%sft_create x --base mi", "minilm"),
    ):
        reply = kernel.client.complete(line, len(line), reply=True, timeout=30)
        assert any(expected in m for m in reply["content"]["matches"]), (line, reply["content"]["matches"])
