"""Diff, promote, rollback, history, notes and tags, on really trained versions."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sft_magics as sft
from sft_magics.core import errors, provenance
from sft_magics.core.records import Alert, Diff, Version
from sft_magics.core.workspace import Workspace
from sft_magics.registry import ArtifactStore, Registry
from sft_magics.serving.client.client import EndpointClient
from tests.conftest import stop_endpoints


@pytest.fixture(scope="module")
def two(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained workspace with a second version, trained further, and a third that learned next to nothing."""
    root = tmp_path_factory.mktemp("two") / "workspace"
    shutil.copytree(trained_once, root)
    sft.finetune("films", from_="films:1", epochs=2, lr=1e-4, workspace=root)
    sft.finetune("films", epochs=0.05, lr=1e-6, workspace=root)
    return root


@pytest.fixture
def ws(two: Path, tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "workspace"
    shutil.copytree(two, root)
    yield Workspace(root)
    stop_endpoints(root)


@pytest.fixture(scope="module")
def compared(two: Path) -> Diff:
    return sft.diff("films:1", "films:3", workspace=two)


def test_a_diff_shows_what_was_made_otherwise(compared: Diff) -> None:
    assert {c.name: (c.before, c.after) for c in compared.options}["lr"] == ("5e-05", "1e-06")
    assert "dataset" not in {c.name for c in compared.data}
    names = [layer.block for layer in compared.layers]
    assert "bert.encoder.layer.0" in names
    assert "classifier" in names
    assert sum(layer.parameters for layer in compared.layers) > 22_000_000
    assert all(layer.norm >= 0 and layer.relative < 10 for layer in compared.layers)
    assert any(layer.norm > 0 for layer in compared.layers)


def test_a_diff_counts_flipped_answers_and_tests_them(compared: Diff, two: Path) -> None:
    rows = sft.evaluate("films:1", workspace=two).n
    assert (compared.n, compared.rows) == (rows, "films:1 (validation)")
    accuracy = next(m for m in compared.metrics if m.name == "accuracy")
    assert accuracy.difference == pytest.approx((compared.fixed - compared.broke) / rows)
    assert accuracy.low <= accuracy.difference <= accuracy.high
    assert accuracy.test == "McNemar, exact"
    assert accuracy.p_value == compared.p_value
    assert {m.name for m in compared.metrics} == {"accuracy", "precision", "recall", "f1"}
    assert len(compared.broken) == min(20, compared.broke) > 0
    for flip in compared.broken:
        assert flip.before.label == flip.truth != flip.after.label
    for flip in compared.mended:
        assert flip.before.label != flip.truth == flip.after.label
    assert f"fixed {compared.fixed} and broke {compared.broke}" in compared.verdict


def test_a_diff_needs_two_versions_that_differ(two: Path) -> None:
    with pytest.raises(errors.UsageProblem, match="Both are films:2"):
        sft.diff("films:2", "films:2", workspace=two)
    with pytest.raises(errors.NotFound, match="no version 9"):
        sft.diff("films:1", "films:9", workspace=two)
    with pytest.raises(errors.NotFound, match="no dataset"):
        sft.diff("films:1", "films:2", data="nothing", workspace=two)


def test_a_first_promotion_needs_no_comparison_and_leads_to_deploy(ws: Workspace) -> None:
    done = sft.promote("films:1", gate="accuracy >= 0.5; not-worse live", reason="first", workspace=ws)
    assert (done.before, done.after, done.diff) == (None, "films:1", None)
    assert [g.passed for g in done.gates] == [True, True]
    assert done.next_step == "%sft_deploy films@live"
    entry = Registry(ws).history("films")[0]
    assert (entry.action, entry.subject, entry.after, entry.reason) == ("promote", "films@live", "films:1", "first")
    with pytest.raises(errors.Refused, match="films@live is films:1 already"):
        sft.promote("films:1", workspace=ws)


def test_a_gate_that_fails_says_by_how_much_and_nothing_moves(ws: Workspace) -> None:
    sft.promote("films:1", workspace=ws)
    moves = len(Registry(ws).history())
    with pytest.raises(errors.Refused, match=r"the gate accuracy >= 0.99 failed, accuracy is 0\.\d+, 0\.\d+ off"):
        sft.promote("films:2", gate="f1 > 0.1; accuracy >= 0.99", workspace=ws)
    with pytest.raises(errors.Refused, match=r"gate not-worse films:2 failed, on \d+ rows it fixed \d+ and broke \d+"):
        sft.promote("films:3", gate="not-worse films:2", workspace=ws)
    assert Registry(ws).aliases("films") == {"live": 1}
    assert len(Registry(ws).history()) == moves


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("f1 is good", "'f1 is good' is not a gate"),
        ("speed > 3", "no number called 'speed'"),
        ("recall[neutral] > 0.5", "no class 'neutral'"),
        ("f1 > high", "is not a number|is not a gate"),
        ("p95_ms < 30", "films:1 has no p95_ms to hold against a gate"),
        ("not-worse champion", "no alias 'champion'"),
        ("not-worse other:1", "no model called 'other'"),
    ],
)
def test_gates_that_cannot_be_read(ws: Workspace, gate: str, says: str) -> None:
    with pytest.raises(errors.SftError, match=says) as problem:
        sft.promote("films:1", gate=gate, workspace=ws)
    assert problem.value.next_step
    assert Registry(ws).aliases("films") == {}


