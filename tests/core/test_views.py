import inspect
import math

import pytest

from sft_magics.core import events as ev
from sft_magics.core import views
from sft_magics.core.views import JobView, LossView

PASSED_OVER = {ev.Heartbeat}


def fold(*events: ev.Event, view: LossView | None = None) -> LossView:
    view = view or LossView("run-1", model="films")
    for event in events:
        view.apply(event)
    return view


def started(at: float) -> ev.Started:
    return ev.Started("loading the model", 7, "host", at=at)


def planned(at: float, resumed_at: int = 0) -> ev.RunPlanned:
    return ev.RunPlanned(100, 3.0, 3200, 32, 5e-5, resumed_at, 600, 0.015, "cpu", "bf16", 2, at=at)


def step(n: int, at: float, loss: float = 0.5) -> ev.StepDone:
    return ev.StepDone(n, n / 34, loss, 4e-5, 99.0, 60.0, 900.0, at=at)


def epoch(n: int, at: float, accuracy: float, best: bool) -> ev.EpochDone:
    return ev.EpochDone(n, n / 34, 0.4, 0.3, {"accuracy": accuracy, "f1": accuracy - 0.01}, best, at=at)


def test_every_kind_of_event_is_folded_or_passed_over_on_purpose() -> None:
    handled = {name.removeprefix("_on_") for name, _ in inspect.getmembers(LossView) if name.startswith("_on_")}
    assert {k.lower() for k in ev.KINDS} - handled == {k.__name__.lower() for k in PASSED_OVER}
    assert handled <= {k.lower() for k in ev.KINDS}


def test_a_view_begins_waiting() -> None:
    view = LossView("run-1")
    assert (view.state, view.active, view.seconds, view.version) == ("waiting", True, 0.0, None)
    assert view.latest("accuracy") is None
    assert view.best("accuracy") is None


def test_an_edit_changes_the_plan_and_leaves_a_mark() -> None:
    view = fold(started(1.0), planned(2.0), step(1, 3.0), ev.Edited(1, {"epochs": [3.0, 5.0]}, 170, 5.0, "ann", at=4.0))
    assert (view.steps, view.epochs, view.edits) == (170, 5.0, [views.Mark(1, {"epochs": [3.0, 5.0]}, "ann")])


def test_a_whole_run() -> None:
    view = fold(
        ev.Queued("run-0", at=1.0),
        started(10.0),
        planned(11.0),
        step(1, 12.0, 0.7),
        step(34, 20.0, 0.5),
        epoch(34, 21.0, 0.80, best=True),
        ev.CheckpointSaved(34, "checkpoints/step-34", "epoch", at=22.0),
        ev.Remark("warning", "class <b> is rare", at=23.0),
        step(68, 30.0, math.nan),
        epoch(68, 31.0, 0.79, best=False),
        ev.Heartbeat(at=35.0),
        ev.Progress("storing the weights", 1, 2, at=36.0),
        ev.Committed("films:1", at=37.0),
        ev.Ended("done", "films:1 is committed.", "%sft_evaluate films:1", at=38.0),
    )
    assert (view.state, view.active, view.behind) == ("done", False, "")
    assert (view.device, view.precision, view.threads, view.host, view.pid) == ("cpu", "bf16", 2, "host", 7)
    assert (view.steps, view.epochs, view.rows, view.batch) == (100, 3.0, 3200, 32)
    assert (view.validation_rows, view.padding_waste) == (600, 0.015)
    assert (view.step, view.rate, view.rows_per_second, view.seconds_left, view.memory_mb) == (
        68,
        4e-5,
        99.0,
        60.0,
        900,
    )
    assert [s for s, _ in view.train] == [1, 34, 68]
    assert math.isnan(view.train[-1][1])
    assert view.validation == [(34, 0.3), (68, 0.3)]
    assert view.metrics["accuracy"] == [(34, 0.80), (68, 0.79)]
    assert (view.best_step, view.checkpoint_step) == (34, 34)
    assert (view.best("accuracy"), view.latest("accuracy")) == (0.80, 0.79)
    assert view.remarks == [("warning", "class <b> is rare")]
    assert (view.what, view.done, view.total) == ("storing the weights", 1, 2)
    assert (view.version, view.why, view.next_step) == ("films:1", "films:1 is committed.", "%sft_evaluate films:1")
    assert (view.started_at, view.heard_at, view.ended_at, view.seconds) == (10.0, 38.0, 38.0, 28.0)


def test_while_it_works_the_time_is_that_of_the_last_word() -> None:
    assert fold(started(10.0), step(1, 12.5)).seconds == 2.5
    assert fold(started(10.0), ev.Heartbeat(at=17.0)).seconds == 7.0


def test_a_queued_run_says_behind_which_and_forgets_it_when_it_starts() -> None:
    view = fold(ev.Queued("run-0", at=1.0))
    assert (view.state, view.behind, view.active) == ("queued", "run-0", True)
    assert fold(started(2.0), view=view).behind == ""


def test_a_failure_keeps_its_sentence() -> None:
    view = fold(started(1.0), ev.Ended("failed", "why", "next", "ModelProblem", at=2.0))
    assert (view.state, view.why, view.next_step, view.problem) == ("failed", "why", "next", "ModelProblem")


