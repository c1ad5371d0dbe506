"""The command line as it reads words and writes errors; what verbs do is tested in their rooms."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest

import sft_magics
from sft_magics.__main__ import Terminal, main
from sft_magics.core import errors, records
from sft_magics.core.views import LossView
from sft_magics.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def sft(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a shell would."""
    return command([sys.executable, "-m", "sft_magics", *words], **more)


def command(words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=env)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_verb_in_its_stage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for verb in VERBS.values():
        assert f"  {verb.word} " in out
        assert verb.summary in out
        assert f"\n{verb.group}\n" in out


@pytest.mark.parametrize("said", [None, "0", "1"])
def test_a_line_called_from_python_leaves_the_variables_as_they_were(
    said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SFT_FORK_SERVER", raising=False)
    if said is not None:
        monkeypatch.setenv("SFT_FORK_SERVER", said)
    before = dict(os.environ)
    assert main(["models"]) == 0
    assert main(["nonsense"]) == 2
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "words", [["finetune", "--help"], ["finetune", "-h"], ["help", "finetune"], ["finetune", "x", "-h"]]
)
def test_help_of_a_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Fine-tune a model")
    assert "sft finetune [MODEL]" in out
    assert "--epochs X" in out
    assert "--json" in out
    assert err == ""


@pytest.mark.parametrize(
    ("words", "first", "second"),
    [
        (["finetun"], "There is no verb 'finetun'. Did you mean 'finetune'?", "sft board"),
        (["--nothing"], "There is no verb '--nothing'.", "sft board"),
        ([""], "There is no verb ''.", "sft board"),
        (["a\nb\x1b[2J"], "There is no verb 'a b [2J'.", "sft board"),
        (["help", "finetun"], "Did you mean 'finetune'?", "sft board"),
        (
            ["finetune", "--epoch", "3"],
            "sft finetune has no option --epoch. Did you mean '--epochs'?",
            "finetune --help",
        ),
        (["finetune", "--epochs", "many"], "--epochs cannot be 'many': it takes a number.", "--epochs"),
        (["finetune", "--epochs"], "--epochs needs a value", "--epochs VALUE"),
        (["finetune", "films", "--background", "--in-process"], "exclude each other", "leave one"),
        (
            ["create", "films"],
            "sft create needs --data: the dataset it is for, or a version of one.",
            "sft create MODEL --data DATASET",
        ),
        (["predict"], "sft predict needs VERSION", "sft predict VERSION"),
        (["stop"], "sft stop needs WHAT", "sft stop WHAT"),
        (["alert", "films", "recall[negative]", "<", "0.8"], "does not know what to do with '<'", "quotes"),
        (["board", "--workspace", ""], "workspace", "--workspace"),
        (["deploy", "films"], "sft deploy needs a version or an alias", "sft deploy films@live"),
        (["deploy", "../x:1"], "cannot name a model", "choose a name such as x"),
    ],
)
def test_a_mistake_is_two_lines_on_stderr_and_exit_code_2(
    words: list[str], first: str, second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert first in lines[0]
    assert lines[1].startswith("Next: ")
    assert second in lines[1]
    assert "%" not in err


def test_the_process_ends_with_the_same_code() -> None:
    child = sft("finetun", "x")
    assert (child.returncode, child.stdout, len(child.stderr.splitlines())) == (2, "", 2)
    assert sft("--help").returncode == 0


def test_words_after_two_dashes_are_texts(capsys: pytest.CaptureFixture[str]) -> None:
    # They reach the verb, which then does not know the model: neither help nor an unknown option.
    for text in ("--json", "--help", "-h", "--great"):
        assert main(["predict", "films:1", "--", text, "second text"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "films" in err
        assert "no option" not in err


@pytest.mark.parametrize("where", [0, 1, 2])
def test_json_may_stand_anywhere(where: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", "--workspace=here"]
    words.insert(where, "--json")
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    last = json.loads(lines[-1])
    assert last["kind"] == "checks"
    names = [row["name"] for row in last["rows"]]
    assert {"python", "torch", "cores", "gpu", "memory", "front end", "workspace", "disk"} <= set(names)
    assert all(set(row) == {"name", "value", "state", "next_step"} for row in last["rows"])
    assert next(r["value"] for r in last["rows"] if r["name"] == "front end") == "command line, JSON"


def test_the_board_in_words_and_in_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"workspace {home}: 0 datasets, 0 models")
    assert out.endswith("Next: sft data reviews sample:reviews\n")
    assert main(["board", "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert board["kind"] == "Board"
    assert board["workspace"] == str(home)
    assert board["models"] == board["versions"] == board["runs"] == board["endpoints"] == []
    assert board["disk_bytes"] >= 0
    assert board["free_bytes"] > 0


def last_object(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert isinstance(found, dict)
    return found, err


def test_a_mistake_under_json_is_an_object_on_stdout_and_two_lines_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--json", "versions", "nothing"]) == 2
    found, err = last_object(capsys)
    assert found == {
        "kind": "Error", "error": "NotFound", "what": "There is no model called 'nothing'.",
        "next": "sft create nothing --data DATASET", "code": 2,
    }  # fmt: skip
    assert err.splitlines() == [found["what"], f"Next: {found['next']}"]


@pytest.mark.parametrize(
    ("raised", "code", "error"),
    [
        (errors.UsageProblem("a", "%sft_b"), 2, "UsageProblem"),
        (errors.Refused("a", "%sft_b"), 2, "Refused"),
        (errors.CheckFailed("a", "%sft_b"), 3, "CheckFailed"),
        (errors.RunProblem("a", "%sft_b"), 1, "RunProblem"),
        (errors.Interrupted("a", "%sft_b"), 130, "Interrupted"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (ZeroDivisionError("x"), 1, "Defect"),
        (OSError(28, "No space left on device"), 1, "WorkspaceProblem"),
    ],
)
def test_whatever_ends_a_verb_is_an_exit_code_and_an_object(
    raised: BaseException, code: int, error: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def board(*, workspace: Annotated[str | None, "the folder"] = None) -> None:
        """Fail."""
        raise raised

    monkeypatch.setitem(VERBS["board"].__dict__, "function", board)
    assert main(["board", "--json"]) == code
    found, err = last_object(capsys)
    assert (found["kind"], found["error"], found["code"]) == ("Error", error, code)
    assert "%" not in found["next"]
    assert len(err.splitlines()) == 2
    assert main(["board"]) == code
    out, again = capsys.readouterr()
    assert (out, len(again.splitlines())) == ("", 2)


def test_a_check_that_fails_still_shows_what_was_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    firing = records.Table("alerts", (records.Alert("alert-1", "films", "f1 < 0.8", "firing", 0.5),))

    def board(*, workspace: Annotated[str | None, "the folder"] = None) -> None:
        """Fail."""
        raise errors.CheckFailed("It fires.", "%sft_monitor films", firing)

    monkeypatch.setitem(VERBS["board"].__dict__, "function", board)
    assert main(["board", "--json"]) == 3
    found, _ = last_object(capsys)
    assert found["result"]["rows"][0]["state"] == "firing"
    assert found["result"]["rows"][0]["ref"] == "alert-1"
    assert main(["board"]) == 3
    assert "firing: films f1 < 0.8" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["--help"], [], ["help", "finetune"], ["finetune", "-h"]])
def test_help_and_version_are_objects_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 0
    found, err = last_object(capsys)
    assert found["kind"] in ("Help", "Program")
    assert err == ""


def test_the_version_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sft_magics {sft_magics.__version__}\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_defect(closed: str, home: Path) -> None:
    child = command(["bash", "-c", f"exec {sys.executable} -m sft_magics board --json {closed}"])
    assert child.returncode == 0, child.stderr
    assert ">&-" in closed.replace("2>&-", "") or json.loads(child.stdout)["kind"] == "Board"
    assert not (home / "defects").exists()


def test_a_stdout_that_takes_nothing_is_said_in_a_sentence() -> None:
    child = command(["bash", "-c", f"{sys.executable} -m sft_magics board > /dev/full"])
    assert child.returncode == 1
    assert len(child.stderr.splitlines()) == 2


def test_json_is_legal_where_stdout_is_not_utf_8(tmp_path: Path) -> None:
    child = sft("board", "--json", "--workspace", str(tmp_path / "größe-映画"), PYTHONIOENCODING="latin-1")
    assert json.loads(child.stdout)["workspace"].endswith("größe-映画")


def test_words_without_quotes_are_one_text_and_the_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "films:1", "my", "parcel", "is", "late"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith("Read as one text: 'my parcel is late'.")
    assert "films" in err[1]


def test_a_verb_copied_from_a_notebook_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["%sft_runs"]) == 0
    assert "no runs yet" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error() -> None:
    child = command(["bash", "-o", "pipefail", "-c", f"{sys.executable} -m sft_magics doctor | true"])
    assert (child.returncode, child.stderr) == (141, "")


@pytest.mark.parametrize(("closed", "says"), [("<&-", True), (">&-", False), ("2>&-", True), ("<&- >&- 2>&-", False)])
def test_closed_streams_are_no_error(closed: str, *, says: bool) -> None:
    for words in ("runs", "--help"):
        done = command(["sh", "-c", f"{sys.executable} -m sft_magics {words} {closed}"])
        assert (done.returncode, done.stderr) == (0, "")
        assert bool(done.stdout) == says


def test_a_terminal_that_lacks_a_letter_is_no_error(tmp_path: Path) -> None:
    child = sft("board", "--workspace", str(tmp_path / "größe-映画"), PYTHONIOENCODING="ascii")
    assert child.returncode == 0, child.stderr
    assert "gr\\xf6\\xdfe-\\u6620\\u753b" in child.stdout


def test_help_for_a_reader_that_goes_away_is_no_error_either() -> None:
    child = command(["bash", "-o", "pipefail", "-c", f"{sys.executable} -m sft_magics --help | true"])
    assert (child.returncode, child.stderr) == (141, "")


class Screen(io.StringIO):
    """A terminal that remembers what was drawn."""

    def isatty(self) -> bool:
        return True


def test_a_bar_gives_the_terminal_back_when_the_verb_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    view = LossView("run-1a2b", title="films", state="running", steps=10, step=3)
    view.remarks.append(("warning", "type %sft_runs [bold]"))
    terminal.show(view)
    terminal.close()
    terminal.close()
    drawn = screen.getvalue()
    assert "run-1a2b films running" in drawn
    assert "warning: type sft runs [bold]" in drawn
    assert drawn.rfind("\x1b[?25h") > drawn.rfind("\x1b[?25l") >= 0


def test_without_a_terminal_progress_is_few_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    view = LossView("run-1a2b", title="films", state="running", steps=10, what="training")
    for step in range(10):
        view.step, view.epoch = step, step / 10
        terminal.show(view)
    view.state = "done"
    terminal.show(view)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 5
    assert err.splitlines()[-1].startswith("run-1a2b films done  step 9/10".replace("  ", " "))
