"""A user's mistakes, each on its own: one sentence, one next step, nothing lost."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

import sft_magics as sft
from sft_magics.core.errors import SftError
from sft_magics.core.workspace import Workspace

QUIET = Config({"HistoryManager": {"enabled": False}})  # it would be written when its folder has gone


@pytest.fixture
def shell(trained: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("SFT_HOME", str(trained.root))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    made = InteractiveShell(config=QUIET)
    made.run_line_magic("load_ext", "sft_magics")
    made.user_ns["sft"] = sft
    yield made
    made.run_line_magic("unload_ext", "sft_magics")


def mistake(shell: InteractiveShell, line: str) -> list[str]:
    """Run a line that must fail, and return what a reader sees."""
    with capture_output() as captured:
        result = shell.run_cell(line)
    assert isinstance(result.error_in_exec, SftError), f"{line}: {result.error_in_exec!r}"
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", row) for row in (captured.stdout + captured.stderr).strip().splitlines()]
    assert len(shown) == 2, shown
    assert shown[1].startswith("Next: ")
    assert "Traceback" not in shown[0]
    return shown


FILES = {
    "three.csv": "a,b,c\nx,y,z\nu,v,w\n",
    "one_class.csv": "text,label\n" + "".join(f"film {i},good\n" for i in range(40)),
    "no_label.csv": "text\nhello there\nhow are you\n",
    "broken.jsonl": '{"text": "a", "label": "x"}\n{"text": \n',
    "empty.csv": "",
    "labels.csv": "id,label\nnobody,negative\n",
    "wrong_labels.csv": "identity,truth\n1,2\n",
}

LINES = [
    ("%sft_finetune films --epoch 3", "no option --epoch. Did you mean '--epochs'?"),
    ("%sft_finetune films --epochs three", "it takes a number"),
    ("%sft_finetune films --epochs 0", "--epochs cannot be 0"),
    ("%sft_finetune films --lr", "--lr needs a value"),
    ("%sft_finetune", "needs the model"),
    ("%sft_finetune films epochs=1", "options begin with two dashes"),
    ("%sft_finetune films --epochs 0,5", "cannot be '0,5'"),
    ("%sft_finetune films --epochs 1 --epochs 2", "given twice"),
    ("%sft_finetune {nothing}", "there is no variable 'nothing'"),
    ("%sft finetune films", "%sft_finetune films"),
    ("%sft_evaluate films:1 --gate “f1 is good”", "'f1 is good' is not a gate"),
    ("sft.finetune('films', epoch=1)", "no option epoch. Did you mean 'epochs'?"),
    ("%sft_finetune filsm", "no model called 'filsm'. Did you mean 'films'?"),
    ("%sft_finetune films --data flims", "no dataset called 'flims'. Did you mean 'films'?"),
    ("%sft_finetune films --augment flip", "--augment changes pictures"),
    ("%sft_finetune films --precision fp8", "it takes auto or bf16 or fp32"),
    ("%sft_finetune --resume run-0000", "no run called 'run-0000'"),
    ("%sft_finetune films --background --in-process", "exclude each other"),
    ("%%sft_finetune films\nepochs = = 3", "not TOML"),
    ("%sft_bench flims:1", "no model called 'flims'. Did you mean 'films'?"),
    ("%sft_bench films:1 --clients 1, 8", "does not know what to do with '8'"),
    ("%sft_bench films:1 --engine onxx", "Did you mean 'onnx'?"),
    ("%sft_bench films:1 --seconds fast", "it takes a number"),
    ("%%sft_finetune films\nepoch = 3", "no option epoch"),
    ("%sft_data x nowhere.csv", "nowhere.csv"),
    ("%sft_data x three.csv", "three.csv"),
    ("%sft_data x three.csv --text a --label d", "'d'"),
    ("%sft_data x one_class.csv", "one class"),
    ("%sft_data x no_label.csv", "label"),
    ("%sft_data x broken.jsonl", "broken.jsonl"),
    ("%sft_data x empty.csv", "empty.csv"),
    ("%sft_data x latin.csv", "UTF-8"),
    ("%sft_data x sample:revews", "Did you mean"),
    ("%sft_data a/b three.csv", "cannot name a dataset"),
    ("%sft_data films three.csv --validation 2", "fraction"),
    ("%sft_create other --data nothing", "no dataset called 'nothing'"),
    ("%sft_create other --data films --base minlm", "Did you mean 'minilm'?"),
    ("%sft_create other --data films --base ./nowhere", "no folder"),
    ("%sft_create other --data films --task segmentation", "it takes text-classification"),
    ("%sft_evaluate films:7", "films"),
    ("%sft_evaluate films@nowhere", "nowhere"),
    ("%sft_evaluate films:x", "not a reference"),
    ("%sft_predict films:1", "no text to predict"),
    ("%sft_predict films:1 'never closed", "never closed"),
    ("%sft_predict films --endpoint hello", "films"),
    ("%sft_deploy films", "needs a version or an alias"),
    ("%sft_deploy films@live", "live"),
    ("%sft_stop films", "no run or endpoint called 'films'"),
    ("%sft_keep run-0000", "no run called"),
    ("%sft_edit run-0000 --lr 1e-5", "no run called 'run-0000'"),
    ("%sft_edit run-0000 --batch 16", "no option --batch"),
    ("%sft_edit --lr 1e-5", "needs RUN"),
    ("%sft_pause run-0000", "no run called"),
    ("%sft_pause films", "no run called 'films'"),
    ("%sft_resume run-0000", "no run called"),
    ("%sft_finetune films --from run-0000", "no run called"),
    ("%sft_finetune films --from run-0000/last", "names no weights of a run"),
    ("%sft_monitor films", "films"),
    ('%sft_alert films "recall < 0.8"', "films"),
    ("%sft_retire films:1 --successor films:1", "cannot succeed itself"),
    ("%sft_retire films:9", "films"),
    ("%sft_alias films:1 'a b'", "cannot name a alias"),
    ("%sft_versions nobody", "no model called 'nobody'"),
    ("%sft_fetch everything", "everything"),
    ("%sft_evaluate films:1 -o 2x", "no variable name"),
]


@pytest.mark.parametrize(("line", "expected"), LINES, ids=[line for line, _ in LINES])
def test_a_mistake_gets_a_sentence(shell: InteractiveShell, tmp_path: Path, line: str, expected: str) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,good\ntea,bad\n".encode("latin-1"))
    before = len(sft.versions(workspace=tmp_path / "workspace"))
    shown = mistake(shell, line)
    assert expected.lower() in shown[0].lower()
    assert len(sft.versions(workspace=tmp_path / "workspace")) == before
