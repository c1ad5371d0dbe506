"""Pictures in the cells of tables, tables of masks and of boxes: they hold what a folder or a COCO file holds."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, load, rows
from sft_magics.datasets.annotations import boxes
from tests import shapes

COUNT = 12


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.coco(tmp_path_factory.mktemp("coco"), COUNT)


FORMS: dict[str, Callable[[Image.Image], Any]] = {
    "pil": lambda image: image,
    "array": np.asarray,
    "bytes": png,
    "dict": lambda image: {"bytes": png(image), "path": "a.png"},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_frame_may_hold_the_pictures_themselves(ws: Workspace, form: str) -> None:
    made = [shapes.scene(i)[0] for i in range(COUNT)]
    frame = pd.DataFrame({"picture": [FORMS[form](image) for image in made], "kind": ["a", "b"] * (COUNT // 2)})
    dataset = build("x", frame, workspace=ws, label="kind")
    assert dataset.task == "image-classification"
    table = rows(ws, dataset)
    stored = {
        np.asarray(Image.open(path)).tobytes(): label for path, label in zip(table["text"], table["label"], strict=True)
    }
    assert stored == {np.asarray(image).tobytes(): "ab"[i % 2] for i, image in enumerate(made)}


def test_the_bytes_of_a_file_stay_as_they_are(ws: Workspace) -> None:
    buffer = io.BytesIO()
    shapes.scene(1)[0].save(buffer, "JPEG", quality=60)
    frame = pd.DataFrame({"image": [buffer.getvalue(), png(shapes.scene(2)[0])], "label": ["a", "b"]})
    found = load(frame, keep=ws.root / "pictures")
    assert Path(found.texts[0]).read_bytes() == buffer.getvalue()
    assert Path(found.texts[0]).suffix == ".jpg"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (np.zeros((4, 4, 3)), "its numbers are float64"),
        (np.zeros((4, 4, 7), np.uint8), r"its shape is \(4, 4, 7\)"),
        (b"GIF89a", "cannot be used: row 3"),
        ({"bytes": png(shapes.scene(1)[0])[:200], "path": None}, "row 3"),
        ({"bytes": None, "path": "gone.png"}, "gone.png .there is no such file"),
    ],
)
def test_a_cell_that_is_no_picture_is_named_by_its_row(ws: Workspace, cell: Any, said: str) -> None:
    images: list[Any] = [np.full((4, 4, 3), i, np.uint8) for i in range(4)]
    images[2] = cell
    frame = pd.DataFrame({"image": images, "label": ["a", "b"] * 2})
    with pytest.raises(errors.DataProblem, match=said):
        load(frame, keep=ws.root / "pictures")
    assert len(load(frame, keep=ws.root / "pictures", broken="skip")) == 3


def test_a_cell_that_is_empty_is_a_row_without_a_picture(ws: Workspace) -> None:
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(3)]
    found = load(pd.DataFrame({"image": [*images, None], "label": ["a", "b", "a", "b"]}), keep=ws.root / "pictures")
    assert len(found) == 3
    assert found.findings[0].code == "empty_texts"


def test_a_table_of_paths_of_masks_is_the_folder(tmp_path: Path) -> None:
    root = shapes.masks_folder(tmp_path / "masks", 8, 4)
    parts = [(part, path) for part in ("train", "val") for path in sorted((root / part / "images").iterdir())]
    lines = [f"{part}/images/{path.name},{part}/masks/{path.name},{part}" for part, path in parts]
    (root / "table.csv").write_text("\n".join(["image,mask,split", *lines]))
    table, folder = load(str(root / "table.csv")), load(str(root))
    assert (table.hashes, table.splits, table.names) == (folder.hashes, folder.splits, folder.names)
    named = root / "other.csv"
    named.write_text("\n".join(["a,b,split", *lines]))
    assert load(str(named), text="a", label="b").hashes == folder.hashes
    pd.read_csv(named).assign(c=lambda f: f["a"]).to_csv(named, index=False)
    with pytest.raises(errors.DataProblem, match="several columns of pictures: a, c"):
        load(str(named), label="b")


def test_a_mask_of_another_size_is_refused_by_its_row(ws: Workspace) -> None:
    frame = pd.DataFrame(
        {"image": [shapes.scene(i)[0] for i in range(4)], "mask": [shapes.scene(i)[1] for i in range(4)]}
    )
    frame.at[1, "mask"] = Image.new("L", (10, 10))
    with pytest.raises(errors.DataProblem, match=r"row 2 \(it is 10 x 10 pixels, and its picture 64 x 64\)"):
        load(frame, keep=ws.root / "pictures")
    assert len(load(frame, keep=ws.root / "pictures", broken="skip")) == 3


def corner_rows(*, shares: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for seed in range(COUNT):
        picture, _, marks = shapes.scene(seed)
        for box in marks:
            sides = (picture.width, picture.height) * 2 if shares else (1,) * 4
            corners = [v / side for v, side in zip(box.corners, sides, strict=True)]
            found.append(dict(zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)) | {
                "image": f"{seed:03d}.png", "label": box.label})  # fmt: skip
    return found


@pytest.mark.parametrize("shares", [False, True])
def test_a_row_for_each_box_is_the_coco_file(coco: Path, shares: bool) -> None:
    file = coco.parent / f"corners-{shares}.csv"
    pd.DataFrame(corner_rows(shares=shares)).to_csv(file, index=False)
    table, known = load(str(file)), load(str(coco))
    assert (table.texts, table.hashes, table.names) == (known.texts, known.hashes, known.names)
    for one, other in zip(table.labels, known.labels, strict=True):
        for a, b in zip(boxes.loads(one), boxes.loads(other), strict=True):
            assert a.label == b.label
            assert a.corners == pytest.approx(b.corners, abs=0.11)
    assert ("shares" if shares else "pixels") in table.findings[-1].message


def test_a_picture_without_boxes_is_a_row_without_corners(coco: Path) -> None:
    Image.new("RGB", (64, 64)).save(coco.parent / "empty.png")
    file = coco.parent / "empty.csv"
    frame = pd.DataFrame([*corner_rows(shares=False), {"image": "empty.png"}])
    frame.to_csv(file, index=False)
    assert load(str(file)).labels[-1] == "[]"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"xmin": "a", "ymin": 1, "xmax": 5, "ymax": 5, "label": "disc"}, "row 2: could not convert"),
        ({"xmin": 1, "ymin": 1, "xmax": 500, "ymax": 5, "label": "disc"}, "a box leaves the picture of 64 x 64"),
        ({"xmin": 9, "ymin": 1, "xmax": 5, "ymax": 5, "label": "disc"}, "a box has no area"),
        ({"xmin": 1, "ymin": 1, "xmax": 5, "ymax": 5}, "row 2: a box has no class"),
    ],
)
def test_a_wrong_box_is_refused_by_file_or_left_out(coco: Path, row: dict[str, Any], said: str) -> None:
    good = {"image": "000.png", "xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9, "label": "disc"}
    file = coco.parent / "wrong.csv"
    pd.DataFrame([good, {"image": "001.png", **row}]).to_csv(file, index=False)
    with pytest.raises(errors.DataProblem, match=f"001.png .{said}"):
        load(str(file))
    assert len(load(str(file), broken="skip")) == 1


@pytest.mark.parametrize("corners", [False, True])
def test_objects_in_a_line_of_json_are_read_as_what_fits(coco: Path, corners: bool) -> None:
    lines = []
    for seed in range(COUNT):
        marks = shapes.scene(seed)[2]
        places = [
            [b.left, b.top, b.right - (0 if corners else b.left), b.bottom - (0 if corners else b.top)] for b in marks
        ]
        found = [{"bbox": place, "label": b.label} for place, b in zip(places, marks, strict=True)]
        lines.append(json.dumps({"file_name": f"{seed:03d}.png", "objects": found}))
    file = coco.parent / "objects.jsonl"
    file.write_text("\n".join(lines))
    table = load(str(file))
    assert table.labels == load(str(coco)).labels
    assert ("right, bottom" if corners else "width, height") in table.findings[-1].message


@pytest.mark.parametrize("layout", ["{kind}/{part}", "{part}/{kind}"])
def test_a_folder_in_the_layout_of_yolo(tmp_path: Path, layout: str) -> None:
    names = ["disc", "square"]
    for seed in range(COUNT):
        picture, _, marks = shapes.scene(seed, (80, 64))
        part = "train" if seed < 8 else "val"
        for kind in ("images", "labels"):
            (tmp_path / layout.format(kind=kind, part=part)).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / layout.format(kind="images", part=part) / f"{seed}.png")
        lines = [
            f"{names.index(b.label)} {(b.left + b.right) / 160} {(b.top + b.bottom) / 128} "
            f"{(b.right - b.left) / 80} {(b.bottom - b.top) / 64}" for b in marks
        ]  # fmt: skip
        (tmp_path / layout.format(kind="labels", part=part) / f"{seed}.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text("names:\n  0: disc\n  1: square\nnc: 2\n")
    found = load(str(tmp_path))
    assert found.names == ("disc", "square")
    assert found.splits.count("train") == 8
    by_name = {Path(path).stem: boxes.loads(label) for path, label in zip(found.texts, found.labels, strict=True)}
    for seed in range(COUNT):
        want = sorted(shapes.scene(seed, (80, 64))[2], key=lambda b: (b.label, b.corners))
        for a, b in zip(by_name[str(seed)], want, strict=True):
            assert (a.label, a.corners) == (b.label, pytest.approx(b.corners, abs=0.11))
    (tmp_path / layout.format(kind="labels", part="val") / "9.txt").write_text("7 0.5 0.5 0.1 0.1")
    with pytest.raises(errors.DataProblem, match=r"9.txt: line 1 is of class 7, and there are 2"):
        load(str(tmp_path))
    (tmp_path / layout.format(kind="labels", part="val") / "9.txt").write_text("0 0.5 0.5")
    with pytest.raises(errors.DataProblem, match="line 1 has 3 numbers"):
        load(str(tmp_path))
    assert len(load(str(tmp_path), broken="skip")) == COUNT - 1
    (tmp_path / "data.yaml").write_text("names: [a\n")
    with pytest.raises(errors.DataProblem, match=r"data.yaml cannot be read"):
        load(str(tmp_path))