def test_a_version_whose_weights_are_damaged_is_not_promoted(ws: Workspace) -> None:
    sft.promote("films:1", workspace=ws)
    pack = max((ws.artifacts / "packs").iterdir(), key=lambda p: p.stat().st_mtime)
    pack.chmod(0o600)
    with pack.open("r+b") as file:
        file.seek(-40_000, 2)
        byte = file.read(1)[0]
        file.seek(-40_000, 2)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(errors.ModelProblem, match="is damaged"):
        sft.promote("films:3", workspace=ws)
    assert Registry(ws).aliases("films") == {"live": 1}


def test_rollback_goes_back_and_further_back_over_retired_versions(ws: Workspace) -> None:
    for number in (1, 2, 3):
        sft.promote(f"films:{number}", workspace=ws)
    done = sft.rollback("films", reason="too slow", workspace=ws)
    assert (done.before, done.after) == ("films:3", "films:2")
    assert "films:2 films:3" in done.next_step
    done = sft.rollback("films", workspace=ws)
    assert (done.before, done.after) == ("films:2", "films:1")
    with pytest.raises(errors.Refused, match="has been nothing else before films:1"):
        sft.rollback("films", workspace=ws)
    sft.promote("films:3", workspace=ws)
    assert sft.rollback("films", workspace=ws).after == "films:1"
    assert [e.action for e in Registry(ws).history("films") if e.subject == "films@live"] == [
        "rollback", "promote", "rollback", "rollback", "promote", "promote", "promote"
    ]  # fmt: skip
    sft.promote("films:2", workspace=ws)
    sft.promote("films:3", workspace=ws)
    sft.retire("films:2", workspace=ws)
    assert sft.rollback("films", workspace=ws).after == "films:1"


def test_rollback_without_an_alias_says_what_there_is(ws: Workspace) -> None:
    with pytest.raises(errors.NotFound, match="no alias 'live'"):
        sft.rollback("films", workspace=ws)
    with pytest.raises(errors.NotFound, match="no model called 'film'"):
        sft.rollback("film", workspace=ws)


def test_an_endpoint_follows_promotion_and_rollback(ws: Workspace) -> None:
    sft.promote("films:1", workspace=ws)
    sft.deploy("films@live", workspace=ws)
    done = sft.promote("films:2", workspace=ws)
    assert done.endpoints == ("films",)
    assert sft.endpoints(workspace=ws)[0].version == "films:2"
    assert sft.predict("films", "a moving, funny film", endpoint=True, workspace=ws).version == "films:2"
    sft.rollback("films", workspace=ws)
    assert sft.predict("films", "a moving, funny film", endpoint=True, workspace=ws).version == "films:1"


