"""What deploy decides: a whole version is served by any engine and number format there is, and a broken one is not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.records import Endpoint
from sft_magics.core.runtime import exports
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import load
from sft_magics.registry import Registry
from tests.conftest import stop_endpoints


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, trained_once: Path) -> Path:
    """A workspace with the text classifier `films` and `digits`, whose head has barely begun to learn.

    Its scores lie near each other, so that another number format changes them most.
    """
    root = tmp_path_factory.mktemp("decisions") / "workspace"
    shutil.copytree(trained_once, root, ignore=shutil.ignore_patterns("views"))
    shelf = root.parent / "digits"
    found: dict[str, int] = {}
    loaded = load("sample:digits")
    for path, label in zip(loaded.texts, loaded.labels, strict=True):
        if (count := found.get(label, 0)) < 12:
            found[label] = count + 1
            (shelf / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, shelf / label)
    sft.data("digits", str(shelf), workspace=root)
    sft.create("digits", data="digits", workspace=root)
    sft.finetune("digits", epochs=2, method="head", lr=0.01, workspace=root)
    return root


@pytest.fixture
def ws(made_once: Path) -> Iterator[Workspace]:
    yield Workspace(made_once)
    stop_endpoints(made_once)


def examples(ws: Workspace, model: str) -> Path:
    return ws.runs / Registry(ws).version(f"{model}:1").run / "examples.json"


@pytest.fixture
def changed_examples(ws: Workspace, model: str) -> Iterator[list[dict[str, Any]]]:
    """The stored examples of a model's version, to be changed and then put back."""
    path = examples(ws, model)
    kept = path.read_text()
    rows = json.loads(kept)
    yield rows
    path.write_text(kept)


def deploy(ws: Workspace, model: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("SFT_ENGINE", engine)
    return sft.deploy(f"{model}:1", workspace=ws.root)


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnx", "torch"])
@pytest.mark.parametrize("model", ["films", "digits"])
def test_every_engine_serves_a_whole_version(
    ws: Workspace, model: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = deploy(ws, model, engine, monkeypatch)
    assert endpoint.state == "ready"
    assert endpoint.engine == {"auto": "openvino"}.get(engine, engine)
    assert "stored examples as when it was trained" in (Path(endpoint.folder) / "events.jsonl").read_text()


@pytest.mark.parametrize("made_in", ["fp32", "bf16"])
@pytest.mark.parametrize("served_in", ["torch-fp32", "torch-bf16"])
@pytest.mark.parametrize("model", ["films", "digits"])
def test_a_version_that_moved_is_served_in_any_number_format(
    ws: Workspace, model: str, made_in: str, served_in: str, changed_examples: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A machine without bfloat16 keeps answers in fp32 alone; one with it keeps both."""
    folder = _served(ws, model)
    rows = [{"input": r["input"], "said": r["said"]} for r in changed_examples]
    if made_in == "bf16":
        from sft_magics.engine.inference.predictor import Predictor

        inputs = [_plain(model, row["input"]) for row in rows]
        said = Predictor(folder, precision="bf16").scores(inputs)
        rows = [{**row, "also": [one]} for row, one in zip(rows, said, strict=True)]
    examples(ws, model).write_text(json.dumps(rows))
    endpoint = deploy(ws, model, served_in, monkeypatch)
    assert endpoint.state == "ready"
    if made_in == "fp32" and endpoint.engine != served_in:
        assert endpoint.engine == "torch-fp32"
        assert f"{served_in} was passed over: {model}:1 answers" in endpoint.engine_why
    else:
        assert endpoint.engine == served_in


def _served(ws: Workspace, model: str) -> Path:
    from sft_magics.registry import ArtifactStore

    return ArtifactStore(ws.artifacts).checkout(Registry(ws).version(f"{model}:1").artifact)


def _plain(model: str, given: str) -> str | bytes:
    import base64

    return base64.b64decode(given) if model == "digits" else given


@pytest.mark.parametrize("model", ["films", "digits"])
def test_an_engine_that_misses_the_examples_is_passed_over_and_torch_serves(
    ws: Workspace, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    from onnx import numpy_helper

    first = deploy(ws, model, "auto", monkeypatch)
    assert first.engine == "openvino"
    sft.stop(model, workspace=ws.root)
    target = exports.folder_of(ws, Registry(ws).version(f"{model}:1").artifact)
    whole = (target / exports.MODEL).read_bytes()
    network = onnx.load(target / exports.MODEL)
    head = next(t for t in network.graph.initializer if t.name.endswith("classifier.bias"))
    bias = numpy_helper.to_array(head)
    head.CopyFrom(numpy_helper.from_array(bias + 9 * np.arange(len(bias), dtype=bias.dtype), head.name))
    onnx.save(network, target / exports.MODEL)
    shutil.rmtree(target / exports.COMPILED)
    try:
        endpoint = deploy(ws, model, "auto", monkeypatch)
        assert (endpoint.state, endpoint.engine) == ("ready", "torch")
        assert f"torch answers; openvino was passed over: {model}:1 answers" in endpoint.engine_why
        assert "is allowed" in endpoint.engine_why
        sft.stop(model, workspace=ws.root)
        with pytest.raises(errors.EndpointProblem, match="stored examples otherwise"):
            deploy(ws, model, "openvino", monkeypatch)
    finally:
        (target / exports.MODEL).write_bytes(whole)
        shutil.rmtree(target / exports.COMPILED, ignore_errors=True)


@pytest.mark.parametrize("model", ["films"])
def test_an_engine_that_cannot_load_the_export_is_passed_over_too(
    ws: Workspace, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deploy(ws, model, "auto", monkeypatch).engine == "openvino"
    sft.stop(model, workspace=ws.root)
    target = exports.folder_of(ws, Registry(ws).version(f"{model}:1").artifact)
    whole = (target / exports.MODEL).read_bytes()
    (target / exports.MODEL).write_bytes(whole[: len(whole) // 2])
    shutil.rmtree(target / exports.COMPILED)
    try:
        endpoint = deploy(ws, model, "auto", monkeypatch)
        assert (endpoint.state, endpoint.engine) == ("ready", "torch")
        assert endpoint.engine_why.startswith("torch answers; openvino was passed over: it failed (")
        assert "\n" not in endpoint.engine_why
    finally:
        (target / exports.MODEL).write_bytes(whole)


@pytest.mark.parametrize("model", ["films", "digits"])
def test_a_version_that_says_something_else_in_every_engine_is_refused(
    ws: Workspace, model: str, changed_examples: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"input": r["input"], "said": r["said"][::-1]} for r in changed_examples]
    examples(ws, model).write_text(json.dumps(rows))
    with pytest.raises(errors.EndpointProblem, match=f"{model}:1 answers .* stored examples otherwise.*is allowed"):
        deploy(ws, model, "auto", monkeypatch)
    assert sft.deploy(f"{model}:1", unchecked=True, workspace=ws.root).state == "ready"


@pytest.mark.parametrize("model", ["films", "digits"])
def test_without_the_packages_of_engines_torch_serves_and_says_so(ws: Workspace, model: str) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['openvino', 'onnxruntime', 'onnx', 'onnxscript'])); "
        "import sft_magics as sft; "
        f"e = sft.deploy('{model}:1', workspace={str(ws.root)!r}); print(e.state, e.engine, e.engine_why)"
    )
    env = {**os.environ, "SFT_ENGINE": "auto"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].startswith("ready torch torch answers: openvino needs packages that are not")
