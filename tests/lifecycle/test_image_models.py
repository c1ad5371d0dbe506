"""An image model through its life: data, create, train, evaluate, ask, compare, export; and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import load


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 pictures of each of three digits."""
    root = tmp_path_factory.mktemp("shelf") / "digits"
    found: dict[str, int] = {}
    loaded = load("sample:digits")
    for path, label in zip(loaded.texts, loaded.labels, strict=True):
        if label in "017" and found.get(label, 0) < 60:
            found[label] = found.get(label, 0) + 1
            (root / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / label)
    return root


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, shelf: Path) -> Path:
    """A workspace with the image model `digits` and two versions."""
    root = tmp_path_factory.mktemp("trained") / "workspace"
    sft.data("digits", str(shelf), workspace=root)
    sft.create("digits", data="digits", workspace=root)
    sft.finetune("digits", epochs=3, workspace=root)
    sft.finetune("digits", epochs=4, method="head", lr=0.01, workspace=root)
    return root


def test_its_data_shows_pictures_and_the_registry_keeps_none(trained_once: Path) -> None:
    dataset = sft.data("digits", workspace=trained_once)
    assert dataset.task == "image-classification"
    assert all(e.picture.startswith("data:image/jpeg;base64,") for e in dataset.examples)
    assert b"data:image" not in (trained_once / "registry" / "registry.json").read_bytes()
    assert b"data:image" not in (trained_once / "registry" / "registry.journal").read_bytes()


def test_its_versions_say_what_they_were_made_of(trained_once: Path) -> None:
    versions = {v.number: v for v in sft.versions("digits", workspace=trained_once)}
    assert versions[1].task == "image-classification"
    assert versions[1].metrics["accuracy"].value >= 0.85
    assert versions[1].options["optimizer"] == "adamw"
    assert versions[1].options["lr"] == 0.001
    assert versions[1].preprocessing["architecture"] == "tf_efficientnet_lite0"
    assert versions[2].options["method"] == "head"


def test_it_is_measured_and_asked(trained_once: Path, shelf: Path, tmp_path: Path) -> None:
    found = sft.evaluate("digits:1", workspace=trained_once)
    assert found.metrics["accuracy"].value >= 0.85
    assert all(p.picture for p in found.worst)
    asked = sorted(str(p) for p in (shelf / "7").iterdir())[:3]
    answers = sft.predict("digits:1", *asked, workspace=trained_once)
    assert [a.label for a in answers.rows].count("7") >= 2
    assert [a.text for a in answers.rows] == asked
    folder = sft.predict("digits:1", str(shelf / "7"), workspace=trained_once)
    assert [a.text for a in folder.rows][:3] == asked
    assert len(folder.rows) == 60
    assert [bool(a.picture) for a in folder.rows] == [True] * 50 + [False] * 10, "a page holds the first fifty"
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.DataProblem, match="There are no images in"):
        sft.predict("digits:1", str(tmp_path / "empty"), workspace=trained_once)
    with pytest.raises(errors.DataProblem, match="cannot be read: nowhere"):
        sft.predict("digits:1", "nowhere.png", workspace=trained_once)


def test_its_errors_are_shown_as_pictures(trained_once: Path) -> None:
    found = sft.errors_("digits:2", workspace=trained_once)
    evaluation = sft.evaluate("digits:2", workspace=trained_once)
    assert (found.data, found.split, found.n) == ("digits:1", "validation", evaluation.n)
    assert (
        found.wrong == sum(m.n for m in found.mistakes) == round((1 - evaluation.metrics["accuracy"].value) * found.n)
    )
    assert all(r.picture.startswith("data:image/") and r.label != r.truth for r in found.rows)
    confident = [r.confidence for r in found.rows]
    assert confident == sorted(confident, reverse=True)
    for label in ("0", "1", "7"):
        some = sft.errors_("digits:2", truth=label, count=2, workspace=trained_once)
        assert some.chosen == sum(m.n for m in found.mistakes if m.truth == label)
        assert {r.truth for r in some.rows} <= {label}
        assert len(some.rows) == min(2, some.chosen)
    with pytest.raises(errors.NotFound, match="no class called 'cat'"):
        sft.errors_("digits:2", truth="cat", workspace=trained_once)
    with pytest.raises(errors.UsageProblem, match="--count cannot be 0"):
        sft.errors_("digits:2", count=0, workspace=trained_once)


