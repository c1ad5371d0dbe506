"""Masks as people have them: numbers or colors with their names, JPEGs refused, nothing left out uncounted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import load
from sft_magics.datasets.annotations import masks
from tests.datasets.house import SIDES, codes, save, thing

COUNT = 6
CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nred:128,0,0::\nblue:0,128,0::\n"
TABLE = "name,r,g,b\nbackground,0,0,0\nred,128,0,0\nblue,0,128,0\n"
COLORS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], dtype=np.uint8)
Save = Callable[[np.ndarray], Image.Image]


def numbers(number: int) -> np.ndarray:
    """0 around a thing of class 1 or 2."""
    box = thing(number)[1]
    found = np.zeros(SIDES[::-1], dtype=np.uint8)
    found[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 1 + number % 2
    return found


def palette(mask: np.ndarray) -> Image.Image:
    made = Image.fromarray(mask).convert("L")
    made.putpalette(COLORS.ravel().tolist())
    return made


def shuffled(mask: np.ndarray) -> Image.Image:
    """A palette in another order than the classes."""
    made = Image.fromarray(np.array([2, 0, 1], dtype=np.uint8)[mask])
    made.putpalette(COLORS[[1, 2, 0]].ravel().tolist())
    return made


def folder(
    root: Path, how: Save, ending: str = "png", pair: tuple[str, str] = ("images", "masks"), **files: str
) -> Path:
    for number in range(COUNT):
        save(thing(number)[0], root / pair[0] / f"s{number}.jpg")
        (root / pair[1]).mkdir(parents=True, exist_ok=True)
        how(numbers(number)).save(root / pair[1] / f"s{number}.{ending}")
    for name, text in files.items():
        (root / name.replace("_txt", ".txt").replace("_csv", ".csv")).write_text(text)
    return root


FORMS: dict[str, tuple[Save, dict[str, str]]] = {
    "numbers": (Image.fromarray, {"classes_txt": "background\nred\nblue\n"}),
    "numbers, CVAT": (Image.fromarray, {"labelmap_txt": CVAT}),
    "palette": (palette, {"classes_txt": "background\nred\nblue"}),
    "palette, CVAT": (palette, {"labelmap_txt": CVAT}),
    "another palette": (shuffled, {"labelmap_txt": CVAT}),
    "gray in three channels": (
        lambda m: Image.fromarray(np.stack([m] * 3, -1)),
        {"classes_txt": "background\nred\nblue"},
    ),
    "colors, CVAT": (lambda m: Image.fromarray(COLORS[m]), {"labelmap_txt": CVAT}),
    "colors, table": (lambda m: Image.fromarray(COLORS[m]), {"class_dict_csv": TABLE}),
    "colors, both": (
        lambda m: Image.fromarray(COLORS[m]),
        {"classes_txt": "background\nred\nblue", "labelmap_txt": CVAT},
    ),
    "16 bits": (lambda m: Image.fromarray(m.astype(np.uint16)), {"classes_txt": "background\nred\nblue"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_numbers_and_colors_are_the_same_masks(ws: Workspace, tmp_path: Path, form: str) -> None:
    how, files = FORMS[form]
    found = load(str(folder(tmp_path / "set", how, **files)), keep=ws.root / "pictures")
    assert found.names == ("background", "red", "blue")
    for number, path in enumerate(found.masks):
        assert np.array_equal(masks.read(path), numbers(number))
    plain = load(str(folder(tmp_path / "plain", Image.fromarray)))
    assert plain.hashes == found.hashes, "what counts is the numbers"


def test_void_in_a_palette_is_no_class(ws: Workspace, tmp_path: Path) -> None:
    def void(mask: np.ndarray) -> Image.Image:
        block = mask.copy()
        block[0] = 255
        made = Image.fromarray(block)
        made.putpalette([*COLORS.ravel().tolist(), *[9] * 756, 224, 224, 192])
        return made

    found = load(str(folder(tmp_path / "set", void, labelmap_txt=CVAT)), keep=ws.root / "pictures")
    assert set(masks.read(found.masks[0])[0]) == {masks.NOTHING}


@pytest.mark.parametrize(
    ("how", "ending", "files", "said"),
    [
        (lambda m: Image.fromarray((m > 0).astype(np.uint8) * 255), "jpg", {}, "it is a JPEG, whose compression blurs"),
        (Image.fromarray, "jpg", {"classes_txt": "a\nb\nc"}, "it is a JPEG, whose compression blurs"),
        (lambda m: Image.fromarray(m * 127), "png", {}, "have the numbers 0, 127, 254: 255 classes, most of which"),
        (lambda m: Image.fromarray(COLORS[m]), "png", {}, r"it is in color \(RGB\).*or a labelmap.txt says"),
        (
            lambda m: Image.fromarray(COLORS[m] + 1),
            "png",
            {"labelmap_txt": CVAT},
            "it has the color 1,1,1, which is that",
        ),
        (lambda m: Image.fromarray(m.astype(np.float32)), "tif", {}, r"it is in color \(F\)"),
        (lambda m: Image.fromarray(m.astype(np.int32) - 1), "tif", {}, "0 to 254 are classes"),
        (Image.fromarray, "png", {"classes_txt": "a\n\nb\nc"}, "an empty line between classes"),
        (Image.fromarray, "png", {"classes_txt": "a\nb\nc", "labelmap_txt": CVAT}, "name the classes otherwise"),
        (Image.fromarray, "png", {"labelmap_txt": "a:1,2::"}, "is no name and color"),
        (Image.fromarray, "png", {"labelmap_txt": "a:1,2,3::\nb:1,2,3::"}, "gives two classes the color 1,2,3"),
    ],
)
def test_masks_without_sure_numbers_are_refused(
    tmp_path: Path, how: Save, ending: str, files: dict[str, str], said: str
) -> None:
    with pytest.raises(errors.DataProblem, match=said):
        load(str(folder(tmp_path, how, ending, **files)))


def test_gaps_between_numbers_that_most_masks_fill_are_classes(tmp_path: Path) -> None:
    found = load(str(folder(tmp_path, lambda m: Image.fromarray(np.array([0, 1, 3], dtype=np.uint8)[m]))))
    assert (found.names, found.empty_classes) == (("0", "1", "2", "3"), ("2",))


def test_pictures_and_masks_without_a_partner_are_counted(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.fromarray)
    (root / "masks" / "s0.png").unlink()
    (root / "images" / "s1.jpg").unlink()
    found = load(str(root))
    assert len(found) == COUNT - 2
    said = [finding.message for finding in found.findings if finding.code == "unpaired"]
    assert any("1 picture has no mask" in message for message in said)
    assert any("1 mask has no picture" in message for message in said)


@pytest.mark.parametrize("ending", ["_mask", "-mask", "_seg", "_L", "_gt"])
def test_usual_endings_of_names_are_known(tmp_path: Path, ending: str) -> None:
    root = folder(tmp_path, Image.fromarray)
    for number in range(3, COUNT):
        (root / "masks" / f"s{number}.png").rename(root / "masks" / f"s{number}{ending}.png")
    found = load(str(root))
    assert [Path(path).stem.removesuffix(ending) for path in found.masks] == [Path(path).stem for path in found.texts]
    assert (len(found), found.findings) == (COUNT, ())


def test_the_lists_of_voc_are_the_split(tmp_path: Path) -> None:
    root = folder(tmp_path, palette, pair=("JPEGImages", "SegmentationClass"), labelmap_txt=CVAT)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("s0\ns1\n \ns2\ns3\ngone\n")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("s4\ns5")
    found = load(str(root))
    assert found.splits == ["train"] * 4 + ["validation"] * 2
    assert "1 name in the lists of ImageSets" in codes(found)["unpaired"].message


def test_splits_below_the_two_folders_are_read_and_odd_ones_refused(tmp_path: Path) -> None:
    for part, below in (("train", "images/train"), ("val", "images/val")):
        folder(tmp_path / "below", Image.fromarray, pair=(below, below.replace("images", "masks")))
        folder(tmp_path / "above" / part, Image.fromarray)
    assert sorted(set(map(str, load(str(tmp_path / "below")).splits))) == ["train", "validation"]
    folder(tmp_path / "above" / "extra", Image.fromarray)
    with pytest.raises(errors.DataProblem, match="train, val beside extra: splits, and pictures of no split"):
        load(str(tmp_path / "above"))
