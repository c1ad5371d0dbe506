"""Pictures are what the data set was made of when they are read again; the same picture in two splits is a leak."""

from pathlib import Path

import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, rows, unchanged
from tests import shapes
from tests.datasets.house import save, thing


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for number in range(8):
        part = "train" if number < 6 else "val"
        save(thing(number)[0], tmp_path / "pets" / part / "ab"[number % 2] / f"{number}.png")
    return tmp_path / "pets"


def test_a_picture_that_changed_is_named(ws: Workspace, pets: Path) -> None:
    found = rows(ws, build("pets", str(pets), workspace=ws))
    unchanged.check(found, "pets")
    Image.new("RGB", (60, 40)).save(pets / "train" / "b" / "3.png")
    with pytest.raises(errors.DataProblem, match=r"1 picture of dataset pets changed after it was made: 3\.png"):
        unchanged.check(found, "pets")
    unchanged.check(found[found["split"] == "validation"], "pets")


def test_a_mask_that_changed_is_named_and_one_written_anew_is_not(ws: Workspace, tmp_path: Path) -> None:
    root = shapes.masks_folder(tmp_path / "masks", 8, 2)
    found = rows(ws, build("m", str(root), workspace=ws))
    mask = root / "train" / "masks" / "003.png"
    with Image.open(mask) as image:
        image.save(mask, compress_level=0)
    unchanged.check(found, "m")
    Image.new("L", (64, 64), 1).save(mask)
    with pytest.raises(errors.DataProblem, match=r"\(or their masks did\): 003\.png"):
        unchanged.check(found, "m")


def test_texts_have_nothing_to_compare(ws: Workspace, write: object) -> None:
    source = write("a.csv", "text,label\n" + "".join(f"row {i},{i % 2}\n" for i in range(9)))  # type: ignore[operator]
    unchanged.check(rows(ws, build("texts", source, workspace=ws)), "texts")


@pytest.mark.parametrize("ending", ["bmp", "png", "tif"])
def test_the_same_pixels_in_train_and_validation_are_a_leak(ws: Workspace, pets: Path, ending: str) -> None:
    twin = pets / "val" / "a" / f"twin.{ending}"
    thing(0)[0].save(twin)
    if ending == "png":
        save(thing(0)[0], twin, 6)
    dataset = build("pets", str(pets), workspace=ws)
    leaks = [finding.message for finding in dataset.findings if finding.code == "leak"]
    assert len(leaks) == 1
    assert "1 row of validation is also in train" in leaks[0]


def test_the_same_pixels_go_to_one_split_of_ours(ws: Workspace, tmp_path: Path) -> None:
    for number in range(40):
        for ending in ("png", "bmp"):
            save(thing(number, (60 + number, 40))[0], tmp_path / "set" / "ab"[number % 2] / f"{number}.{ending}")
    dataset = build("pets", str(tmp_path / "set"), workspace=ws)
    assert not [finding for finding in dataset.findings if finding.code == "leak"]
    frame = rows(ws, dataset)
    frame["stem"] = [Path(path).stem for path in frame["text"]]
    assert (frame.groupby("stem")["split"].nunique() == 1).all()
