import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from sft_magics.core import errors

KINDS = [*errors.SftError.__subclasses__(), errors.CheckFailed, errors.Interrupted]


@pytest.fixture
def shell() -> InteractiveShell:
    return InteractiveShell()


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_a_cell_shows_two_lines_and_is_an_error(shell: InteractiveShell, kind: type[errors.SftError]) -> None:
    shell.user_ns["problem"] = kind("The disk is full.", "free some space.")
    with capture_output() as captured:
        result = shell.run_cell("def f():\n    raise problem\nf()")
    assert captured.stdout == "\x1b[31mThe disk is full.\x1b[0m\nNext: free some space.\n"
    assert captured.stderr == ""
    assert not result.success
    assert isinstance(result.error_in_exec, kind)


def test_a_chain_of_errors_shows_only_ours(shell: InteractiveShell) -> None:
    shell.user_ns["problem"] = errors.DataProblem("No such file.", "write another.")
    with capture_output() as captured:
        shell.run_cell("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise problem from e")
    assert captured.stdout.splitlines() == ["\x1b[31mNo such file.\x1b[0m", "Next: write another."]


@given(st.text())
def test_an_error_is_always_two_lines_whatever_a_user_typed(typed: str) -> None:
    problem = errors.UsageProblem(f"There is no file '{typed}'.", f"write {typed} again.")
    assert len(("\n".join(problem.lines) + "\n").splitlines()) == 2
    assert len("\n".join(problem._render_traceback_()).splitlines()) == 2
    assert len(str(problem).splitlines()) == 2


def test_a_users_text_cannot_drive_the_terminal() -> None:
    assert "\x1b" not in str(errors.NotFound("There is no '\x1b[2Jx'.", "try \x07 again."))


def test_the_map_at_the_top_names_every_error() -> None:
    drawn = {line.split("── ")[1].split()[0] for line in str(errors.__doc__).splitlines() if "── " in line}
    assert drawn == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("%sft_finetune reviews --epochs 1", "sft finetune reviews --epochs 1"),
        ("type %sft to see all", "type sft board to see all"),
        ("type %sft_doctor, then %sft.", "type sft doctor, then sft board."),
        ("%%sft_predict reviews:1", "sft predict reviews:1"),
        ("type %sft_finetune? to see all.", "type sft finetune --help to see all."),
        ("type %sft? to see all.", "type sft board --help to see all."),
        ("100% sure", "100% sure"),
        ("nothing to change", "nothing to change"),
    ],
)
def test_the_command_line_spells_magics_its_own_way(text: str, spelled: str) -> None:
    assert errors.headless(text) == spelled


def test_lines_are_in_the_headless_spelling() -> None:
    problem = errors.Refused("%sft_deploy needs a version.", "%sft_deploy reviews:1")
    assert problem.lines == ("sft deploy needs a version.", "Next: sft deploy reviews:1")


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("finetun", ["finetune", "fetch"], " Did you mean 'finetune'?"),
        ("imdb", ["IMDB"], " Did you mean 'IMDB'?"),
        ("Reviws", ["reviews"], " Did you mean 'reviews'?"),
        ("zzz", ["reviews"], ""),
        ("", ["reviews"], ""),
        ("x", [], ""),
    ],
)
def test_did_you_mean(word: str, known: list[str], hint: str) -> None:
    assert errors.did_you_mean(word, known) == hint


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    close = errors.not_found("dataset", "revews", ["reviews", "tweets"], "%sft_data")
    assert close.what == "There is no dataset called 'revews'. Did you mean 'reviews'?"
    far = errors.not_found("dataset", "zzz", [f"d{i}" for i in range(10)], "%sft_data")
    assert "There are: d0, d1, d2, d3, d4, d5, d6, d7, ..." in far.what
    assert errors.not_found("dataset", "zzz", [], "%sft_data").what == "There is no dataset called 'zzz'."


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The disk is full (/x): nothing was changed while saving."),
        (errno.EDQUOT, "The disk is full (/x): nothing was changed while saving."),
        (errno.EROFS, "The workspace cannot be written (/x) while saving."),
        (errno.EACCES, "The workspace cannot be written (/x) while saving."),
        (errno.EPERM, "The workspace cannot be written (/x) while saving."),
        (errno.EIO, "The system refused (/x) while saving"),
    ],
)
def test_what_the_system_refuses_is_translated(number: int, words: str) -> None:
    problem = errors.from_os_error(OSError(number, os.strerror(number), "/x"), "saving")
    assert problem.what.startswith(words)
    assert problem.next_step