def test_two_of_its_versions_are_compared(trained_once: Path) -> None:
    found = sft.diff("digits:1", "digits:2", workspace=trained_once)
    assert found.n > 10
    assert all(f.before.picture for f in (*found.broken, *found.mended))


def test_it_leaves_as_a_folder_that_timm_loads_and_comes_back(trained_once: Path, tmp_path: Path) -> None:
    out = sft.export("digits:1", str(tmp_path / "out"), workspace=trained_once)
    assert "timm.create_model" in out.next_step
    model = timm.create_model("tf_efficientnet_lite0", num_classes=3)
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "out" / "model.safetensors"))
    local = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    with torch.no_grad():
        batch = torch.zeros(1, 3, 64, 64)
        assert torch.equal(model.eval()(batch), local.eval()(batch))
    sft.export("digits:1", str(tmp_path / "out.zip"), workspace=trained_once)
    other = Workspace(tmp_path / "other").prepare()
    came = sft.import_(str(tmp_path / "out.zip"), workspace=other)
    assert came.artifact == sft.show("digits:1", workspace=trained_once).version.artifact
    assert came.task == "image-classification"


def test_what_does_not_fit_is_refused_in_a_sentence(trained_once: Path, film_csv: Path) -> None:
    sft.data("films", str(film_csv), workspace=trained_once)

    def create(**options: str) -> None:
        sft.create("x", workspace=trained_once, **options)  # type: ignore[arg-type]

    def finetune(**options: Any) -> None:
        sft.finetune("digits", workspace=trained_once, **options)

    refused: list[tuple[Callable[[], object], type[errors.SftError], str]] = [
        (
            lambda: sft.retrain("digits", from_="digits:1", workspace=trained_once),
            errors.DataProblem,
            "There are 0 labeled answers of digits",
        ),
        (lambda: finetune(data="films"), errors.DataProblem, "is for text-classification"),
        (lambda: finetune(image_size=7), errors.UsageProblem, "--image-size cannot be 7"),
        (lambda: finetune(momentum=1.5), errors.UsageProblem, "--momentum cannot be 1.5"),
        (lambda: finetune(unfreeze=-1), errors.UsageProblem, "--unfreeze cannot be -1"),
        (lambda: finetune(sampling="balanced", class_weights="auto"), errors.UsageProblem, "rare classes twice"),
        (lambda: create(data="films", base="lite0"), errors.ModelProblem, "is a base for image-classification"),
        (lambda: create(data="digits", base="minilm"), errors.ModelProblem, "is a base for text-classification"),
        (lambda: create(data="digits", task="text-classification"), errors.DataProblem, "is for image-classification"),
        (lambda: create(data="digits", weights="none"), errors.UsageProblem, "--weights none is for"),
    ]
    for line, kind, said in refused:
        with pytest.raises(kind, match=said):
            line()


def test_resnet50_without_its_weights_says_both_remedies_and_takes_none_when_told(
    trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing answers there
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(errors.ModelProblem, match="weights of resnet50 are not on this machine") as refused:
        sft.create("pets", task="image-classification", base="resnet50", data="digits", workspace=trained_once)
    assert "--base lite0" in refused.value.next_step
    made = sft.create("pets", base="resnet50", weights="none", data="digits", workspace=trained_once)
    assert made.weights["recipe"]["optimizer"] == "sgd"
    assert made.weights["recipe"]["lr"] == 0.001
    assert made.weights["fresh"] == ["all of it"]
    assert made.weights["source"] == "from scratch"
