"""Runs that are edited, paused, resumed and cloned: real processes on a small BERT; what their versions say of it."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.events import EpochDone, Remark
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Run, Version
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import identity, rows
from sft_magics.engine.models import tensor_files
from sft_magics.lifecycle.jobs import run_folders, seen_rows
from sft_magics.notebook import panels
from sft_magics.registry import Registry
from tests.engine.house import small_base

LONG = {"epochs": 400, "batch": 4, "lr": 1e-3, "checkpoint_seconds": 0.2, "threads": 1}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, film_csv: Path) -> Path:
    """A workspace with 600 sentences and a model of 1 M weights."""
    folder = tmp_path_factory.mktemp("steering")
    root = folder / "workspace"
    sft.data("films", str(film_csv), workspace=root)
    sft.create("films", data="films", base=str(small_base(folder / "base")), workspace=root)
    return root


@pytest.fixture
def ws(house: Path, tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "workspace"
    shutil.copytree(house, root)
    yield Workspace(root)
    for job in run_folders.all_jobs(Workspace(root)):
        job.kill()


def seen(ws: Workspace, run: str) -> Run:
    return run_folders.describe(run_folders.find(ws, run))


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def started(ws: Workspace, step: int = 5, **options: object) -> Run:
    run: Run = sft.finetune("films", background=True, workspace=ws, **{**LONG, **options})  # type: ignore[arg-type]
    until(lambda: seen(ws, run.id).step >= step)
    return run


def test_a_run_is_edited_paused_lets_another_go_on_and_its_version_tells_all(ws: Workspace) -> None:
    run = started(ws)
    done = sft.edit(run.id, lr=5e-4, epochs="+1", workspace=ws)
    assert "lr 0.0005, +1 epochs from step " in done.why
    at = done.options["edits"][0]["step"]
    waiting: Run = sft.finetune("films", epochs=0.05, background=True, workspace=ws)
    until(lambda: seen(ws, waiting.id).why == f"behind {run.id}")
    rests = sft.pause(run.id, workspace=ws)
    assert (rests.state, rests.version) == ("paused", None)
    assert rests.why.startswith(f"{run.id} was paused after step {rests.step} of ")
    assert f"%sft_resume {run.id}" in rests.next_step
    assert not run_folders.find(ws, run.id).alive(), "its memory is free"
    until(lambda: seen(ws, waiting.id).state == "done")
    board = sft.board(workspace=ws)
    assert [r.state for r in board.runs] == ["paused"]
    assert "0 running, 1 paused" in str(board)
    assert "paused" in (panels.html(board) or "")
    assert board.next_step == f"%sft_resume {run.id}"

    end = int(rests.step / rests.steps * rests.options["edits"][0]["epochs"]) + 1
    later = sft.edit(run.id, epochs=end, workspace=ws)
    assert later.why == f"epochs {end} when it goes on"
    made = sft.resume(run.id, workspace=ws)
    assert made.options["epochs"] == LONG["epochs"], "as it was ordered"
    assert made.options["edits"] == [
        {"step": at, "lr": 5e-4, "epochs": LONG["epochs"] + 1.0}, {"step": rests.step, "epochs": float(end)}
    ]  # fmt: skip
    ended = seen(ws, run.id)
    assert ended.step == ended.steps == max(rests.step + 1, round(end * ended.steps / end))
    card = panels.html(sft.show(made.ref, workspace=ws)) or ""
    assert f"edited from step {at} on" in card
    assert f"epochs {LONG['epochs'] + 1:g}" in card
    assert f"lr {panels.formats.value(5e-4)}" in card
    again = sft.reproduce(made.ref, workspace=ws)
    assert again.same_weights, again.verdict
    with pytest.raises(errors.Refused, match=f"is done: it made {made.ref}") as refused:
        sft.edit(run.id, lr=1e-5, workspace=ws)
    assert f"--from {made.ref}" in refused.value.next_step


def test_a_run_that_waits_is_edited_and_paused_and_starts_with_what_it_was_told(ws: Workspace) -> None:
    first = started(ws, step=1)
    waiting: Run = sft.finetune("films", epochs=0.05, background=True, workspace=ws)
    until(lambda: seen(ws, waiting.id).why == f"behind {first.id}")
    sft.edit(waiting.id, lr=1e-4, workspace=ws)
    assert sft.pause(waiting.id, workspace=ws).state == "paused"
    sft.stop(first.id, workspace=ws)
    made = sft.resume(waiting.id, in_process=True, workspace=ws)
    assert made.options["edits"] == [{"step": 0, "lr": 1e-4}]
    # What was stopped is resumed by the verb as well, unless it is told otherwise first.
    sft.edit(first.id, patience=1, workspace=ws)
    assert seen(ws, first.id).state == "interrupted"


def test_an_edit_that_comes_when_training_is_over_is_said_to_have_changed_nothing(ws: Workspace) -> None:
    from sft_magics.engine.jobs import worker

    train = worker.train

    def late(*words: object, **options: object) -> object:
        found = train(*words, **options)  # type: ignore[arg-type]
        run_folders.all_jobs(ws)[0].tell({"do": "edit", "changes": {"lr": 1e-9}})
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "train", late)
        made = sft.finetune("films", epochs=0.02, in_process=True, workspace=ws)
    said = [e.text for e in run_folders.find(ws, made.run).history() if isinstance(e, Remark)]
    assert "The edit of lr 1e-09 came when training had ended: it changed nothing." in said
    assert "edits" not in made.options


BAD = [
    ({}, "nothing to change"),
    ({"lr": -1.0}, "--lr cannot be -1"),
    ({"lr": 1e9}, "--lr cannot be"),
    ({"patience": -2}, "--patience cannot be -2"),
    ({"clip": -1.0}, "--clip cannot be -1"),
    ({"checkpoint_seconds": 0.0}, "--checkpoint-seconds cannot be 0"),
    ({"epochs": "many"}, "it takes a number"),
    ({"epochs": "+0"}, "adds nothing"),
    ({"epochs": "+-3"}, "it takes a number|adds nothing"),
    ({"epochs": "0"}, "--epochs cannot be 0"),
    ({"epochs": "nan"}, "--epochs cannot be nan"),
    ({"epochs": "+inf"}, "--epochs cannot be inf"),
    ({"epochs": "+99999"}, "--epochs cannot be"),
]


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_bad_values_are_refused_as_finetune_refuses_them(
    house: Path, changes: dict[str, object], says: str, tmp_path: Path
) -> None:
    ws = Workspace(house)
    spec = {"kind": "finetune", "model": "films", "data": "films", "options": {"epochs": 1.0}, "created_at": 0.0}
    job = JobFolder(tmp_path / "runs" / "run-0bad").create(spec)
    place = ws.runs / job.id
    shutil.copytree(job.path, place)
    try:
        with pytest.raises(errors.SftError, match=says):
            sft.edit(job.id, workspace=ws, **changes)  # type: ignore[arg-type]
        assert run_folders.find(ws, job.id).orders.told().edits == ()
    finally:
        shutil.rmtree(place)


def test_what_cannot_be_steered_is_refused_with_a_way_out(ws: Workspace) -> None:
    run = started(ws, step=3)
    with pytest.raises(errors.Refused, match="lies behind it"):
        sft.edit(run.id, epochs=0.001, workspace=ws)
    with pytest.raises(errors.Refused, match="is running already"):
        sft.resume(run.id, workspace=ws)
    sft.pause(run.id, workspace=ws)
    with pytest.raises(errors.RunProblem, match="does not run: it is paused"):
        sft.pause(run.id, workspace=ws)
    with pytest.raises(errors.UsageProblem, match="--epochs, --lr beside --resume") as caught:
        sft.finetune(resume=run.id, lr=1e-3, epochs=1.0, workspace=ws)
    assert f"%sft_edit {run.id}" in caught.value.next_step
    with pytest.raises(errors.UsageProblem, match="trains films, not other"):
        sft.finetune("other", resume=run.id, workspace=ws)
    for call in (sft.edit, sft.pause, sft.resume):
        with pytest.raises(errors.NotFound, match="no run called 'run-0000'"):
            call("run-0000", workspace=ws)
    for origin, says in (
        (f"{run.id}/x", "names no weights"), (f"{run.id}/", "names no weights"), (f"{run.id}/999999", "there are"),
        ("run-0000", "no run called"), ("run-xyz", "is not a run"),
    ):  # fmt: skip
        with pytest.raises(errors.SftError, match=says):
            sft.finetune("films", from_=origin, workspace=ws)
    assert len(sft.runs(workspace=ws)) == 1, "nothing is left of what was refused"


def test_a_clone_begins_with_a_checkpoint_of_a_run_and_takes_its_options_over(ws: Workspace) -> None:
    run = started(ws, step=3)
    sft.edit(run.id, lr=5e-4, workspace=ws)
    until(lambda: seen(ws, run.id).step >= seen(ws, run.id).options["edits"][0]["step"] + 3)
    sft.pause(run.id, workspace=ws)
    newest = max(int(p.name[5:]) for p in (Path(run.folder) / "checkpoints").glob("step-*"))
    made: Version = sft.finetune("films", from_=f"{run.id}/{newest}", epochs=0.05, seed=0, workspace=ws)
    assert (made.options["epochs"], made.options["lr"], made.options["batch"]) == (0.05, 5e-4, 4)
    assert "edits" not in made.options
    assert made.parent == f"{run.id}/{newest}"
    assert made.ancestor is None
    assert made.environment["cloned"]["run"] == run.id
    assert made.environment["start"]["source"] == f"{run.id} at step {newest}"
    card = sft.show(made.ref, workspace=ws)
    assert f"{run.id}/{newest}" in card.lineage
    known = seen_rows.of(ws, made)
    assert known is not None
    assert known.complete
    assert known.has(identity.exact(rows(ws, Registry(ws).dataset("films"), "train"), made.task)).all()
    assert sft.reproduce(made.ref, workspace=ws).same_weights
    # The weights are really the checkpoint's: with next to no rate they stay what they were.
    still: Version = sft.finetune("films", from_=f"{run.id}/newest", lr=1e-12, epochs=0.02, workspace=ws)
    from safetensors.torch import load_file

    from sft_magics.registry import ArtifactStore

    there = tensor_files.part(Path(run.folder) / "checkpoints" / f"step-{newest:08d}")
    for found in ArtifactStore(ws.artifacts).checkout(still.artifact).glob("*.safetensors"):
        for name, tensor in load_file(found).items():
            assert abs(tensor - there[name]).max() < 1e-6, name
    # A run that began with another's weights can be exported, and taken in elsewhere.
    bundle = ws.root.parent / "films.zip"
    sft.export(made.ref, str(bundle), workspace=ws)
    taken = sft.import_(str(bundle), workspace=ws.root.parent / "elsewhere")
    assert taken.environment["cloned"]["step"] == newest
    assert (taken.parent, taken.ancestor) == (made.parent, None)
    with pytest.raises(errors.Refused, match="cannot be made again"):
        sft.reproduce(taken.ref, workspace=ws.root.parent / "elsewhere")


def test_a_clone_begins_with_the_best_of_a_run_whose_body_is_frozen(ws: Workspace) -> None:
    """Of such a run `best` holds only what learns as long as it goes on."""
    run = started(ws, step=3, epochs=4000, method="head")
    until(lambda: any(isinstance(e, EpochDone) for e in run_folders.find(ws, run.id).history()))
    assert not (ws.runs / run.id / "best" / "sft.json").exists()
    made: Run = sft.finetune("films", from_=f"{run.id}/best", lr=1e-12, epochs=0.02, background=True, workspace=ws)
    sft.stop(run.id, workspace=ws)
    until(lambda: seen(ws, made.id).state == "done")
    best = next(
        e for e in reversed(list(run_folders.find(ws, run.id).history())) if isinstance(e, EpochDone) and e.best
    )
    kept: Version = sft.keep(run.id, workspace=ws)
    assert kept.metrics["accuracy"].value == pytest.approx(best.metrics["accuracy"])
    clone = Registry(ws).version(str(seen(ws, made.id).version))
    assert str(clone.parent).startswith(f"{run.id}/")
    text = "a moving, funny film"
    answers = [sft.predict(v.ref, text, workspace=ws).rows[0] for v in (kept, clone)]
    if clone.parent == f"{run.id}/{best.step}":  # no better epoch came between the clone and the stop
        assert answers[0].confidence == pytest.approx(answers[1].confidence, abs=1e-5)


def test_a_clone_of_a_run_that_made_a_version_has_that_as_parent_and_of_one_that_did_not_its_best(
    ws: Workspace,
) -> None:
    first: Version = sft.finetune("films", epochs=0.1, batch=4, lr=1e-3, workspace=ws)
    clone: Version = sft.finetune("films", from_=first.run, epochs=0.1, workspace=ws)
    assert (clone.parent, clone.options["batch"], clone.options["lr"]) == (first.ref, 4, 1e-3)
    with pytest.raises(errors.Refused, match="only the best are kept"):
        sft.finetune("films", from_=f"{first.run}/1", workspace=ws)
    run = started(ws, step=3, epochs=4000)
    until(lambda: any(isinstance(e, EpochDone) for e in run_folders.find(ws, run.id).history()))
    second: Run = sft.finetune("films", from_=f"{run.id}/best", epochs=0.05, background=True, workspace=ws)
    assert (ws.runs / second.id / "start" / "sft.json").is_file(), "linked at once, while the other goes on"
    sft.stop(run.id, workspace=ws)
    until(lambda: seen(ws, second.id).state == "done")
    assert str(seen(ws, second.id).parent).startswith(f"{run.id}/")