def test_a_promotion_that_comes_too_late_switches_the_endpoints_back(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sft.promote("films:1", workspace=ws)
    sft.deploy("films@live", workspace=ws)
    put = Registry.set_alias

    def meanwhile(self: Registry, *words: object, **options: object) -> object:
        monkeypatch.setattr(Registry, "set_alias", put)
        put(self, "films", "live", 3, reason="someone else")
        return put(self, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Registry, "set_alias", meanwhile)
    with pytest.raises(errors.Refused, match="has moved meanwhile"):
        sft.promote("films:2", workspace=ws)
    assert Registry(ws).aliases("films")["live"] == 3
    assert sft.predict("films", "a film", endpoint=True, workspace=ws).version == "films:3"


def test_what_was_live_at_a_moment(ws: Workspace) -> None:
    before = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - 1))
    sft.promote("films:1", reason="first", workspace=ws)
    time.sleep(1.1)
    between = time.strftime("%Y-%m-%d %H:%M:%S")
    time.sleep(1.1)
    sft.promote("films:2", workspace=ws)
    sft.alias("films:3", "candidate", workspace=ws)
    then = sft.history("films", at=between, workspace=ws)
    assert [(row.alias, row.version, row.reason) for row in then] == [("live", "films:1", "first")]
    assert not list(sft.history("films", at=before, workspace=ws))
    now = {row.alias: row.version for row in sft.history(at=time.strftime("%Y-%m-%d"), workspace=ws)}
    assert now == {"live": "films:2", "previous": "films:1", "candidate": "films:3"}
    assert not list(sft.history("films", at="2h", workspace=ws))
    sft.alias("films:3", "candidate", drop=True, workspace=ws)
    assert "candidate" not in {row.alias for row in sft.history(at=time.strftime("%Y-%m-%d"), workspace=ws)}
    for wrong in ("last tuesday", "2026-13-01", "5 parsecs"):
        with pytest.raises(errors.UsageProblem, match="is no moment"):
            sft.history("films", at=wrong, workspace=ws)


def test_the_history_has_the_cell(ws: Workspace) -> None:
    with provenance.led_by(["import x", "%sft_note films:1 hello"]):
        sft.note("films:1", "hello", workspace=ws)
    assert Registry(ws).history("films")[0].cell == "%sft_note films:1 hello"


def test_notes_and_tags_are_kept_with_what_was_there(ws: Workspace) -> None:
    assert sft.note("films:1", "good", "film", reason="r", workspace=ws).note == "good film"
    assert sft.note("films:1", "", workspace=ws).note == ""
    tagged: Version = sft.tag("films:1", "owner=ann", "intended-use=film reviews = short", workspace=ws)
    assert tagged.tags == {"owner": "ann", "intended-use": "film reviews = short"}
    assert sft.tag("films:1", "owner=", workspace=ws).tags == {"intended-use": "film reviews = short"}
    found = [(e.action, e.before, e.after) for e in Registry(ws).history("films")[:5]]
    assert found == [
        ("tag", "ann", None), ("tag", None, "film reviews = short"), ("tag", None, "ann"),
        ("note", "good film", None), ("note", None, "good film"),
    ]  # fmt: skip
    moves = len(Registry(ws).history())
    sft.tag("films:1", "nothing=", workspace=ws)
    assert len(Registry(ws).history()) == moves, "what changes nothing is not logged"


def test_notes_and_tags_that_cannot_be_written(ws: Workspace) -> None:
    for call, says in (
        (lambda: sft.tag("films:1", workspace=ws), "no tag to write"),
        (lambda: sft.tag("films:1", "owner", workspace=ws), "is not a tag"),
        (lambda: sft.tag("films:1", "../x=1", workspace=ws), "cannot name a tag"),
        (lambda: sft.tag("films:1", f"a={'x' * 10_001}", workspace=ws), "10,000 are the most"),
        (lambda: sft.note("films:1", workspace=ws), "no note to write"),
        (lambda: sft.note("films:9", "x", workspace=ws), "no version 9"),
    ):
        with pytest.raises(errors.SftError, match=says):
            call()
    odd = "half \ud800, \x00, \u202e and 🎬"
    assert sft.note("films:1", odd, workspace=ws).note == odd
    assert Registry(Workspace(ws.root)).version("films:1").note == odd


def test_versions_are_sorted_and_say_what_they_added(ws: Workspace) -> None:
    rows = sft.versions("films", sort="accuracy", workspace=ws)
    values = [v.metrics["accuracy"].value for v in rows]
    assert values == sorted(values, reverse=True)
    assert [v.number for v in sft.versions("films", sort="number", workspace=ws)] == [3, 2, 1]
    assert all(v.size > 90_000_000 for v in rows)
    assert all(0 < v.added <= v.size * 1.01 for v in rows)
    with pytest.raises(errors.UsageProblem, match=r"cannot be sorted by 'accurcy'\. Did you mean 'accuracy'"):
        sft.versions("films", sort="accurcy", workspace=ws)


