import subprocess
import sys
from pathlib import Path

import pytest

from sft_magics.core import commands
from sft_magics.core.commands import CommandQueue, Edit


@pytest.fixture
def file(tmp_path: Path) -> CommandQueue:
    return CommandQueue(tmp_path / "orders.jsonl")


def edit(**changes: float) -> dict[str, object]:
    return {"do": "edit", "changes": changes, "who": "ann"}


def test_nothing_is_told_where_there_is_no_file(file: CommandQueue) -> None:
    assert (file.told().do, file.told().edits, file.told().ending) == ("", (), False)


def test_a_stop_beside_an_edit_loses_neither(file: CommandQueue) -> None:
    file.tell(edit(lr=1e-5))
    file.tell({"do": "stop"})
    file.tell(edit(more_epochs=2))
    told = file.told()
    assert (told.do, told.ending) == ("stop", True)
    assert told.edits == (Edit(0, {"lr": 1e-5}, "ann"), Edit(2, {"more_epochs": 2}, "ann"))


def test_what_is_carried_out_is_forgotten_and_edits_are_not(file: CommandQueue) -> None:
    file.tell(edit(lr=1e-5))
    file.tell({"do": "pause"})
    file.tell({"do": "forget"})
    assert (file.told().do, len(file.told().edits)) == ("", 1)


def test_a_stop_outweighs_a_pause(file: CommandQueue) -> None:
    file.tell({"do": "stop"})
    file.tell({"do": "pause"})
    assert file.told().do == "stop"
    file.tell({"do": "forget"})
    file.tell({"do": "pause"})
    file.tell({"do": "stop"})
    assert file.told().do == "stop"


def test_a_line_that_a_crash_left_unfinished_costs_only_itself(file: CommandQueue) -> None:
    file.tell(edit(lr=1e-5))
    with file.path.open("ab") as opened:
        opened.write(b'{"do":"edit","cha')
    assert [e.number for e in file.told().edits] == [0]
    file.tell(edit(lr=2e-5))
    assert file.told().edits == (Edit(0, {"lr": 1e-5}, "ann"), Edit(2, {"lr": 2e-5}, "ann"))


@pytest.mark.parametrize("changes", [None, 3, [], {"lr": "high"}, {"lr": None}, {"lr": True}, {"batch": 4}, {"x": {}}])
def test_what_no_edit_can_be_changes_nothing(file: CommandQueue, changes: object) -> None:
    file.tell({"do": "edit", "changes": changes})
    assert [e.changes for e in file.told().edits] == [{}]


def test_processes_that_tell_at_once_lose_nothing(file: CommandQueue) -> None:
    code = (
        "import sys; from pathlib import Path; from sft_magics.core.commands import CommandQueue\n"
        f"for i in range(40): CommandQueue(Path({str(file.path)!r})).tell("
        '{"do": "edit", "changes": {"lr": float(i)}, "who": sys.argv[1]})'
    )
    children = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "abc"]
    assert [child.wait(120) for child in children] == [0, 0, 0]
    found = file.told().edits
    assert [e.number for e in found] == list(range(120))
    for name in "abc":
        assert [e.changes["lr"] for e in found if e.who == name] == [float(i) for i in range(40)]


def test_a_version_records_the_step_and_the_new_values() -> None:
    taken = [commands.AppliedEdit(3, {"lr": 1e-5}, 0, "ann"), commands.AppliedEdit(9, {"epochs": 5.0})]
    assert commands.written(taken) == [{"step": 3, "lr": 1e-5}, {"step": 9, "epochs": 5.0}]
