"""What a run says while its disk is full: nothing is lost, and training does not end of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sft_magics.core import events as ev
from sft_magics.core.jobs import JobFolder
from sft_magics.lifecycle.jobs.event_sink import JobEventSink


class Disk:
    """Lets `os.write` of an events file fail, as a full disk does: it takes a part of a line, and then nothing."""

    def __init__(self) -> None:
        self.full, self.error, self.left = False, 28, 7
        self._write = os.write

    def write(self, fd: int, data: bytes) -> int:
        if self.full and data.endswith(b"}\n"):
            taken, self.left = self.left, 0
            if taken and self.error == 28:
                return self._write(fd, data[:taken])
            raise OSError(self.error, os.strerror(self.error))
        return self._write(fd, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr("sft_magics.core.events.os.write", disk.write)
    yield disk
    disk.full = False


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path / "run-7f3a").create({"kind": "finetune"})


def step(n: int) -> ev.StepDone:
    return ev.StepDone(n, 0.1 * n, 0.5, 1e-5, 100.0, 1.0, 900.0)


def test_what_a_full_disk_does_not_take_is_written_in_its_order_when_there_is_room(job: JobFolder, disk: Disk) -> None:
    sink = JobEventSink(job)
    sink(step(1))
    disk.full = True
    for n in (2, 3):
        assert sink(step(n)) == ""
    sink(ev.Edited(3, {"lr": [1.0, 0.5]}, 10, 1.0))
    assert [e.step for e in job.history() if isinstance(e, ev.StepDone)] == [1]
    disk.full = False
    sink(step(4))
    sink.close()
    found = job.history()
    assert [e.step for e in found if isinstance(e, ev.StepDone)] == [1, 2, 3, 4]
    assert [type(e) for e in found if not isinstance(e, ev.StepDone)] == [ev.Remark, ev.Edited]
    assert next(e.text for e in found if isinstance(e, ev.Remark)).endswith("could not be written; it can now.")


def test_the_end_is_written_when_there_is_room_soon_and_given_up_when_not(job: JobFolder, disk: Disk) -> None:
    sink = JobEventSink(job)
    disk.full = True
    sink.finish(ev.Ended("failed", "The disk is full."))
    assert job.history() == []
    disk.full = False
    sink.finish(ev.Ended("done"))
    sink.close()
    assert [e.state for e in job.history() if isinstance(e, ev.Ended)] == ["failed", "done"]


def test_another_trouble_is_raised(job: JobFolder, disk: Disk) -> None:
    sink = JobEventSink(job)
    disk.full, disk.error = True, 5
    with pytest.raises(OSError, match="Input/output"):
        sink(step(1))
    disk.full = False
    sink.close()


def test_orders_and_signals_are_heard(job: JobFolder) -> None:
    sink = JobEventSink(job)
    assert sink(step(1)) == ""
    job.tell({"do": "edit", "changes": {"lr": 1e-5}})
    assert (sink(step(2)), len(sink.told().edits)) == ("", 1)
    job.tell({"do": "pause"})
    assert (sink(step(3)), sink.told().do) == ("stop", "pause")
    sink.stopping = True  # as SIGTERM sets it
    assert sink.told().do == "stop"
    sink.close()
