"""What a run settles for itself is in its version; the same line in every face, and bad values are sentences."""

from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core import arguments, errors
from sft_magics.core.events import Remark
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Version
from sft_magics.lifecycle.training import planning
from sft_magics.lifecycle.training.recipe import GENERAL, Recipe
from sft_magics.notebook import panels
from sft_magics.verbs import VERBS
from tests.engine.house import small_base


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, film_csv: Path) -> Path:
    root = tmp_path_factory.mktemp("automatic")
    sft.data("films", str(film_csv), workspace=root / "ws")
    sft.create("films", data="films", base=str(small_base(root / "base")), workspace=root / "ws")
    return root / "ws"


def test_what_was_settled_is_in_the_version_and_made_again(workspace: Path) -> None:
    made = sft.finetune(
        "films", batch="auto", recompute=True, compile_="auto", deterministic=True, epochs=0.5, threads=1,
        workspace=workspace,
    )  # fmt: skip
    assert isinstance(made, Version)
    settled = {name: made.options[name] for name in ("batch", "micro_batch", "recompute", "compile", "deterministic")}
    assert settled == {"batch": 32, "micro_batch": 0, "recompute": True, "compile": "off", "deterministic": True}
    said = [e.text for e in JobFolder(workspace / "runs" / made.run).history() if isinstance(e, Remark)]
    assert any("Batches of 32 rows are taken whole" in text for text in said)
    assert sft.reproduce(made.ref, workspace=workspace).same_weights


def test_a_plan_says_how_much_of_the_machine_is_used(workspace: Path) -> None:
    found = sft.plan("films", batch="auto", recompute=True, threads=1, workspace=workspace)
    assert found.next_step == "%sft_finetune films --batch auto --recompute"
    assert found.micro_batch == 0
    # Forward, forward again, backward at twice that: a whole block, and of the last one keys and values.
    a_token = 4 * 2 * (8 * 32**2 + 2 * 32**2)
    assert 32 * 20 * a_token < found.flops < 32 * 60 * a_token
    assert 0 < found.utilization < 1
    assert "FLOP" not in str(found) + str(panels.html(found)), "a figure for the record alone"


def test_short_memory_is_answered_with_what_saves_it() -> None:
    options = {"method": "full", "micro_batch": 0, "recompute": False}
    assert [c.option for c in planning._savings(options, short=True)] == ["--batch auto", "--recompute"]
    assert planning._savings(options, short=False) == ()
    assert planning._savings({**options, "micro_batch": "auto", "method": "head"}, short=True) == ()


def test_auto_is_the_recipe_s_batch_and_parts_that_are_found() -> None:
    assert Recipe(batch="auto").options()["batch"] == GENERAL["batch"]
    found = Recipe(batch="auto").options({"batch": 8})
    assert (found["batch"], found["micro_batch"]) == (8, "auto")
    given = Recipe(batch="auto", micro_batch=2).options({"batch": 8})
    assert (given["batch"], given["micro_batch"]) == (8, 2)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"batch": 0}, "--batch cannot be 0"),
        ({"micro_batch": -1}, "--micro-batch cannot be -1"),
        ({"batch": "many"}, "--batch cannot be 'many'"),
    ],
)
def test_bad_values_are_sentences(workspace: Path, options: dict[str, object], what: str) -> None:
    with pytest.raises(errors.UsageProblem, match=what):
        sft.finetune("films", workspace=workspace, **options)


@pytest.mark.parametrize("flag", ["--batch", "--micro-batch", "--compile"])
def test_a_line_with_a_bad_word_is_answered_with_the_flag(flag: str) -> None:
    with pytest.raises(errors.UsageProblem, match=f"{flag} cannot be 'maybe'"):
        arguments.parse(VERBS["finetune"].signature, ["films", flag, "maybe"])


def test_a_run_takes_as_long_as_its_plan_says_and_a_useless_one_says_so(workspace: Path) -> None:
    planned = sft.plan("films", batch=64, max_length=16, threads=1, workspace=workspace)
    made = sft.finetune("films", batch=64, max_length=16, lr=3.0, threads=1, workspace=workspace)
    assert isinstance(made, Version)
    assert planned.epochs == made.options["epochs"] > 1
    assert planned.patience == made.options["patience"] > 0
    assert planned.why in str(planned)
    assert planned.next_step == "%sft_finetune films --batch 64 --max-length 16"
    said = [e.text for e in JobFolder(workspace / "runs" / made.run).history() if isinstance(e, Remark)]
    assert planned.why in said
    assert not any("FLOP" in text for text in said)
    (run,) = [r for r in sft.runs(workspace=workspace).rows if r.id == made.run]
    assert run.state == "done"
    assert "is no better than always answering" in run.concern
    assert run.concern in said
    assert run.concern == made.concern
    assert run.next_step == "%sft_finetune films --lr 5e-05"
    assert [row.epoch for row in run.evaluations] == [float(n) for n in range(1, len(run.evaluations) + 1)]
    assert sum(row.best for row in run.evaluations) == 1
    short = sft.finetune("films", batch=64, max_length=16, epochs=0.1, method="full", threads=1, workspace=workspace)
    (run,) = [r for r in sft.runs(workspace=workspace).rows if r.id == short.run]
    assert run.concern, "a step is not enough"
    assert run.next_step == "%sft_finetune films --method full --epochs 20"


def test_retraining_has_a_plan_of_its_own_length(workspace: Path) -> None:
    first = sft.versions("films", workspace=workspace).rows[-1].ref
    more = sft.retrain("films", from_=first, data="films", workspace=workspace)
    made = sft.versions("films", workspace=workspace).rows[0]
    assert f"for {made.options['epochs']:g} epochs on" in more.plan
    assert 1 < made.options["epochs"] < 20