def test_the_command_line_promotes_and_tells_what_failed(ws: Workspace) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "sft_magics", *words, "--workspace", str(ws.root)]
        return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)

    done = run("promote", "films:1", "--gate", "accuracy > 0.5", "--reason", "ok", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["after"] == "films:1"
    refused = run("promote", "films:2", "--gate", "accuracy > 0.999")
    assert refused.returncode == 3
    assert "the gate accuracy > 0.999 failed" in refused.stderr
    assert "sft diff films:1 films:2" in refused.stderr
    assert ArtifactStore(ws.artifacts).ids()
    measured = run("evaluate", "films:1", "--gate", "accuracy > 0.5; f1 > 0.999", "--json")
    assert measured.returncode == 3
    last = json.loads(measured.stdout.splitlines()[-1])
    assert (last["kind"], last["error"], last["code"]) == ("Error", "CheckFailed", 3)
    assert [gate["passed"] for gate in last["result"]["gates"]] == [True, False]
    assert last["result"]["ref"] == "films:1"


def test_an_evaluation_is_held_against_gates(ws: Workspace) -> None:
    found = sft.evaluate("films:1", gate="accuracy > 0.1; recall[negative] >= 0", workspace=ws)
    assert [gate.passed for gate in found.gates] == [True, True]
    assert "passed accuracy > 0.1" in str(found)
    frame = found.to_pandas()
    assert sorted(frame["label"]) == ["negative", "positive"]
    with pytest.raises(errors.CheckFailed, match=r"the gate accuracy > 0\.999 failed, accuracy is 0\.\d+") as caught:
        sft.evaluate("films:1", gate="accuracy > 0.999", workspace=ws)
    assert caught.value.result.version == "films:1"
    with pytest.raises(errors.UsageProblem, match="is not a gate"):
        sft.evaluate("films:1", gate="not-worse live", workspace=ws)


def test_versions_and_runs_say_what_tells_them_apart(ws: Workspace) -> None:
    versions = sft.versions("films", workspace=ws)
    assert versions.differing[:3] == ("start", "epochs", "lr")
    assert "start films:1, epochs 2, lr 0.0001" in str(versions)
    assert versions.note == ""
    runs = sft.runs(workspace=ws)
    assert {"start", "epochs", "lr"} <= set(runs.differing)
    assert "accuracy 0." in str(runs)
    assert runs[0].measured_rows == versions[0].metrics["accuracy"].n
    assert len(runs.to_pandas()) == len(versions.to_pandas()) == 3
    assert sft.history(workspace=ws).to_pandas()["at"].dt.tz is not None


def test_a_switch_that_is_interrupted_goes_back(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    sft.promote("films:1", workspace=ws)
    sft.deploy("films@live", workspace=ws)
    real = EndpointClient.swap

    def interrupted(self: EndpointClient, **order: Any) -> dict[str, Any]:
        monkeypatch.setattr(EndpointClient, "swap", real)
        real(self, **order)  # the endpoint has taken the order when the user interrupts
        raise KeyboardInterrupt

    for line in (lambda: sft.deploy("films:2", workspace=ws), lambda: sft.promote("films:2", workspace=ws)):
        monkeypatch.setattr(EndpointClient, "swap", interrupted)
        with pytest.raises(errors.Interrupted, match="films:1 answers on"):
            line()
        (served,) = sft.endpoints(workspace=ws)
        assert (served.version, served.ref) == ("films:1", "films@live")
        assert Registry(ws).aliases("films") == {"live": 1}
    assert sft.predict("films", "a film", endpoint=True, workspace=ws).version == "films:1"


def test_an_alert_that_fires_can_be_an_error(ws: Workspace) -> None:
    assert len(sft.alerts(fail_if_firing=True, workspace=ws)) == 0
    Registry(ws).put_alert(Alert("alert-1", "films", "f1 < 0.8", "firing", 0.5))
    assert len(sft.alerts(workspace=ws)) == 1
    with pytest.raises(errors.CheckFailed, match=r"The alert f1 < 0\.8 of endpoint films fires") as caught:
        sft.alerts(fail_if_firing=True, workspace=ws)
    assert caught.value.result.rows[0].state == "firing"
