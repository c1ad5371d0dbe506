"""Lines and cell bodies as the magics read them, in a real IPython shell, over verbs that only say what they got."""

import gc
import weakref
from collections.abc import Callable
from typing import Annotated, Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from sft_magics.core import errors, observer
from sft_magics.core.records import Check
from sft_magics.core.signatures import FromNamespace, Sentence
from sft_magics.notebook.magics import VerbMagic
from sft_magics.verbs import Verb


def ask(
    version: Annotated[str, "a version"],
    *texts: Annotated[Any, "texts", FromNamespace(), Sentence()],
    data: Annotated[Any, "a table", FromNamespace()] = None,
) -> dict[str, Any]:
    """Say what was asked."""
    return {"version": version, "texts": texts, "data": data}


def gate(how: Annotated[str, "checked or interrupted"]) -> None:
    """End in what is no failure of a verb."""
    if how == "checked":
        raise errors.CheckFailed("f1 is 0.5.", "%sft_errors", Check("f1", "0.5", "problem"))
    raise KeyboardInterrupt


def make(
    name: Annotated[str, "the name"],
    *,
    data: Annotated[str, "the dataset it is for"],
    epochs: Annotated[float, "passes"] = 1.0,
    fresh: Annotated[bool, "begin anew"] = False,
) -> dict[str, Any]:
    """Say what is to be made."""
    return {"name": name, "data": data, "epochs": epochs, "fresh": fresh}


class Heavy:
    """Something that must not stay in memory."""


BORN: list[weakref.ref[Heavy]] = []


def fail(how: Annotated[str, "user, defect or system"]) -> None:
    """Fail while something heavy is at hand."""
    heavy = Heavy()
    BORN[:] = [weakref.ref(heavy)]
    if how == "defect":
        raise RuntimeError("first line\nsecond line")
    if how == "system":
        raise OSError(28, "No space left on device", "/x")
    raise errors.DataProblem("The file is empty.", "write another.")


@pytest.fixture
def shell(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    made = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    for name, function in (("ask", ask), ("make", make), ("fail", fail), ("gate", gate)):
        verb = Verb(name, "none", "Test", "test")
        verb.__dict__["function"] = function
        made.register_magic_function(VerbMagic(made, verb, observer.NullObserver()), "line_cell", f"sft_{name}")
    return made


@pytest.fixture
def run(shell: InteractiveShell) -> Callable[[str], Any]:
    def run_cell(cell: str) -> Any:
        with capture_output():
            result = shell.run_cell(cell)
        assert result.success, result.error_in_exec
        return result.result

    return run_cell


@pytest.fixture
def refused(shell: InteractiveShell) -> Callable[[str], list[str]]:
    def run_cell(cell: str) -> list[str]:
        with capture_output() as captured:
            result = shell.run_cell(cell)
        assert not result.success
        assert isinstance(result.error_in_exec, errors.SftError)
        assert captured.stderr == ""
        lines = captured.stdout.splitlines()
        assert len(lines) == 2
        assert lines[1].startswith("Next: ")
        return lines

    return run_cell


def test_a_line(run: Callable[[str], Any], shell: InteractiveShell) -> None:
    assert run('%sft_ask films:1 "a moving, funny film" -o got')["texts"] == ("a moving, funny film",)
    assert shell.user_ns["got"]["version"] == "films:1"


def test_a_frame_by_its_name_in_every_place(run: Callable[[str], Any], shell: InteractiveShell) -> None:
    frame = pd.DataFrame({"text": ["a", "b"]})
    shell.user_ns["frame"] = frame
    assert run("%sft_ask films:1 --data frame")["data"] is frame
    assert run("%sft_ask films:1 frame")["texts"][0] is frame
    assert run('%sft_ask films:1 "frame"')["texts"] == ("frame",)


def test_braces_are_expanded_by_the_shell_before_we_read(run: Callable[[str], Any], shell: InteractiveShell) -> None:
    shell.user_ns["name"] = "films"
    assert run('%sft_ask {name}:1 "all {name}"') == {
        "version": "films:1",
        "texts": ("all films",),
        "data": None,
    }
    # IPython expands a whole line or, where it knows a name not or a brace stands alone, nothing of it.
    assert run('%sft_ask films:1 "{name} and {"')["texts"] == ("{name} and {",)


def test_texts_one_a_line(run: Callable[[str], Any]) -> None:
    got = run('%%sft_ask films:1\n# is no comment here\n\n  it\'s "great" --really  \n')
    assert got["texts"] == ("# is no comment here", '  it\'s "great" --really  ')


def test_texts_of_the_line_come_before_those_of_the_body(run: Callable[[str], Any]) -> None:
    assert run("%%sft_ask films:1 first\nsecond")["texts"] == ("first", "second")


def test_a_toml_body_gives_options_and_the_line_wins(run: Callable[[str], Any]) -> None:
    cell = '%%sft_make films --epochs 2\ndata = "reviews"  # required\nepochs = 3\nfresh = true\n'
    assert run(cell) == {"name": "films", "data": "reviews", "epochs": 2.0, "fresh": True}
    assert run('%%sft_make\nname = "x"\ndata = "y"')["name"] == "x"


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%sft_make", "needs NAME"),
        ("%sft_make films", "needs --data"),
        ("%%sft_make films\nepochs = 3", "needs --data"),
        ("%%sft_make films\nepochs: 3", "not TOML"),
        ("%%sft_make films\nepoch = 3", "Did you mean 'epochs'?"),
        ('%%sft_make films\ndata = ["a", "b"]', "cannot be"),
        ("%%sft_make films\ndata = 'x'\nfresh = 'perhaps'", "--fresh cannot be 'perhaps'"),
        ("%%sft_make films\ndata = 'x'\nepochs = nan", "--epochs cannot be 'nan'"),
        ('%sft_ask films:1 "never closed', "never closed"),
        ("%sft_ask films:1 a -o class", "-o cannot be 'class'"),
        ("%sft_ask films:1 a -o 1x", "-o cannot be '1x'"),
        ("%sft_ask films:1 a -o", "-o needs a value"),
        ("%sft_fail user", "The file is empty."),
        ("%sft_fail system", "The disk is full"),
        ("%sft_fail defect", "RuntimeError: first line second line"),
    ],
)
def test_a_mistake_is_two_lines_in_a_cell(refused: Callable[[str], list[str]], cell: str, words: str) -> None:
    assert words in refused(cell)[0]


