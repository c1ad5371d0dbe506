"""The panels of runs: curves, edits, evaluations, how a run ended."""

import dataclasses
import math
import re
import time
from xml.etree import ElementTree

import pytest

from sft_magics.core import events as ev
from sft_magics.core import records
from sft_magics.core.views import LossView
from sft_magics.notebook import panels
from tests.notebook import panel_samples as samples
from tests.notebook.drawn import LIMIT, drawn, tables, words


def test_a_long_run_stays_small_and_shows_its_spike() -> None:
    view = samples.folded(samples.events(steps=300, upto=3))
    view.steps = view.step = 100_000
    view.train = [(float(i), 0.3 + 0.1 * math.sin(i)) for i in range(1, 100_001)]
    view.train[60_000] = (60_001.0, 0.9)
    began = time.process_time()
    page = drawn(view)
    assert time.process_time() - began < 3
    assert len(page.encode()) < LIMIT
    root = ElementTree.fromstring(f"<page>{page}</page>")
    ghost = next(p for p in root.iter() if p.get("stroke-opacity") == "0.4")
    path = ghost.get("d") or ""
    assert 300 < path.count("L") < 900
    heights = [float(move.split()[1]) for move in path.lstrip("M").split("L")]
    assert min(heights) == pytest.approx(34, abs=0.5)  # the spike reaches the top edge


def test_a_loss_that_is_not_a_number_is_marked() -> None:
    view = samples.folded(samples.events(upto=50))
    view.train[20] = (21.0, math.nan)
    view.train[30] = (31.0, math.inf)
    page = drawn(view)
    assert "was not a finite number at step 21" in page
    assert "was not a finite number at step 31" in page
    assert "nan" not in page.lower().replace("dominant", "")


@pytest.mark.parametrize("state", [s for s in samples.runs() if s != "edited"])
def test_a_run_says_its_state_in_words(state: str) -> None:
    view = samples.runs()[state]
    assert state in words(view, now=samples.AT)
    assert state in panels.text(view)


def test_a_running_run_says_where_it_stands() -> None:
    seen = words(samples.runs()["running"], now=samples.AT + 15)
    for part in (
        "run-7f3a", "epoch 1.62 of 3", "step 130 of 240", "time left 11 s", "learning rate 2.3e-5", "rows/s 210",
        "memory 1.18 GB", "cpu · bf16 · 2 threads", "rows 8,543 + 1,500", "Newest checkpoint: step 80",
        "classifier.bias start fresh",
    ):  # fmt: skip
        assert part in seen
    assert "Last heard" not in seen
    twin = panels.text(samples.runs()["running"])
    assert "epoch 1.62 of 3, step 130 of 240" in twin
    assert "validation 0.430, accuracy 0.810, f1 0.800, 210 rows/s, 11 s left" in twin


def test_a_silent_run_says_since_when() -> None:
    view = samples.runs()["running"]
    assert view.heard_at is not None
    assert "Last heard 42 s ago." in words(view, now=view.heard_at + 42)
    assert "Last heard" not in words(samples.runs()["done"], now=view.heard_at + 42)


def test_only_a_blocking_cell_says_how_to_interrupt() -> None:
    view = samples.runs()["running"]
    hint = "Interrupt the kernel to stop; it checkpoints first."
    assert hint in words(view, blocking=True)
    assert hint not in words(view)
    assert hint not in words(samples.runs()["done"], blocking=True)


def test_a_queued_run_names_the_one_before_it() -> None:
    assert "queued behind run-1c02" in words(samples.runs()["queued"])
    assert "behind run-1c02" in panels.text(samples.runs()["queued"])


@pytest.mark.parametrize("state", ["paused", "interrupted", "failed", "lost"])
def test_a_run_that_did_not_end_well_says_why_and_what_next(state: str) -> None:
    view = samples.runs()[state]
    for seen in (words(view), panels.text(view)):
        assert view.why in seen
        assert f"Next: {view.next_step}" in seen


