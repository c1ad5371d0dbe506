"""`%sft_registry`: what a user sees of verification, repair, backup and restore."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.records import Table
from sft_magics.core.workspace import Workspace
from sft_magics.registry import ArtifactStore, Registry, journal
from sft_magics.registry.testing import a_model, a_version


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with one model of two versions, whose weights are in the store."""
    made = Workspace(tmp_path / "sft").prepare()
    folder = tmp_path / "weights"
    folder.mkdir()
    registry = Registry(made)
    registry.add_model(a_model("pets"))
    for number in (1, 2):
        (folder / "model.safetensors").write_bytes(bytes([number]) * 1000)
        registry.commit_version(a_version("pets", artifact=ArtifactStore(made.artifacts).save(folder).id))
    return made


def states(found: Table) -> dict[str, str]:
    return {row.name: row.state for row in found}


def smash(path: Path) -> None:
    journal._cache.put(path.parent / "registry.json", None)
    path.write_bytes(path.read_bytes()[:80] + b"#" * 20 + path.read_bytes()[100:])


def test_a_registry_in_order_verifies(workspace: Workspace) -> None:
    found = sft.registry_(workspace=workspace)
    assert set(states(found).values()) == {"ok"}
    assert {"registry.json", "registry.journal", "records", "weights"} <= states(found).keys()
    assert "2 versions" in str(found)
    assert "2 artifacts" in str(found)


def test_damaged_weights_are_found(workspace: Workspace) -> None:
    blob = max((p for p in workspace.artifacts.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    blob.chmod(0o600)
    blob.write_bytes(b"\x07" * 1000)
    found = sft.registry_(workspace=workspace)
    assert states(found)["weights"] == "problem"
    assert "pets:" in str(found)


def test_rows_that_disagree_are_found(workspace: Workspace) -> None:
    registry = Registry(workspace)
    registry.set_alias("pets", "live", 2)
    registry._remove("versions", model="pets", number=2)
    found = sft.registry_(workspace=workspace)
    assert "pets@live points to pets:2, which does not exist" in str(found)


def test_damage_is_shown_repaired_and_logged(workspace: Workspace) -> None:
    sft.registry_(workspace=workspace)  # which compacts, so that there is a backup
    smash(workspace.registry / "registry.json")
    found = sft.registry_(workspace=workspace)
    assert states(found)["registry.json"] == "problem"
    assert found.next_step.startswith("%sft_registry --repair")
    with pytest.raises(errors.WorkspaceProblem, match="is damaged"):
        sft.versions("pets", workspace=workspace)
    repaired = sft.registry_(repair=True, workspace=workspace)
    assert set(states(repaired).values()) == {"ok"}
    assert len(sft.versions("pets", workspace=workspace)) == 2
    assert sft.history(workspace=workspace)[0].action == "repair"
    assert "nothing was changed" in str(sft.registry_(repair=True, workspace=workspace))


def test_a_backup_goes_out_and_comes_back(workspace: Workspace, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    assert str(copy) in str(sft.registry_(backup=copy, workspace=workspace))
    Registry(workspace).set_alias("pets", "live", 2)
    found = sft.registry_(restore=copy, workspace=workspace)
    assert "undoes it" in str(found)
    assert Registry(workspace).aliases("pets") == {}
    assert sft.history(workspace=workspace)[0].action == "restore"
    with pytest.raises(errors.Refused, match="exists already"):
        sft.registry_(backup=copy, workspace=workspace)


def test_what_a_repair_could_not_find_is_said(workspace: Workspace) -> None:
    sft.registry_(workspace=workspace)
    Registry(workspace).set_alias("pets", "live", 2)
    Registry(workspace).set_alias("pets", "live", 1)
    smash(workspace.registry / "registry.journal")
    found = sft.registry_(repair=True, workspace=workspace)
    assert states(found)["lost"] == "problem"
    assert "--restore FILE" in str(found)


def test_two_things_at_once_are_refused(workspace: Workspace) -> None:
    with pytest.raises(errors.UsageProblem, match="two things"):
        sft.registry_(repair=True, verify=True, workspace=workspace)


def test_the_command_line_knows_it_by_its_name(workspace: Workspace) -> None:
    line = [sys.executable, "-m", "sft_magics", "registry", "--json", "--workspace", str(workspace.root)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["kind"] == "registry checks"
