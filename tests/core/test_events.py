import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sft_magics.core import events as ev

ONE_OF_EACH: list[ev.Event] = [
    ev.Queued("run-1a2b"),
    ev.TakenUp(),
    ev.Started("training", 12, "host"),
    ev.RunPlanned(100, 3.0, 3200, 32, 5e-5, 40, 600, 0.015, "cpu", "bf16", 2),
    ev.StepDone(1, 0.01, math.nan, 5e-5, 100.0, 60.0, 900.0),
    ev.EpochDone(34, 1.0, 0.5, 0.4, {"accuracy": 0.8, "f1": math.nan}, best=True),
    ev.CheckpointSaved(34, "checkpoints/step-34", "epoch"),
    ev.Edited(40, {"lr": [5e-5, 1e-5], "epochs": [3, 5.0]}, 170, 5.0, "ann"),
    ev.Remark("warning", 'a "class"\nis rare \u2028 \x85 <b>'),
    ev.Withdrawn("guessing"),
    ev.Progress("measuring", 3, 10),
    ev.Heartbeat(),
    ev.Committed("films:1"),
    ev.Ended("failed", "why", "next", "RunProblem"),
]


def same(a: ev.Event, b: ev.Event | None) -> bool:
    return b is not None and ev.encode(a) == ev.encode(b) and type(a) is type(b)


def read_all(path: Path) -> list[ev.Event]:
    return list(ev.EventReader(path).read())


def test_there_is_one_of_each_kind() -> None:
    assert {type(e) for e in ONE_OF_EACH} == set(ev.KINDS.values())


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda e: type(e).__name__)
def test_every_event_is_one_line_and_comes_back(event: ev.Event) -> None:
    line = ev.encode(event)
    assert "\n" not in line
    assert same(event, ev.decode(line))
    assert event.at > 1.6e9


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"x"',
        "{}",
        '{"kind":"Unheard"}',
        '{"kind":"Queued"}',
        '{"kind":["Queued"]}',
        '{"kind":"StepDone","step":1',
        '{"kind":"EpochDone","step":1,"epoch":1,"train_loss":"bad","validation_loss":1,"metrics":{},"best":true}',
        '{"kind":"EpochDone","step":1,"epoch":1,"train_loss":1,"validation_loss":1,"metrics":[],"best":true}',
    ],
)
def test_a_damaged_line_is_no_event(line: str) -> None:
    assert ev.decode(line) is None


def test_an_event_of_a_newer_release_is_read_as_far_as_it_is_known() -> None:
    found = ev.decode('{"kind":"Queued","behind":"run-1","at":5,"since":1}')
    assert found == ev.Queued("run-1", at=5.0)


def test_what_is_written_is_read_in_order_by_any_number_of_readers(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    early = ev.EventReader(path)
    assert list(early.read()) == []
    writer = ev.EventWriter(path)
    seen: list[ev.Event] = []
    for event in ONE_OF_EACH:
        writer.write(event)
        seen += early.read()
    writer.close()
    late = read_all(path)
    assert [ev.encode(e) for e in seen] == [ev.encode(e) for e in ONE_OF_EACH] == [ev.encode(e) for e in late]
    assert list(early.read()) == []
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_is_not_finished_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = (ev.encode(ev.Remark("info", "größe")) + "\n").encode()
    reader = ev.EventReader(path)
    for cut in range(1, len(line)):
        path.write_bytes(line[:cut])
        assert list(reader.read()) == []
    path.write_bytes(line)
    assert [e.text for e in reader.read() if isinstance(e, ev.Remark)] == ["größe"]


@pytest.mark.parametrize("keep", [1, 20, -1])
def test_a_new_process_ends_the_line_a_dead_one_left(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "events.jsonl"
    first = (ev.encode(ev.Queued("a")) + "\n").encode()
    torn = ev.encode(ev.Queued("b")).encode()
    path.write_bytes(first + (torn[:keep] if keep > 0 else torn))
    reader = ev.EventReader(path)
    seen = list(reader.read())
    writer = ev.EventWriter(path)
    writer.write(ev.Queued("c"))
    writer.write(ev.Queued("d"))
    writer.close()
    seen += reader.read()
    # A line that lacks nothing but its newline was said, so it counts.
    told = ["a", "b", "c", "d"] if keep < 0 else ["a", "c", "d"]
    assert [e.behind for e in seen if isinstance(e, ev.Queued)] == told
    assert [e.behind for e in read_all(path) if isinstance(e, ev.Queued)] == told


def test_a_damaged_line_in_the_middle_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = ev.EventWriter(path)
    for event in ONE_OF_EACH:
        writer.write(event)
    writer.close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"\x00\xff\xfe" + lines[3][3:]
    path.write_bytes(b"".join(lines))
    assert [type(e) for e in read_all(path)] == [type(e) for i, e in enumerate(ONE_OF_EACH) if i != 3]


def test_a_device_that_is_full_says_so() -> None:
    if not Path("/dev/full").exists():
        assert sys.platform != "linux"
        return
    writer = ev.EventWriter(Path("/dev/full"))
    with pytest.raises(OSError, match="space"):
        writer.write(ev.Queued("a"))
    writer.close()


def test_after_a_disk_took_half_a_line_the_next_event_is_whole(tmp_path: Path) -> None:
    # A limit on the file's size makes the system take a part of a line, as a full disk does.
    path = tmp_path / "events.jsonl"
    code = f"""
import resource, signal
from pathlib import Path
from sft_magics.core import events as ev
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = ev.EventWriter(Path({str(path)!r}))
writer.write(ev.Queued("first"))
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (Path({str(path)!r}).stat().st_size + 10, limits[1]))
refused = 0
for _ in range(2):
    try:
        writer.write(ev.Queued("lost"))
    except OSError:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
writer.write(ev.Ended("failed", "The disk is full."))
print(refused)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert child.stdout == "2\n"
    assert [type(e) for e in read_all(path)] == [ev.Queued, ev.Ended]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)


def test_two_processes_that_write_at_once_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = f"""
import sys
from pathlib import Path
from sft_magics.core import events as ev
writer = ev.EventWriter(Path({str(path)!r}))
for i in range(300):
    writer.write(ev.Remark(sys.argv[1], "x" * 500))
"""
    children = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [child.wait(60) for child in children] == [0, 0]
    found = [e.level for e in read_all(path) if isinstance(e, ev.Remark)]
    assert (found.count("a"), found.count("b"), len(found)) == (300, 300, 600)


def test_events_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ONE_OF_EACH[0].at = 1.0  # type: ignore[misc]


def test_the_reader_takes_up_where_it_stopped_even_in_a_growing_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = ev.EventReader(path)
    numbers: list[int] = []
    with path.open("ab", buffering=0) as file:
        whole = b"".join(f"{json.dumps({'kind': 'Progress', 'what': 'x', 'done': i})}\n".encode() for i in range(50))
        for start in range(0, len(whole), 17):
            os.write(file.fileno(), whole[start : start + 17])
            numbers += [e.done for e in reader.read() if isinstance(e, ev.Progress)]
    assert numbers == list(range(50))
