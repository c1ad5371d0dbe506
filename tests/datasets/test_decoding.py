"""One way from a file to what a person sees: every mode, every orientation, for every task alike."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.picture_formats import FORMATS, SUFFIXES
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import load
from sft_magics.datasets.annotations import annotation_render
from sft_magics.datasets.pictures import decoding, image_files
from sft_magics.engine.inputs import pixels
from sft_magics.serving.http import parsing

SIDES = (40, 24)
Draw = Callable[[], Image.Image]


def ramp(dtype: str, most: float) -> np.ndarray:
    """Numbers from 0 at the left to `most` at the right."""
    return np.tile(np.linspace(0, most, SIDES[0]), (SIDES[1], 1)).astype(dtype)


def clear(mode: str) -> Image.Image:
    """Red, but for a corner that hides green behind full transparency."""
    block = np.full((SIDES[1], SIDES[0], 4), (200, 0, 0, 255), dtype=np.uint8)
    block[:12, :12] = (0, 255, 0, 0)
    return Image.fromarray(block).convert(mode)


def palette() -> Image.Image:
    made = Image.new("P", SIDES, 1)
    made.putpalette([0, 255, 0, 200, 0, 0])
    made.paste(0, (0, 0, 12, 12))
    made.info["transparency"] = 0
    return made


def gray_with_a_clear_value() -> Image.Image:
    made = Image.new("L", SIDES, 60)
    made.paste(7, (0, 0, 12, 12))
    made.info["transparency"] = 7
    return made


WHITE_CORNER: dict[str, tuple[Draw, str]] = {
    "rgba": (lambda: clear("RGBA"), "png"),
    "la": (lambda: clear("LA"), "png"),
    "palette": (palette, "png"),
    "gif": (palette, "gif"),
    "key": (gray_with_a_clear_value, "png"),
    "webp": (lambda: clear("RGBA"), "webp"),
    "tiff": (lambda: clear("RGBA"), "tif"),
}
RAMPS: dict[str, tuple[Draw, str]] = {
    "16 bits": (lambda: Image.fromarray(ramp("uint16", 65_535)), "png"),
    "16 bits, tiff": (lambda: Image.fromarray(ramp("uint16", 65_535)), "tif"),
    "16 bits, pgm": (lambda: Image.fromarray(ramp("uint16", 65_535)), "pgm"),
    "32 bits": (lambda: Image.fromarray(ramp("int32", 65_535)), "tif"),
    "decimals": (lambda: Image.fromarray(ramp("float32", 1)), "tif"),
    "8 bits": (lambda: Image.fromarray(ramp("uint8", 255)), "bmp"),
}


def every_way(path: Path) -> list[np.ndarray]:
    """What classification, scenes and overlays see of a picture, at its own size."""
    return [
        np.asarray(pixels.opened(str(path), min(SIDES))),
        np.asarray(pixels.opened(path.read_bytes(), min(SIDES))),
        np.asarray(pixels.scene(str(path), min(SIDES))),
        np.asarray(annotation_render._opened(str(path))),
    ]


@pytest.mark.parametrize("name", WHITE_CORNER)
def test_what_is_transparent_is_white_for_every_task(name: str, tmp_path: Path) -> None:
    draw, ending = WHITE_CORNER[name]
    path = tmp_path / f"a.{ending}"
    draw().save(path, **({"lossless": True, "exact": True} if ending == "webp" else {}))
    for seen in every_way(path):
        assert seen[2, 2].tolist() == [255, 255, 255]
        assert seen[20, 30].max() < 230


@pytest.mark.parametrize("name", RAMPS)
def test_high_bit_depths_are_scaled_by_their_whole_range(name: str, tmp_path: Path) -> None:
    draw, ending = RAMPS[name]
    path = tmp_path / f"a.{ending}"
    draw().save(path)
    for seen in every_way(path):
        assert np.abs(seen[5, :, 1].astype(int) - np.linspace(0, 255, SIDES[0])).max() <= 1


def test_16_bits_in_the_other_order_of_bytes_are_the_same_picture() -> None:
    little = Image.fromarray(ramp("uint16", 65_535))
    big = Image.frombytes("I;16B", SIDES, ramp(">u2", 65_535).tobytes())
    assert np.array_equal(np.asarray(decoding.rgb(little)), np.asarray(decoding.rgb(big)))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (ramp("int32", 100_000), "its pixels run from 0 to 100,000"),
        (ramp("int32", 100) - 50, "its pixels run from -50 to 50"),
        (ramp("float32", 255), "decimal numbers from 0 to 255"),
        (ramp("float32", 1) - 0.5, "decimal numbers from -0.5 to 0.5"),
        (np.full((24, 40), np.nan, dtype=np.float32), "no numbers"),
    ],
)
def test_pixels_without_an_agreed_brightness_are_refused_everywhere(
    values: np.ndarray, said: str, tmp_path: Path
) -> None:
    for kind, number in (("a", 0), ("b", 1)):
        (tmp_path / "set" / kind).mkdir(parents=True)
        Image.new("RGB", SIDES, (number, 9, 9)).save(tmp_path / "set" / kind / "good.png")
    bad = tmp_path / "set" / "a" / "bad.tif"
    Image.fromarray(values).save(bad)
    with pytest.raises(errors.DataProblem, match=rf"bad\.tif \(.*{said}"):
        load(str(tmp_path / "set"))
    assert len(load(str(tmp_path / "set"), broken="skip")) == 2
    with pytest.raises(ValueError, match=said):
        pixels.opened(str(bad), 24)
    assert image_files.thumbnail(str(bad)) == ""


def test_gray_of_16_bits_that_is_nearly_black_is_told(tmp_path: Path) -> None:
    for number, kind in enumerate("ab" * 3):
        (tmp_path / kind).mkdir(exist_ok=True)
        Image.fromarray(ramp("uint16", 4_000 + number)).save(tmp_path / kind / f"{number}.png")
    found = load(str(tmp_path))
    (finding,) = [f for f in found.findings if f.code == "dark"]
    assert "6 pictures hold gray of 16 bits, at most 4,005 of 65,535" in finding.message


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1", "L", "HSV"])
def test_other_color_spaces_become_rgb(mode: str, tmp_path: Path) -> None:
    made = Image.new("RGB", SIDES, (255, 255, 255)).convert(mode)
    path = tmp_path / ("a.png" if mode in ("1", "L") else "a.tif")
    (made if mode != "HSV" else made.convert("RGB")).save(path)
    for seen in every_way(path):
        assert seen.shape == (SIDES[1], SIDES[0], 3)
        assert seen.min() >= 250


def noted(image: Image.Image, path: Path, turn: int) -> Path:
    """Write a picture so that it is upright again by its EXIF orientation."""
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(turn, turn)
    exif = Image.Exif()
    exif[0x0112] = turn
    decoding.turned(image, back).save(path, exif=exif)
    return path


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_every_orientation_is_upright_for_every_task(turn: int, ending: str, tmp_path: Path) -> None:
    image = Image.new("RGB", SIDES, "white")
    image.paste("red", (0, 0, 16, 8))
    path = noted(image, tmp_path / f"a.{ending}", turn)
    for seen in every_way(path):
        assert seen.shape == (SIDES[1], SIDES[0], 3)
        assert (seen[3, 6] > (200, 60, 60)).tolist() == [True, False, False]
        assert seen[20, 30].min() > 200
    found = image_files.look(str(path))
    assert (found.width, found.height) == SIDES
    if ending != "tif":  # Pillow turns a TIFF as it loads it, and its stored sides are not known
        assert (found.turn, found.stored) == (turn, SIDES if turn < 5 else SIDES[::-1])


def test_damaged_exif_data_leaves_a_picture_as_it_lies(tmp_path: Path) -> None:
    Image.new("RGB", SIDES, "red").save(tmp_path / "a.jpg", exif=b"Exif\0\0not a header at all")
    assert pixels.opened(str(tmp_path / "a.jpg"), 24).size == SIDES


def test_the_same_picture_in_another_format_has_the_same_pixels(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8))
    for ending in ("png", "bmp", "tif", "ppm"):
        image.save(tmp_path / f"a.{ending}")
    image.save(tmp_path / "a.webp", lossless=True)
    noted(image, tmp_path / "turned.png", 6)
    looks = [image_files.look(str(path)) for path in sorted(tmp_path.iterdir())]
    assert len(looks) == 6
    assert len({look.sha256 for look in looks}) == 6
    assert len({look.pixels for look in looks}) == 1
    image.putpixel((1, 1), (1, 2, 3))
    image.save(tmp_path / "other.png")
    assert image_files.look(str(tmp_path / "other.png")).pixels != looks[0].pixels


@pytest.mark.parametrize("ending", SUFFIXES)
def test_whatever_is_trained_on_is_taken_by_an_endpoint(ending: str, tmp_path: Path) -> None:
    image = Image.new("1" if ending == ".pbm" else "RGB", SIDES)
    kind = {".jfif": "JPEG", ".pnm": "PPM"}.get(ending)
    image.save(tmp_path / f"a{ending}", format=kind)
    assert not image_files.look(str(tmp_path / f"a{ending}")).wrong
    sent = base64.b64encode((tmp_path / f"a{ending}").read_bytes()).decode()
    item = parsing.item(sent, "image-classification")
    assert item.logged.split()[0] in FORMATS


def test_a_picture_of_a_frame_keeps_its_depth_and_stands_upright(ws: Workspace) -> None:
    deep = Image.fromarray(ramp("int32", 65_535))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", SIDES, "red").save(buffer, "JPEG", exif=exif)
    phone = Image.open(io.BytesIO(buffer.getvalue()))
    found = load(pd.DataFrame({"image": [deep, phone], "label": ["a", "b"]}), keep=ws.root / "pictures")
    seen = np.asarray(pixels.scene(found.texts[0], 24))
    assert np.abs(seen[5, :, 1].astype(int) - np.linspace(0, 255, SIDES[0])).max() <= 1
    assert Image.open(found.texts[1]).size == SIDES[::-1]
