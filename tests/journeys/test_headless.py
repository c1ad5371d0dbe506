"""The same verbs from a shell: a progress line and the result, or events and the result as JSON lines."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sft_magics.core.workspace import Workspace


def sft(ws: Workspace, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run one headless verb in this workspace."""
    return subprocess.run(
        [sys.executable, "-m", "sft_magics", *words],
        env={**os.environ, "SFT_HOME": str(ws.root)}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """The JSON lines of stdout; nothing else may stand there."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_finetune_tells_its_events_and_ends_with_the_version(trained: Workspace) -> None:
    told = lines(sft(trained, "finetune", "films", "--epochs", "0.2", "--json"))
    kinds = [line["kind"] for line in told]
    assert kinds[0] == "Started"
    assert "StepDone" in kinds
    assert kinds[-2:] == ["Ended", "Version"]
    assert (told[-1]["model"], told[-1]["number"]) == ("films", 2)


def test_progress_is_on_stderr_and_the_result_on_stdout(trained: Workspace) -> None:
    done = sft(trained, "predict", "films:1", "a moving, funny film")
    assert done.returncode == 0, done.stderr
    assert "1 predictions by films:1" in done.stdout
    assert "predicting with films:1" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr, "no colors where there is no terminal"


def test_a_mistake_is_two_lines_and_exit_code_2(trained: Workspace) -> None:
    done = sft(trained, "finetune", "flims")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == "There is no model called 'flims'. Did you mean 'films'?"
    assert done.stderr.splitlines()[1].startswith("Next: sft ")
    assert len(done.stderr.splitlines()) == 2


def test_a_reader_of_events_that_goes_away_ends_nothing_and_hears_nothing(trained: Workspace) -> None:
    line = f"{sys.executable} -m sft_magics evaluate films:1 --json | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], env={**os.environ, "SFT_HOME": str(trained.root)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interrupt_from_a_shell_is_an_object_and_code_130(trained: Workspace, tmp_path: Path) -> None:
    many = tmp_path / "many.csv"  # minutes of work, so that the interrupt comes within it
    many.write_text("text,label\n" + "".join(f"a film of part {i},positive\n" for i in range(40_000)))
    asked = subprocess.Popen(
        [sys.executable, "-m", "sft_magics", "evaluate", "films:1", "--data", str(many), "--json"],
        env={**os.environ, "SFT_HOME": str(trained.root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert asked.stdout is not None
    assert json.loads(asked.stdout.readline())["job"].startswith("job-"), "its process is at work"
    asked.send_signal(signal.SIGINT)
    out, err = asked.communicate(timeout=120)
    last = json.loads(out.splitlines()[-1])
    assert (asked.returncode, last["kind"], last["error"], last["code"]) == (130, "Error", "Interrupted", 130)
    assert len(err.splitlines()) == 2
    assert list(trained.jobs.iterdir()) == []


def test_every_listing_verb_ends_with_its_object(trained: Workspace) -> None:
    for verb in ("board", "doctor", "models", "versions", "runs", "endpoints", "alerts", "history", "data"):
        told = lines(sft(trained, verb, "--json"))
        assert len(told) == 1, verb
        assert told[0]["kind"], verb


def test_deploy_stays_in_the_foreground_until_it_is_stopped(trained: Workspace) -> None:
    serving = subprocess.Popen(
        [sys.executable, "-m", "sft_magics", "deploy", "films:1"],
        env={**os.environ, "SFT_HOME": str(trained.root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert serving.stdout is not None
    assert "ready" in serving.stdout.readline()
    assert serving.poll() is None
    answer = sft(trained, "predict", "films", "a moving, funny film", "--endpoint")
    assert "films:1" in answer.stdout, answer.stderr
    serving.send_signal(signal.SIGINT)
    assert serving.wait(60) == 0
    assert "ready" not in sft(trained, "endpoints").stdout


def test_deploy_with_keep_returns_and_the_endpoint_stays(trained: Workspace) -> None:
    assert sft(trained, "deploy", "films:1", "--keep").returncode == 0
    time.sleep(2)
    assert "ready" in sft(trained, "endpoints").stdout
    assert "stopped" in sft(trained, "stop", "films").stdout


def test_a_relative_workspace_option_is_the_same_everywhere(trained: Workspace, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sft_magics", "versions", "films", "--workspace", "workspace"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "films:1" in done.stdout, done.stderr
