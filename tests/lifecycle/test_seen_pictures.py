"""The same picture in another file is counted as a near-duplicate wherever a version is measured, of every task."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sft_magics as sft
from sft_magics.core.records import Version
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import identity, rows
from sft_magics.datasets.annotations import boxes
from sft_magics.datasets.pictures import image_files
from sft_magics.registry import ArtifactStore, Registry
from tests import shapes


def _turned(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


# Formats that keep every pixel, and what a picture is before it is written.
WRITTEN: dict[str, Callable[[Image.Image, Path], None]] = {
    "other.png": lambda image, path: image.save(path, optimize=True, compress_level=1),
    "same.bmp": lambda image, path: image.save(path),
    "same.tif": lambda image, path: image.save(path),
    "packed.tiff": lambda image, path: image.save(path, compression="tiff_lzw"),
    "same.ppm": lambda image, path: image.save(path),
    "exact.webp": lambda image, path: image.save(path, lossless=True, exact=True),
    "opaque.png": lambda image, path: image.convert("RGBA").save(path),
    "palette.png": lambda image, path: image.quantize(256).save(path),
    "turned.png": _turned,
}


def _picture(seed: int) -> Image.Image:
    draws = np.random.default_rng(seed)
    palette = draws.integers(0, 256, (40, 3))  # few colors, so that a palette holds them all
    return Image.fromarray(palette[draws.integers(0, 40, (24, 30))].astype("uint8"))


@pytest.mark.parametrize("name", WRITTEN)
def test_files_that_show_the_same_have_the_same_pixels(name: str, tmp_path: Path) -> None:
    _picture(1).save(tmp_path / "first.png")
    WRITTEN[name](_picture(1), tmp_path / name)
    first, again = image_files.look(str(tmp_path / "first.png")), image_files.look(str(tmp_path / name))
    assert first.sha256 != again.sha256
    assert first.pixels == again.pixels


def test_pictures_that_differ_in_one_pixel_or_in_their_sides_have_other_pixels(tmp_path: Path) -> None:
    image = _picture(1)
    image.save(tmp_path / "first.png")
    image.putpixel((3, 3), (1, 2, 3))
    image.save(tmp_path / "dot.bmp")
    Image.new("RGB", (10, 40)).save(tmp_path / "tall.png")
    Image.new("RGB", (40, 10)).save(tmp_path / "wide.png")
    looks = [image_files.look(str(tmp_path / name)) for name in ("first.png", "dot.bmp", "tall.png", "wide.png")]
    assert len({look.pixels for look in looks}) == 4


def _as_bitmap(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        image.convert("RGB").save(target)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """A version of pictures of two classes, and a folder with 3 of its training pictures as .bmp among 25 new ones."""
    root = tmp_path_factory.mktemp("classes")
    ws = Workspace(root / "workspace")
    for seed in range(40):
        folder = root / "all" / ("dark" if seed % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        image = _picture(seed).point(lambda value, dark=seed % 2: value // 2 if dark else 128 + value // 2)
        image.save(folder / f"{seed}.png")
    sft.data("tones", str(root / "all"), workspace=ws)
    sft.create("tones", data="tones", workspace=ws)
    sft.finetune("tones", method="head", epochs=1, workspace=ws)
    train = rows(ws, Registry(ws).dataset("tones"), "train")
    for number, (path, label) in enumerate(zip(train["text"][:3], train["label"][:3], strict=True)):
        (root / "more" / label).mkdir(parents=True, exist_ok=True)
        _as_bitmap(Path(path), root / "more" / label / f"again-{number}.bmp")
    for seed in range(100, 125):
        (root / "more" / "dark").mkdir(parents=True, exist_ok=True)
        _picture(seed).save(root / "more" / "dark" / f"{seed}.png")
    return ws, root / "more"


def test_an_evaluation_counts_pictures_of_the_same_pixels(classes: tuple[Workspace, Path]) -> None:
    ws, more = classes
    found = sft.evaluate("tones:1", data=str(more), workspace=ws)
    assert (found.overlap.seen, found.overlap.near) == (0, 3)
    assert "3 of 28 rows are near-duplicates of rows that were trained on (another file of the same pixels)." in str(
        found
    )
    sft.data("more", str(more), workspace=ws)
    assert sft.evaluate("tones:1", data="more", workspace=ws).overlap.near == 3


def test_a_version_that_was_trained_further_knows_the_pixels_of_its_ancestor(classes: tuple[Workspace, Path]) -> None:
    ws, more = classes
    sft.data("more", str(more), workspace=ws)
    sft.finetune("tones", from_="tones:1", data="more", method="head", epochs=1, workspace=ws)
    newest = Registry(ws).version("tones")
    known = identity.read(ArtifactStore(ws.artifacts).checkout(newest.artifact))
    assert known is not None
    frame = rows(ws, Registry(ws).dataset("tones"), "train")
    assert known.resembles(identity.near(frame, "image-classification")).all()


def _trained(ws: Workspace, name: str, source: Path, **options: Any) -> Version:
    sft.data(name, str(source), workspace=ws)
    sft.create(name, data=name, workspace=ws)
    sft.finetune(name, epochs=1, workspace=ws, **options)
    return Registry(ws).version(name)


def test_masks_are_held_to_the_same(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "workspace")
    source = shapes.masks_folder(tmp_path / "masks", 24, 6)
    version = _trained(ws, "masks", source)
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    changed = 0
    for path in sorted(copy.rglob("*")):
        if path.suffix in (".png", ".jpg") and "mask" not in str(path.relative_to(copy)).lower():
            _as_bitmap(path, path.with_suffix(".bmp"))
            path.unlink()
            changed += 1
    assert changed
    found = sft.evaluate(version.ref, data=str(copy), workspace=ws)
    assert found.overlap.seen == 0
    assert found.overlap.near == Registry(ws).dataset("masks").counts["train"]


def test_boxes_are_held_to_the_same(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "workspace")
    source = shapes.coco(tmp_path / "boxes", 30)
    version = _trained(ws, "boxes", source)
    frame = rows(ws, Registry(ws).dataset("boxes"), "train").head(4)
    copy = tmp_path / "copy"
    copy.mkdir()
    images, notes, names = [], [], sorted({b.label for cell in frame["label"] for b in boxes.loads(cell)})
    for number, (path, cell) in enumerate(zip(frame["text"], frame["label"], strict=True)):
        _as_bitmap(Path(path), copy / f"{number}.bmp")
        images.append({"id": number, "file_name": f"{number}.bmp"})
        for box in boxes.loads(cell):
            sides = [box.left, box.top, box.right - box.left, box.bottom - box.top]
            notes.append({"id": len(notes), "image_id": number, "category_id": names.index(box.label), "bbox": sides})
    kinds = [{"id": i, "name": name} for i, name in enumerate(names)]
    (copy / "_annotations.coco.json").write_text(
        json.dumps({"images": images, "annotations": notes, "categories": kinds})
    )
    found = sft.evaluate(version.ref, data=str(copy), workspace=ws)
    assert (found.overlap.rows, found.overlap.seen, found.overlap.near) == (4, 0, 4)
