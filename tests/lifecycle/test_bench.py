"""%sft_bench: endpoints that are started, asked, and gone; what it says agrees with what was seen; refusals."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import sft_magics as sft
from sft_magics.__main__ import main
from sft_magics.core import errors
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Bench
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.endpoints import bench as lifecycle_bench
from sft_magics.notebook import panels
from sft_magics.serving import state as states
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.load_generator import Question, drive
from tests.serving.house import until

pytestmark = pytest.mark.alone

QUICK: dict[str, Any] = {"seconds": 0.4, "rounds": 2, "clients": "1,4"}


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> list[psutil.Process]:
    """The processes of the endpoints that are started, to be asked later whether they run."""
    found: list[psutil.Process] = []
    launch = lifecycle._launch

    def remembered(job: JobFolder, *, forked: bool) -> None:
        launch(job, forked=forked)
        found.append(psutil.Process(job.pid()))

    monkeypatch.setattr(lifecycle, "_launch", remembered)
    return found


def left(ws: Workspace, processes: list[psutil.Process]) -> list[str]:
    """What of measurements is still there: folders and processes."""
    running = [str(p.pid) for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    return [*(path.name for path in ws.endpoints.glob("bench-*")), *running]


def test_an_endpoint_is_started_asked_and_gone(trained: Workspace, processes: list[psutil.Process]) -> None:
    found: Bench = sft.bench("films:1", workspace=trained, **QUICK)
    assert len(processes) == 1
    assert left(trained, processes) == []
    assert sft.endpoints(workspace=trained).rows == ()
    assert (found.model, found.data, found.ratios) == ("films", "films:1", ())
    assert [row.clients for row in found.rows] == [1, 4]
    assert found.subjects[0].engine == "torch"
    assert found.subjects[0].ready_seconds > 0
    assert found.subjects[0].memory_mb > 100
    for row in found.rows:
        assert row.refused == 0
        assert row.low <= row.rate <= row.high
        assert row.n >= 2
        assert 0 < row.p50_ms <= row.p95_ms <= row.p99_ms
        # Who asks without a pause gets an answer each p50, so the rate and the latency have to agree.
        assert row.rate == pytest.approx(1e3 * row.clients / row.p50_ms, rel=0.6)
        assert 0 < row.parts["model"] < row.p50_ms
        assert "queue" in row.parts
    assert "share the" in found.note
    for words in (str(found), panels.text(found), str(panels.html(found))):
        assert "films:1, torch" in words


def test_two_versions_are_asked_in_turn_and_compared(trained: Workspace, processes: list[psutil.Process]) -> None:
    sft.finetune("films", epochs=0.02, workspace=trained)
    found = sft.bench("films:1", against="films:2", workspace=trained, **QUICK)
    assert [s.version for s in found.subjects] == ["films:1", "films:2"]
    assert [(row.subject, row.clients) for row in found.rows] == [
        ("films:1, torch", 1), ("films:2, torch", 1), ("films:1, torch", 4), ("films:2, torch", 4),
    ]  # fmt: skip
    assert [ratio.clients for ratio in found.ratios] == [1, 4]
    for ratio in found.ratios:
        assert ratio.low <= ratio.ratio <= ratio.high
        assert 0.2 < ratio.ratio < 5, "the same network, asked in turn"
    assert "films:1, torch against films:2, torch" in str(found)
    assert left(trained, processes) == []


def test_the_line_prints_it_and_an_endpoint_that_serves_goes_on(
    trained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    sft.deploy("films:1", name="serves", workspace=trained)
    line = ["bench", "films:1", "--clients", "2", "--seconds", "0.2", "--rounds", "1", "--workspace", str(trained.root)]
    assert main(line) == 0
    assert "2 at once: " in capsys.readouterr().out
    assert main([*line, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["rows"][0]["clients"] == 2
    assert sft.predict("serves", "a film", endpoint=True, workspace=trained).rows[0].id
    assert sft.monitor("serves", workspace=trained).requests == 1, "nobody else asked it"


def test_nothing_is_left_where_it_is_interrupted_or_fails(
    trained: Workspace, monkeypatch: pytest.MonkeyPatch, processes: list[psutil.Process]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle_bench, "_measure", interrupted)
    with pytest.raises(errors.Interrupted, match="was interrupted; nothing was changed"):
        sft.bench("films:1", workspace=trained, **QUICK)
    assert left(trained, processes) == []
    monkeypatch.undo()

    def lost(*_: Any) -> None:
        raise errors.EndpointProblem("It does not come up.", "%sft_doctor")

    monkeypatch.setattr(lifecycle, "_wait_until_ready", lost)
    with pytest.raises(errors.EndpointProblem):
        sft.bench("films:1", workspace=trained, **QUICK)
    assert left(trained, processes) == []


@pytest.mark.crash
def test_killed_its_endpoint_ends_and_the_next_one_clears_up(trained: Workspace) -> None:
    (trained.endpoints / "bench-mine").mkdir(parents=True)
    line = [sys.executable, "-m", "sft_magics", "bench", "films:1", "--seconds", "60", "--workspace", str(trained.root)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until(
            lambda: [s for f in trained.endpoints.glob("bench-*") if (s := states.read(f)) and s.state == "ready"], 120
        )
        (folder,) = (f for f in trained.endpoints.glob("bench-*") if f.name != "bench-mine")
        child.kill()
    until(lambda: not JobFolder(folder).alive(), 60)
    sft.bench("films:1", workspace=trained, **QUICK)
    assert [f.name for f in trained.endpoints.iterdir()] == ["bench-mine"], "what is a user's stays"


def test_an_endpoint_that_ends_while_it_is_measured_is_said_in_a_sentence(trained: Workspace) -> None:
    endpoint = sft.deploy("films:1", name="gone", workspace=trained)
    pid = int(json.loads((Path(endpoint.folder) / "state.json").read_text())["pid"])
    threading.Timer(0.5, psutil.Process(pid).kill).start()
    began = time.monotonic()
    with pytest.raises(errors.EndpointProblem, match="stopped answering while it was measured"):
        drive(endpoint, [Question(b'{"inputs": ["a film"]}')], 4, 30.0)
    assert time.monotonic() - began < 20


def test_answers_that_are_none_are_counted_and_are_no_speed(trained: Workspace) -> None:
    endpoint = sft.deploy("films:1", name="asked", workspace=trained)
    found = drive(endpoint, [Question(b'{"inputs": [7]}')], 2, 0.3)
    assert set(found.refused) == {400}
    assert found.milliseconds == []


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"clients": "0"}, errors.UsageProblem, "--clients cannot be '0'"),
        ({"clients": "1000"}, errors.UsageProblem, "from 1 to 256"),
        ({"clients": "a,b"}, errors.UsageProblem, "--clients cannot be"),
        ({"clients": ""}, errors.UsageProblem, "--clients cannot be"),
        ({"clients": "1,2,3,4,5,6,7"}, errors.UsageProblem, "one to 6 numbers"),
        ({"seconds": 0}, errors.UsageProblem, "--seconds cannot be 0"),
        ({"seconds": float("nan")}, errors.UsageProblem, "--seconds cannot be nan"),
        ({"seconds": 1e6}, errors.UsageProblem, "--seconds cannot be"),
        ({"rounds": 0}, errors.UsageProblem, "--rounds cannot be 0"),
        ({"rounds": 1000}, errors.UsageProblem, "--rounds cannot be 1000"),
        ({"data": "nothing"}, errors.NotFound, "nothing"),
        ({"against": "films:9"}, errors.NotFound, "has no version 9"),
        ({"against": "films:1"}, errors.UsageProblem, "there is nothing to compare"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    trained: Workspace,
    processes: list[psutil.Process],
    options: dict[str, Any],
    kind: type[errors.SftError],
    says: str,
) -> None:
    with pytest.raises(kind, match=says):
        sft.bench("films:1", workspace=trained, **{**QUICK, **options})
    assert left(trained, processes) == []


def test_a_retired_version_is_refused(trained: Workspace) -> None:
    sft.retire("films:1", workspace=trained)
    with pytest.raises(errors.Refused, match="is retired"):
        sft.bench("films:1", workspace=trained)
