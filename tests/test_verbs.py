import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest

import sft_magics as sft
from sft_magics.__main__ import main
from sft_magics.core import arguments, errors, values
from sft_magics.core.errors import UsageProblem
from sft_magics.notebook.completion import suggest
from sft_magics.verbs import VERBS, Verb, find

NAMES = sorted(VERBS)


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_resolves_and_says_what_it_is_for(name: str) -> None:
    verb = VERBS[name]
    assert verb.function.__name__ == name
    assert verb.function.__module__.startswith("sft_magics.lifecycle.")
    assert verb.summary.endswith(".")
    assert len(verb.summary) < 80
    assert verb.signature.summary.endswith(".")
    assert inspect.unwrap(getattr(sft, name)) is verb.function
    assert inspect.signature(getattr(sft, name)) == inspect.signature(verb.function)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_help_and_a_type_that_lines_can_give(name: str) -> None:
    signature = VERBS[name].signature
    assert [o.parameter for o in signature.options if not o.help] == []
    assert [o.parameter for o in signature.options if not o.types and not o.choices] == []
    assert "workspace" in {o.parameter for o in signature.options}
    flags = [o.flag for o in signature.options]
    assert len(flags) == len(set(flags))
    assert not {"-o", "--output", "--json", "--help"} & set(flags)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_required_comes_first(name: str) -> None:
    words = [o.required for o in VERBS[name].signature.positional]
    assert words == sorted(words, reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_default_is_what_the_line_would_give(name: str) -> None:
    for option in VERBS[name].signature.options:
        if option.boolean:
            assert option.default in (True, False)
        elif option.default is not None and not option.required and not option.many:
            again = values.convert(option, str(option.default))
            assert (again, type(again)) == (option.default, type(option.default))


@pytest.mark.parametrize("name", NAMES)
def test_the_three_faces_know_the_same_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    signature = VERBS[name].signature
    assert main([name.replace("_", "-"), "--help"]) == 0
    shown = capsys.readouterr().out
    for option in signature.options:
        assert (option.parameter.rstrip("_").upper() if option.positional else option.flag) in shown
        assert option.help in shown
    assert "%" not in shown.replace("95 %", "")
    completions = suggest(signature, [], "-")
    assert set(signature.flags) <= set(completions)


@pytest.mark.parametrize("name", NAMES)
def test_a_line_that_gives_every_option_is_read(name: str) -> None:
    signature = VERBS[name].signature
    words: list[str] = []
    for option in signature.options:
        sample = option.choices[0] if option.choices else {int: "3", float: "0.5"}.get(option.types[0], "word")
        words += [sample] if option.positional else [option.switch] if option.boolean else [option.flag, sample]
    found = arguments.parse(signature, words)
    assert set(found) == {o.parameter for o in signature.options}
    for option in signature.options:
        if option.boolean:
            assert found[option.parameter] is not option.default


def test_the_python_face_lists_the_same_verbs() -> None:
    assert sorted(sft.__all__) == NAMES
    assert set(NAMES) <= set(dir(sft))
    with pytest.raises(AttributeError, match="no attribute 'finetun'"):
        _ = sft.finetun  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("finetun", "finetune"), ("Predict", "predict"), ("endpoint", "endpoints"), ("retrian", "retrain")],
)
def test_a_verb_that_is_misspelled_is_answered_with_the_right_one(typed: str, meant: str) -> None:
    with pytest.raises(UsageProblem, match=f"Did you mean '{meant}'"):
        find(typed)


def test_a_verb_is_found_under_its_own_name() -> None:
    assert find("finetune") is VERBS["finetune"]
    with pytest.raises(UsageProblem):
        find("")


# ---- calling


def given(
    a: Annotated[str, "a"], b: Annotated[str, "b"] = "B", *rest: Annotated[Any, "rest"], c: Annotated[int, "c"] = 1
) -> tuple[Any, ...]:
    """Return what it was given."""
    return (a, b, rest, c)


def broken(*, workspace: Annotated[str | None, "the folder"] = None) -> None:
    """Fail by a mistake of ours."""
    raise KeyError("first\nsecond")


def refused(*, workspace: Annotated[str | None, "the folder"] = None) -> None:
    """Fail for want of disk."""
    raise OSError(28, "No space left on device", "/x")


def verb_of(function: Any) -> Verb:
    verb = Verb(function.__name__, "none", "Test", "A test.")
    verb.__dict__["function"] = function
    return verb


def test_words_of_a_star_parameter_are_put_in_their_place() -> None:
    call = verb_of(given)
    assert call(a="x") == ("x", "B", (), 1)
    assert call(a="x", b="y", rest=("1", "2"), c=3) == ("x", "y", ("1", "2"), 3)
    assert call(a="x", rest=("1",)) == ("x", "B", ("1",), 1)
    assert call(a="x", rest=()) == ("x", "B", (), 1)


def test_a_defect_is_two_lines_and_its_details_lie_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(errors.Defect) as caught:
        verb_of(broken)(workspace=str(tmp_path))
    assert len(str(caught.value).splitlines()) == 2
    (report,) = (tmp_path / "defects").iterdir()
    assert str(report) in caught.value.next_step
    assert "KeyError" in report.read_text(encoding="utf-8")
    assert "in broken" in report.read_text(encoding="utf-8")


def test_a_defect_where_nothing_can_be_written_is_still_two_lines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.Defect) as caught:
        verb_of(broken)(workspace=str(tmp_path / "file"))
    assert "%sft_doctor" in caught.value.next_step


def test_a_system_that_refuses_is_a_workspace_problem() -> None:
    with pytest.raises(errors.WorkspaceProblem, match="The disk is full"):
        verb_of(refused)()


def test_python_code_gets_the_sentence_of_a_full_disk_and_the_traceback_of_a_defect() -> None:
    with pytest.raises(errors.WorkspaceProblem, match="The disk is full"):
        verb_of(refused).python()
    with pytest.raises(KeyError):
        verb_of(broken).python()


def test_a_wrong_call_from_python_is_a_sentence() -> None:
    with pytest.raises(UsageProblem, match=r"sft\.finetune has no option epoch\. Did you mean 'epochs'"):
        sft.finetune("films", epoch=1)
    with pytest.raises(UsageProblem, match="--epochs cannot be 'many'"):
        sft.finetune("films", epochs="many")


def test_importing_the_package_and_its_table_brings_in_nothing_heavy() -> None:
    code = (
        "import sys, json, sft_magics, sft_magics.verbs, sft_magics.core.signatures\n"
        "heavy = ('torch', 'transformers', 'IPython', 'ipywidgets', 'pandas', 'numpy', 'tinydb', 'pyarrow',"
        " 'starlette', 'httpx', 'scipy', 'sklearn', 'rich')\n"
        "print(json.dumps([n for n in heavy if n in sys.modules]))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(child.stdout) == []


def test_reading_all_signatures_brings_in_nothing_heavy() -> None:
    code = (
        "import sys, json\nfrom sft_magics.verbs import VERBS\n[v.signature for v in VERBS.values()]\n"
        "heavy = ('torch', 'transformers', 'IPython', 'pandas', 'numpy', 'tinydb', 'pyarrow', 'starlette', 'httpx')\n"
        "print(json.dumps([n for n in heavy if n in sys.modules]))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(child.stdout) == []
