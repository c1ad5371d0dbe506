"""Bases one could begin with: what is known of them, and a linear probe that ranks those that are here."""

import shutil
from pathlib import Path

import pytest
import torch

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.notebook import panels
from tests import shapes


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with images of two classes, and one with masks."""
    root = tmp_path_factory.mktemp("bases")
    for seed in range(80):
        picture, _, (box, *_) = shapes.scene(seed)
        (root / "shapes" / box.label).mkdir(parents=True, exist_ok=True)
        picture.save(root / "shapes" / box.label / f"{seed}.png")
    sft.data("shapes", str(root / "shapes"), workspace=root / "ws")
    sft.data("masks", str(shapes.masks_folder(root / "masks", 8, 2)), workspace=root / "ws")
    return root / "ws"


@pytest.mark.parametrize(
    ("task", "base"),
    [("text-classification", "minilm"), ("image-classification", "lite0"), ("causal-lm", "smollm2")],
)
def test_bases_are_listed_for_a_task(tmp_path: Path, task: str, base: str) -> None:
    found = sft.models(task=task, workspace=tmp_path)
    assert found.kind == "bases"
    assert found[0].base == base, "what is here comes first"
    assert all(c.parameters > 1e6 and c.license for c in found)
    assert all(c.score is None for c in found)
    assert "to download" in str(found)
    assert base in str(panels.html(found))


def test_those_that_are_here_are_ranked_for_some_data(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with drawn weights stands in for a download: it is here, and worse than one that has seen pictures."""
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    best = torchvision.models.get_model_weights("resnet18").DEFAULT
    torch.save(torchvision.models.resnet18().state_dict(), folder / Path(best.url).name)
    found = {c.base: c for c in sft.models(data="shapes", workspace=pictures)}
    assert found["resnet18"].here
    assert not found["resnet50"].here
    lite0, resnet = found["lite0"], found["resnet18"]
    assert lite0.score is not None
    assert resnet.score is not None
    assert 0.6 < lite0.score <= 1.0
    assert 0.0 <= resnet.score <= 1.0
    assert lite0.seconds is not None
    assert lite0.seconds > 0
    assert found["resnet50"].score is None
    shutil.rmtree(tmp_path / "hub")


def test_bad_input_is_a_sentence(pictures: Path) -> None:
    with pytest.raises(errors.DataProblem, match="masks is for semantic-segmentation"):
        sft.models(data="masks", workspace=pictures)
    with pytest.raises(errors.DataProblem, match="shapes is for image-classification, not for causal-lm"):
        sft.models(task="causal-lm", data="shapes", workspace=pictures)
    with pytest.raises(errors.NotFound, match="nothing"):
        sft.models(data="nothing", workspace=pictures)