def test_a_lost_job_ends_when_it_was_last_heard() -> None:
    view = fold(started(10.0), step(3, 14.0))
    view.lose("It is gone.", "resume it.")
    assert (view.state, view.active, view.why, view.next_step) == ("lost", False, "It is gone.", "resume it.")
    assert (view.ended_at, view.seconds) == (14.0, 4.0)
    silent = LossView("run-2")
    silent.lose("It is gone.", "")
    assert silent.ended_at is not None
    assert silent.seconds == 0.0


def test_a_resumed_run_repeats_the_steps_beyond_its_checkpoint() -> None:
    view = fold(
        started(0.0), planned(1.0), step(10, 2.0), step(34, 3.0), epoch(34, 4.0, 0.8, best=True), step(40, 5.0),
        step(60, 6.0), epoch(68, 7.0, 0.9, best=True), started(100.0), planned(101.0, resumed_at=40),
    )  # fmt: skip
    assert [s for s, _ in view.train] == [10, 34, 40]
    assert view.validation == [(34, 0.3)]
    assert view.metrics == {"accuracy": [(34, 0.8)], "f1": [(34, 0.79)]}
    assert (view.step, view.resumed_at, view.state) == (40, [40], "running")
    # The epoch beyond the checkpoint did not happen in the run that goes on.
    assert view.best_step == 34
    assert view.best("accuracy") == 0.8
    fold(step(50, 102.0), view=view)
    assert [s for s, _ in view.train] == [10, 34, 40, 50]


def test_a_run_that_starts_again_without_a_checkpoint_starts_empty() -> None:
    view = fold(started(0.0), planned(1.0), step(10, 2.0), epoch(34, 3.0, 0.8, best=True), started(9.0), planned(9.5))
    assert (view.train, view.validation, view.resumed_at, view.best_step) == ([], [], [], None)
    assert view.latest("accuracy") is None


def test_time_between_the_end_and_the_resume_is_not_work() -> None:
    view = fold(started(0.0), step(1, 10.0), ev.Ended("interrupted", at=12.0), started(1000.0), step(2, 1005.0))
    assert view.seconds == 17.0
    assert view.started_at == 0.0
    lost = fold(started(0.0), step(1, 10.0), started(1000.0), ev.Ended("done", at=1001.0))
    assert lost.seconds == 11.0
    fold(ev.TakenUp(at=2000.0), started(2001.0), ev.Ended("done", at=2004.0), view=lost)
    assert lost.seconds == 14.0


@pytest.mark.parametrize("event", [ev.TakenUp(at=20.0), ev.Queued("run-0", at=20.0), started(20.0)])
def test_a_job_that_is_taken_up_again_is_no_longer_over(event: ev.Event) -> None:
    view = fold(started(1.0), ev.Ended("failed", "why", "next", "RunProblem", at=2.0), event)
    assert view.active
    assert (view.why, view.next_step, view.problem, view.ended_at) == ("", "", "", None)


def test_a_plain_job_passes_over_what_only_runs_say() -> None:
    view = JobView("job-1")
    for event in (started(1.0), planned(2.0), step(1, 3.0), ev.Progress("measuring", 3, 10, at=4.0)):
        view.apply(event)
    assert (view.state, view.what, view.done, view.total, view.heard_at) == ("running", "measuring", 3, 10, 4.0)


def test_states_that_can_still_change() -> None:
    assert views.ACTIVE == ("waiting", "queued", "running")


def test_a_remark_has_its_epoch_and_one_on_a_topic_takes_the_place_of_the_other() -> None:
    view = fold(
        started(1.0),
        ev.Remark("info", "Computing in bf16"),
        ev.Remark("warning", "no better than guessing (0.70)", epoch=0.25, topic="guessing"),
        ev.Remark("warning", "No row is answered with b.", epoch=0.25, topic="answers"),
        ev.Remark("warning", "no better than guessing (0.69)", epoch=1.0, topic="guessing"),
    )
    assert view.remarks == [
        ("info", "Computing in bf16"),
        ("warning", "Epoch 0.25: No row is answered with b."),
        ("warning", "Epoch 1: no better than guessing (0.69)"),
    ]
    fold(ev.Withdrawn("guessing"), ev.Withdrawn("never said"), view=view)
    assert view.remarks == [("info", "Computing in bf16"), ("warning", "Epoch 0.25: No row is answered with b.")]


def test_a_done_run_keeps_its_concern_until_it_begins_again() -> None:
    view = fold(started(1.0), ev.Ended("done", "films:1 is committed.", "try more", concern="no better", at=2.0))
    assert (view.state, view.concern, view.next_step) == ("done", "no better", "try more")
    assert fold(ev.TakenUp(at=3.0), view=view).concern == ""


def test_each_evaluation_is_a_row_with_its_time_without_what_lay_between_an_end_and_a_resume() -> None:
    view = fold(
        started(10.0),
        ev.RunPlanned(100, 3.0, 3200, 32, 5e-5, at=12.0),
        epoch(34, 21.0, 0.80, best=True),
        epoch(68, 31.0, 0.79, best=False),
        ev.Ended("interrupted", "stopped", at=33.0),
        started(103.0),
        ev.RunPlanned(100, 3.0, 3200, 32, 5e-5, resumed_at=34, at=104.0),
        epoch(68, 110.0, 0.82, best=True),
    )
    rows = view.evaluated()
    assert [(row.step, row.seconds, row.best) for row in rows] == [(34, 9.0, False), (68, 6.0, True)]
    assert [row.metrics["accuracy"] for row in rows] == [0.80, 0.82]
    assert rows[0].validation_loss == 0.3
