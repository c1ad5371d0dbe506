"""Which engine is chosen, and the reason that is given: every rung of the ladder, with real exports."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.records import Endpoint, Version
from sft_magics.core.runtime import exports
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.endpoints import engine_choice
from sft_magics.registry import ArtifactStore, Registry
from tests.serving.house import hosts


@pytest.fixture(scope="module")
def exported(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which all engines have been tried for films:1."""
    root = tmp_path_factory.mktemp("exported") / "workspace"
    shutil.copytree(trained_once, root)
    ws = Workspace(root)
    assert choose(ws).engine == "openvino"
    assert choose(ws, "onnx").engine == "onnx"
    return root


@pytest.fixture
def ws(exported: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(exported, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def films(ws: Workspace) -> Version:
    return Registry(ws).version("films:1")


def choose(ws: Workspace, wanted: str = "auto", version: Version | None = None) -> engine_choice.Choice:
    version = version or films(ws)
    return engine_choice.choose(ws, version, ArtifactStore(ws.artifacts).checkout(version.artifact), wanted)


def target(ws: Workspace) -> Path:
    return exports.folder_of(ws, films(ws).artifact)


def test_openvino_comes_first_and_says_how_well_it_agrees(ws: Workspace) -> None:
    jobs = list(ws.jobs.iterdir())
    found = choose(ws)
    assert (found.engine, found.folder) == ("openvino", target(ws))
    assert found.why.startswith("openvino answers: its answers to 90 rows differ from torch's by ")
    assert list(ws.jobs.iterdir()) == jobs
    verdict = exports.read_verdict(target(ws), "openvino")
    assert verdict is not None
    assert verdict.agrees
    assert verdict.largest <= verdict.tolerance == {"bf16": 0.02, "fp32": 1e-3}[verdict.precision]
    assert [path.name for path in (target(ws) / exports.COMPILED).iterdir()] == [verdict.precision]


def test_what_was_found_once_is_not_asked_again(ws: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in target(ws).rglob("*")}
    choose(ws)
    choose(ws, "onnx")
    assert {path: path.stat().st_mtime_ns for path in target(ws).rglob("*")} == before


def test_another_release_of_an_engine_is_compared_again(ws: Workspace) -> None:
    old = exports.read_verdict(target(ws), "onnx")
    assert old is not None
    exports.write_verdict(target(ws), replace(old, library="onnxruntime 0.1", largest=0.5))
    choose(ws, "onnx")
    new = exports.read_verdict(target(ws), "onnx")
    assert new is not None
    assert (new.library, new.largest < 1e-3) == (old.library, True)


def test_without_openvino_it_is_onnx_and_without_both_torch(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose(ws).engine == "onnx"
    with pytest.raises(errors.ModelProblem, match="openvino needs packages that are not installed: openvino") as caught:
        choose(ws, "openvino")
    assert "pip install 'sft_magics[openvino]'" in caught.value.next_step
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = choose(ws)
    assert found.engine == "torch"
    assert found.folder == ArtifactStore(ws.artifacts).checkout(films(ws).artifact)
    assert found.why == (
        "torch answers: openvino needs packages that are not installed (openvino); "
        "onnx needs packages that are not installed (onnxruntime)."
    )


def test_what_is_exported_already_needs_no_exporter(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert choose(ws).engine == "openvino"
    shutil.rmtree(target(ws))
    assert "(onnxscript)" in choose(ws).why


@pytest.mark.parametrize("task", ["object-detection", "causal-lm", "a-strangers-task"])
def test_a_task_that_is_not_exported_is_torchs(ws: Workspace, task: str) -> None:
    version = replace(films(ws), task=task)
    found = choose(ws, version=version)
    assert found.engine == "torch"
    assert found.why.startswith(f"torch answers: {task} is not exported: ")
    with pytest.raises(errors.Refused, match=f"films:1 cannot be served by onnx: {task} is not exported"):
        choose(ws, "onnx", version)


def test_an_engine_that_says_something_else_is_not_taken(ws: Workspace) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(target(ws) / exports.MODEL)
    head = next(t for t in model.graph.initializer if t.name.endswith("classifier.weight"))
    turned = numpy_helper.to_array(head) * np.float32(-40)
    head.CopyFrom(numpy_helper.from_array(turned, head.name))
    onnx.save(model, target(ws) / exports.MODEL)
    for engine in exports.LADDER:
        (target(ws) / f"{engine}.json").unlink()
    found = choose(ws)
    assert found.engine == "torch"
    assert found.why.count("says something else: its answers to 90 rows differ from torch's by 0.") == 2
    with pytest.raises(errors.Refused, match="answers otherwise by onnx: its answers to 90 rows differ"):
        choose(ws, "onnx")


def test_int8_answers_only_who_asks_for_it(ws: Workspace) -> None:
    assert not (target(ws) / exports.INT8_MODEL).exists()
    found = choose(ws, "onnx-int8")
    assert found.engine == "onnx-int8"
    assert "(int8)" in found.why
    assert (target(ws) / exports.INT8_MODEL).stat().st_size < 0.4 * (target(ws) / exports.MODEL).stat().st_size
    assert choose(ws).engine == "openvino"
    with pytest.raises(errors.Refused, match="8-bit weights are for texts"):
        choose(ws, "onnx-int8", replace(films(ws), task="image-classification"))


def test_torch_is_there_for_who_asks_for_it_and_other_names_are_refused(ws: Workspace) -> None:
    assert choose(ws, "torch").why == "torch was asked for."
    with pytest.raises(errors.UsageProblem, match="no engine 'tensorrt'"):
        choose(ws, "tensorrt")


def test_a_version_that_cannot_be_exported_is_torchs_and_tried_once(ws: Workspace) -> None:
    shutil.rmtree(target(ws))
    version = films(ws)
    folder = ws.root / "own"
    ArtifactStore(ws.artifacts).export(version.artifact, folder)
    (folder / "tokenizer.json").rename(folder / "kept.json")
    first = engine_choice.choose(ws, version, folder)
    assert first.engine == "torch"
    assert "could not be tried" in first.why
    (folder / "kept.json").rename(folder / "tokenizer.json")
    assert engine_choice.choose(ws, version, folder).why == first.why, "it is not tried again with the same packages"
    refused = json.loads((target(ws) / "refused.json").read_text())
    (target(ws) / "refused.json").write_text(json.dumps({**refused, "exporter": "torch 1.0"}))
    assert engine_choice.choose(ws, version, folder).engine == "openvino"


def test_data_that_is_gone_leaves_torch(ws: Workspace) -> None:
    (target(ws) / "openvino.json").unlink()
    (target(ws) / "onnx.json").unlink()
    (ws.root / Registry(ws).dataset("films").file).unlink()
    found = choose(ws)
    assert found.engine == "torch"
    assert "The rows of dataset films are gone" in found.why


def test_exports_go_with_their_version(ws: Workspace) -> None:
    import sft_magics as sft

    half = ws.exports / f".{target(ws).name}.abc"
    half.mkdir()
    (half / exports.MODEL).write_bytes(b"half")
    sft.gc(yes=True, workspace=ws)
    assert target(ws).is_dir()
    assert not half.exists()
    assert {path.name for path in engine_choice.unneeded(ws, [])} == {target(ws).name, f"{target(ws).name}.lock"}
    shutil.copytree(target(ws), ws.exports / "0123-0")
    found = sft.gc(workspace=ws)
    assert [garbage.what for garbage in found.garbage] == ["exported networks"]
    assert (ws.exports / "0123-0").exists(), "it is only shown"
    sft.gc(yes=True, workspace=ws)
    assert [path.name for path in ws.exports.iterdir() if path.is_dir()] == [target(ws).name]


def test_an_endpoint_answers_without_torch_and_stays_so_when_it_is_switched(trained: Workspace) -> None:
    sft.finetune("films", epochs=1, lr=1e-5, workspace=trained.root)
    endpoint = sft.deploy("films:1", engine="openvino", workspace=trained.root)
    assert endpoint.engine == "openvino"
    own = sft.predict("films:1", "a moving film", workspace=trained.root).rows[0]
    served = sft.predict("films", "a moving film", endpoint=True, workspace=trained.root).rows[0]
    assert served.confidence == pytest.approx(own.confidence, abs=0.03)
    (host,) = hosts(endpoint)
    maps = Path(f"/proc/{host.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert "openvino" in maps
    assert "libtorch" not in Path(f"/proc/{_pid(endpoint)}/maps").read_text()
    switched = sft.deploy("films:2", name="films", engine="openvino", workspace=trained.root)
    assert (switched.version, switched.engine) == ("films:2", "openvino")
    assert "libtorch" not in Path(f"/proc/{_pid(endpoint)}/maps").read_text()
    tried = sft.traffic("films", shadow="1", workspace=trained.root)
    assert tried.sides[1].version == "films:1"
    assert sft.traffic("films", abort=True, workspace=trained.root).sides == ()


def _pid(endpoint: Endpoint) -> int:
    return int(json.loads((Path(endpoint.folder) / "state.json").read_text())["pid"])