def test_a_finished_run_names_its_version_and_keeps_its_numbers() -> None:
    view = samples.runs()["done"]
    seen = words(view)
    assert "Made reviews:2, the best weights, of step 240." in seen
    assert "took 27 s" in seen
    (table,) = tables(view)
    rows = [["".join(cell.itertext()).strip() for cell in row] for row in table.findall("tbody/tr")]
    assert [row[0].split() for row in rows] == [["1"], ["2"], ["3", "best"]]
    assert [row[1] for row in rows] == ["80", "160", "240"]
    assert rows[2][3:6] == ["0.390", "0.830", "0.820"]
    assert rows[2][6].endswith("s"), "each has its time"
    assert "made reviews:2" in panels.text(view)


def test_the_evaluations_are_a_table_while_a_run_goes_on_and_in_text() -> None:
    view = samples.folded(samples.events(upto=170))
    (table,) = tables(view)
    assert len(table.findall("tbody/tr")) == 2
    lines = panels.text(view).splitlines()
    assert lines[1].split() == ["epoch", "train", "validation", "accuracy", "f1", "time"]
    assert lines[2].split()[:1] + lines[2].split()[2:5] == ["1", "0.430", "0.810", "0.800"]
    assert lines[3].endswith("best")
    assert "details open" in drawn(view)
    assert tables(samples.folded(samples.events(upto=10))) == [], "nothing was evaluated yet"


def test_a_run_that_learned_nothing_is_no_green_done() -> None:
    concern, cure = "The accuracy of 0.512 is no better than always answering 'a <b>' (0.512).", "%sft_finetune reviews"
    ended = ev.Ended("done", "reviews:2 is committed.", cure, concern=concern, at=samples.AT + 27)
    said = [ev.Remark("warning", concern), ev.Committed("reviews:2", at=samples.AT + 26), ended]
    view = samples.folded([*samples.events(), *said])
    seen = words(view)
    assert "nothing learned" in seen
    assert "done" not in seen
    assert concern in seen
    assert concern in panels.text(view)
    assert "run-7f3a reviews done, nothing learned: " in panels.text(view)
    for shown in (seen, panels.text(view)):
        assert f"Next: {cure}" in shown
    run = records.Run(
        "run-1", "reviews", "done", "films", {}, samples.AT, "/runs/run-1", version="reviews:2", concern=concern
    )
    assert concern in str(run)
    assert concern in words(run)
    assert "nothing learned" in words(run)


def test_a_resumed_run_marks_where_it_went_on() -> None:
    said = [*samples.events(upto=100), ev.RunPlanned(240, 3, 8543, 32, 5e-5, resumed_at=80, at=samples.AT + 30)]
    assert "resumed" in words(samples.folded(said))


def test_an_edit_is_marked_on_the_curve_and_told_in_words() -> None:
    view = samples.runs()["edited"]
    assert (view.steps, view.epochs) == (400, 5.0)
    page = drawn(view)
    root = ElementTree.fromstring(f"<page>{page}</page>")
    loss, quality = [svg for svg in root.iter() if svg.tag.endswith("svg") and svg.get("role") == "img"]
    for chart in (loss, quality):
        (line,) = [p for p in chart.iter() if p.get("stroke-width") == "1.2"]
        assert line.get("d", "").startswith("M")
    title = "step 130: lr 5e-5 → 1e-5, epochs 3 → 5"
    assert any(t.text == title for t in loss.iter() if t.tag.endswith("title"))
    assert any(t.text == "lr 1e-5, epochs 5" for t in loss.iter() if t.tag.endswith("text"))
    assert "at step 130 lr 5e-5 → 1e-5, epochs 3 → 5" in str(loss.get("aria-label"))
    assert "Edited from step 130 on by ann: lr 5e-5 → 1e-5, epochs 3 → 5." in words(view)
    assert "edited from step 130 on by ann: lr 5e-5 → 1e-5, epochs 3 → 5" in panels.text(view)
    assert "edited" not in panels.text(samples.runs()["running"])