@pytest.mark.parametrize("how", ["user", "system", "defect"])
def test_an_error_keeps_nothing_alive(refused: Callable[[str], list[str]], how: str) -> None:
    refused(f"%sft_fail {how}")
    gc.collect()
    assert [ref() for ref in BORN] == [None]


def test_words_without_quotes_are_one_text_and_the_cell_says_so(shell: InteractiveShell) -> None:
    with capture_output() as captured:
        result = shell.run_cell("%sft_ask films:1 my parcel is late")
    assert result.result["texts"] == ("my parcel is late",)
    assert captured.stdout.startswith("Read as one text: 'my parcel is late'.")


@pytest.mark.parametrize("line", ["%sft_make -h", "%sft_make films --help", "%%sft_ask -h\nbody"])
def test_a_line_that_asks_for_help_gets_it(shell: InteractiveShell, line: str) -> None:
    with capture_output() as captured:
        result = shell.run_cell(line)
    assert result.success
    assert result.result is None
    assert "%sft_" in captured.stdout
    assert "-o NAME" in captured.stdout


def test_a_variable_that_is_not_there_is_named(refused: Callable[[str], list[str]]) -> None:
    assert "there is no variable 'nothing'" in refused("%sft_make {nothing.id} --data x")[0]


def test_a_failed_check_shows_what_was_found_and_is_an_error(shell: InteractiveShell) -> None:
    with capture_output() as captured:
        result = shell.run_cell("%sft_gate checked")
    assert isinstance(result.error_in_exec, errors.CheckFailed)
    shown = captured.stdout + "".join(output.data["text/plain"] for output in captured.outputs)
    assert "f1: 0.5" in shown
    assert "f1 is 0.5." in shown


def test_an_interrupt_is_two_lines_and_stops_what_runs(shell: InteractiveShell) -> None:
    with capture_output() as captured:
        result = shell.run_cell("%sft_gate interrupted")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert len(captured.stdout.splitlines()) == 2
    assert "%sft_gate was interrupted" in captured.stdout
    assert captured.stderr == ""
