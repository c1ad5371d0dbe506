"""torch.compile: the names and a resumed run stay as they are, and what fails costs nothing but the gain."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sft_magics.core.events import EpochDone, Remark, StepDone
from sft_magics.engine.jobs import worker
from sft_magics.engine.training import autotune, compiling
from tests.engine.house import Ear, films, order, small_base

can_compile = pytest.mark.skipif(bool(compiling.why_not(torch.device("cpu"))), reason="nothing compiles here")


def text_order(root: Path, **options: Any) -> dict[str, Any]:
    return order(films(root, 44, 8), start=small_base(root / "base", layers=1), lr=0.001, **options)


def said(ear: Ear) -> list[str]:
    return [e.text for e in ear.all(Remark) if "compil" in e.text]


@pytest.fixture(autouse=True)
def _as_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for pip, as tests of fetching do, lets setuptools' own import hook refuse setuptools from then on."""
    hook = getattr(sys.modules.get("_distutils_hack"), "DISTUTILS_FINDER", None)
    if hook is not None and "spec_for_distutils" in vars(hook):
        monkeypatch.delattr(hook, "spec_for_distutils")


@pytest.mark.slow
@can_compile
def test_a_compiled_run_that_is_taken_up_is_the_one_that_was_not_stopped(tmp_path: Path) -> None:
    spec = text_order(tmp_path, compile="on")
    whole = worker.train(spec, Ear(), tmp_path / "whole")
    assert whole.chosen == {"compile": "on"}
    ear = Ear(lambda e: isinstance(e, StepDone))
    assert worker.train(spec, ear, tmp_path / "run").stopped
    assert said(ear) == ["Steps are compiled; the first one waits for it."]
    resumed = worker.train(spec, Ear(), tmp_path / "run")
    plain = worker.train({**spec, "options": {**spec["options"], "compile": "off"}}, Ear(), tmp_path / "plain")
    one, two, other = (load_file(t.folder / "model.safetensors") for t in (whole, resumed, plain))
    assert list(one) == list(other), "no name has changed"
    assert all(torch.equal(one[n], two[n]) for n in one)
    assert not all(torch.equal(one[n], other[n]) for n in one), "it was compiled"


def test_a_compiler_that_fails_leaves_the_run_as_it_would_have_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    broken = tmp_path / "broken-g++"
    broken.write_text(f"#!{sys.executable}\nraise SystemExit(1)\n")
    broken.chmod(0o700)
    spec = text_order(tmp_path, dropout=False)
    plain, ear = Ear(), Ear()
    worker.train(spec, plain, tmp_path / "plain")
    monkeypatch.setattr(compiling, "why_not", lambda _: "")  # it is found, and nothing but its failing says more
    with inductor.patch({"cpp.cxx": (str(broken),)}):
        made = worker.train({**spec, "options": {**spec["options"], "compile": "on"}}, ear, tmp_path / "run")
    assert any("the run goes on without compiling" in text for text in said(ear))
    assert made.chosen == {"compile": "off"}
    assert [e.validation_loss for e in ear.all(EpochDone)] == [e.validation_loss for e in plain.all(EpochDone)]


def test_a_machine_without_a_compiler_says_so(tmp_path: Path) -> None:
    import torch._inductor.config as inductor

    ear = Ear()
    with inductor.patch({"cpp.cxx": ("there-is-no-such-compiler",)}):
        made = worker.train(text_order(tmp_path, compile="on"), ear, tmp_path / "run")
    assert said(ear) == ["Steps are not compiled: there is no C++ compiler on this machine (g++ or clang++)."]
    assert made.chosen == {"compile": "off"}


@can_compile
def test_auto_is_off_on_a_cpu_and_says_why(tmp_path: Path) -> None:
    ear = Ear()
    made = worker.train(text_order(tmp_path, compile="auto"), ear, tmp_path / "run")
    assert said(ear) == [f"Steps are not compiled: {compiling.NO_GAIN}."]
    assert made.chosen == {"compile": "off"}


def test_a_short_run_is_not_compiled_to_find_out(tmp_path: Path) -> None:
    """What is asked on a GPU; the measuring is the same here."""
    loop, _ = worker.prepare(text_order(tmp_path, compile="auto"), Ear(), tmp_path / "run")
    verdict, why = autotune.compiled_pays(loop)
    assert verdict == "off"
    assert "too few to win back" in why
    assert not compiling.running(loop.task.model)


def test_a_model_that_fails_compiled_and_not_is_no_fault_of_the_compiler(tmp_path: Path) -> None:
    loop, _ = worker.prepare(text_order(tmp_path), Ear(), tmp_path / "run")
    compiling.start(loop.task.model, [1, 2])

    def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        raise ZeroDivisionError("of the model itself")

    loop.task.loss = loss  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        loop.gradients.of(loop.batch_of(0), 8)
    assert not compiling.running(loop.task.model)