def test_a_run_that_goes_on_from_before_an_edit_marks_it_once() -> None:
    again = ev.RunPlanned(240, 3, 8543, 32, 5e-5, resumed_at=80, at=samples.AT + 30)
    said = [*samples.events(upto=130), samples.edited(), again]
    assert (samples.folded(said).edits, samples.folded(said).steps) == ([], 240)
    assert [e.step for e in samples.folded([*said, samples.edited()]).edits] == [130]
    beyond = ev.RunPlanned(400, 5, 8543, 32, 5e-5, resumed_at=140, at=samples.AT + 30)
    assert [e.step for e in samples.folded([*said[:-1], beyond]).edits] == [130]


def test_many_edits_stay_readable_and_small() -> None:
    said = [samples.edited(step) for step in range(10, 130)]
    page = drawn(samples.folded([*samples.events(upto=130), *said]))
    assert len(page.encode()) < LIMIT
    assert page.count('stroke-width="1.2"') <= 40


def test_a_run_that_was_taken_up_says_a_remark_once() -> None:
    view = LossView("run-0001")
    for level in ("info", "info", "warning"):
        view.apply(ev.Remark(level, "Computing in bf16"))
    assert view.remarks == [("info", "Computing in bf16"), ("warning", "Computing in bf16")]


def test_a_chart_holds_its_values_for_the_pointer_and_a_wild_one_is_left_out() -> None:
    def bands(view: LossView) -> list[str]:
        page = ElementTree.fromstring(f"<page>{drawn(view)}</page>")
        return ["".join(g[0].itertext()) for g in page.iter() if g.get("class") == "sft-v"]

    found = bands(samples.runs()["done"])
    assert found[-1] == "step 240, accuracy 0.830, f1 0.820"
    assert any(re.fullmatch(r"step 240, train 0\.\d+, validation 0\.390", words) for words in found)
    assert all("accuracy" in words or "train" in words for words in found)
    assert len(found) <= 2 * 40
    assert bands(samples.runs()["waiting"]) == []
    wild = samples.folded([*samples.events(upto=3), ev.StepDone(4, 0.1, math.nan, 5e-5, 1.0, 1.0, 1.0, at=samples.AT)])
    assert all("NaN" not in words for words in bands(wild))


def test_a_resumed_mark_stands_beside_its_line_and_never_over_the_name_of_an_epoch() -> None:
    again = ev.RunPlanned(240, 3, 8543, 32, 5e-5, resumed_at=80, at=samples.AT + 30)
    page = ElementTree.fromstring(f"<page>{drawn(samples.folded([*samples.events(upto=100), again]))}</page>")
    (resumed,) = [t for t in page.iter() if t.tag.endswith("text") and t.text == "resumed"]
    (epoch,) = [t for t in page.iter() if t.tag.endswith("text") and t.text == "epoch 1"]
    assert float(resumed.get("y", "0")) - float(epoch.get("y", "0")) >= 11


def test_the_edits_of_a_run_are_words_and_its_options_are_folded_up() -> None:
    edits = [{"step": 40, "changes": {"lr": [5e-5, 1e-5], "epochs": [3, 4.0]}, "who": "ann", "number": 1}]
    run = next(t for t in samples.everything() if isinstance(t, records.Run))
    for thing in (run, next(t for t in samples.everything() if isinstance(t, records.Version))):
        page = drawn(dataclasses.replace(thing, options={"epochs": 3.0, "lr": 5e-5, "tie": True, "edits": edits}))
        assert "{" not in page.partition("</style>")[2]
        seen = words(dataclasses.replace(thing, options={"epochs": 3.0, "lr": 5e-5, "tie": True, "edits": edits}))
        assert "epochs 3 lr 5e-5 tie True edited from step 40 on lr 5e-5 → 1e-5, epochs 3 → 4 by ann" in seen


def test_a_picture_that_may_grow_old_says_of_what_time_it_is() -> None:
    for state, view in samples.runs().items():
        stamped = words(view, dated=True), panels.text(view, dated=True)
        open_ = state in ("waiting", "queued", "running", "edited", "paused")
        assert [f"%sft_watch {view.job} shows it again" in said for said in stamped] == [open_, open_]
        assert "As of " not in words(view)
    job, failed = samples.jobs().values()
    assert "As of " in words(job, dated=True)
    assert "As of " not in words(failed, dated=True)
