"""Pictures that a camera noted as turned: boxes and masks lie where the labels mean them, or it is said."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, load
from sft_magics.datasets.annotations import boxes, masks
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.pictures import decoding
from sft_magics.engine.inputs.annotated_images import Scenes
from tests.datasets.house import BACK, SIDES, codes, save, thing


def stored_box(box: Box, turn: int) -> Box:
    """Where a box of the upright picture lies in the stored one, found with a picture of it."""
    spot = Image.new("L", SIDES, 0)
    spot.paste(255, tuple(map(int, box.corners)))  # type: ignore[call-overload]
    corners = decoding.turned(spot, BACK.get(turn, turn)).getbbox()
    assert corners is not None
    return Box(box.label, *map(float, corners))


def coco(folder: Path, turns: list[int], labeled: str, *, sizes: bool) -> str:
    """A COCO file of turned pictures, labeled on the upright or on the stored ones."""
    content: dict[str, list[object]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "red"}]}
    for number, turn in enumerate(turns):
        image, box = thing(2 * number)
        save(image, folder / f"p{number}.jpg", turn)
        box = stored_box(box, turn) if labeled == "stored" else box
        swapped = labeled == "stored" and turn > 4
        declared = dict(zip(("width", "height"), SIDES[::-1] if swapped else SIDES, strict=True)) if sizes else {}
        content["images"].append({"id": number, "file_name": f"p{number}.jpg", **declared})
        place = [box.left, box.top, box.right - box.left, box.bottom - box.top]
        content["annotations"].append({"id": number, "image_id": number, "category_id": 1, "bbox": place})
    (folder / "a.json").write_text(json.dumps(content))
    return str(folder / "a.json")


@pytest.mark.parametrize("labeled", ["upright", "stored"])
def test_a_declared_size_says_which_way_up_boxes_are_meant(tmp_path: Path, labeled: str) -> None:
    """Those whose size shows nothing (2, 3, 4) follow the others of the source."""
    found = load(coco(tmp_path, list(range(1, 9)), labeled, sizes=True))
    assert [boxes.loads(label) for label in found.labels] == [[thing(2 * n)[1]] for n in range(8)]
    said = codes(found)["orientation"].message
    assert "7 pictures were noted as turned by a camera (EXIF)" in said
    assert ("the upright picture" if labeled == "upright" else "the picture as it is stored") in said


def test_where_no_size_shows_it_labels_are_taken_as_upright_and_it_is_told(tmp_path: Path) -> None:
    found = load(coco(tmp_path, [3, 3], "upright", sizes=True))
    assert [boxes.loads(label) for label in found.labels] == [[thing(0)[1]], [thing(2)[1]]]
    assert codes(found)["orientation"].level == "warning"
    assert "does not show it" in codes(found)["orientation"].message


def test_a_source_that_shows_both_ways_refuses_what_could_be_either(tmp_path: Path) -> None:
    source = coco(tmp_path, [6, 6, 3], "upright", sizes=True)
    content = json.loads(Path(source).read_text())
    content["images"][0].update(width=SIDES[1], height=SIDES[0])
    content["annotations"][0]["bbox"] = [10, 10, 10, 20]
    Path(source).write_text(json.dumps(content))
    with pytest.raises(
        errors.DataProblem, match=r"p2\.jpg \(a camera noted it as turned, and its boxes fit both ways\)"
    ):
        load(source)


def test_boxes_that_fit_one_way_only_show_it_too(tmp_path: Path) -> None:
    source = coco(tmp_path, [6], "upright", sizes=False)
    content = json.loads(Path(source).read_text())
    content["annotations"][0]["bbox"] = [35, 3, 20, 10]
    Path(source).write_text(json.dumps(content))
    assert boxes.loads(load(source).labels[0])[0].corners == (35, 3, 55, 13)
    content["annotations"][0]["bbox"] = [3, 35, 10, 20]
    Path(source).write_text(json.dumps(content))
    assert boxes.loads(load(source).labels[0])[0].corners == (5, 3, 25, 13)


def test_voc_says_it_by_its_size(tmp_path: Path) -> None:
    image, box = thing(0)
    lying = stored_box(box, 6)
    for number, (one, sides) in enumerate(((box, SIDES), (lying, SIDES[::-1]))):
        save(image, tmp_path / f"v{number}" / "JPEGImages" / "a.jpg", 6)
        (tmp_path / f"v{number}" / "Annotations").mkdir()
        places = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), one.corners, strict=True))
        (tmp_path / f"v{number}" / "Annotations" / "a.xml").write_text(
            f"<annotation><size><width>{sides[0]}</width><height>{sides[1]}</height></size><object><name>red</name>"
            f"<bndbox>{places}</bndbox></object></annotation>"
        )
        assert boxes.loads(load(str(tmp_path / f"v{number}")).labels[0]) == [box]


def test_shares_are_of_the_upright_picture(tmp_path: Path) -> None:
    image, box = thing(0)
    save(image, tmp_path / "images" / "a.jpg", 6)
    (tmp_path / "labels").mkdir()
    middle = ((box.left + box.right) / 2 / SIDES[0], (box.top + box.bottom) / 2 / SIDES[1])
    (tmp_path / "labels" / "a.txt").write_text(f"0 {middle[0]} {middle[1]} {20 / SIDES[0]} {10 / SIDES[1]}")
    (tmp_path / "classes.txt").write_text("red\n")
    found = load(str(tmp_path))
    assert boxes.loads(found.labels[0]) == [box]
    assert "1 picture was noted as turned" in codes(found)["orientation"].message


def test_columns_of_sizes_say_it_in_tables(tmp_path: Path) -> None:
    image, box = thing(0)
    save(image, tmp_path / "a.jpg", 6)
    for one, sides in ((box, SIDES), (stored_box(box, 6), SIDES[::-1])):
        row = dict(zip(("xmin", "ymin", "xmax", "ymax"), one.corners, strict=True))
        table = pd.DataFrame([{"image": "a.jpg", "label": "red", "width": sides[0], "height": sides[1], **row}])
        table.to_csv(tmp_path / "a.csv", index=False)
        assert boxes.loads(load(str(tmp_path / "a.csv")).labels[0]) == [box]


def masked(folder: Path, turns: list[int], labeled: str, sides: tuple[int, int] = SIDES) -> Path:
    for number, turn in enumerate(turns):
        image, box = thing(number, sides)
        save(image, folder / "images" / f"{number}.jpg", turn)
        mask = Image.new("L", sides, 0)
        mask.paste(1, tuple(map(int, box.corners)))  # type: ignore[call-overload]
        if labeled == "stored":
            mask = decoding.turned(mask, BACK.get(turn, turn))
        (folder / "masks").mkdir(exist_ok=True)
        mask.save(folder / "masks" / f"{number}.png")
    (folder / "classes.txt").write_text("ground\nthing\n")
    return folder


@pytest.mark.parametrize("labeled", ["upright", "stored"])
def test_masks_lie_on_their_pictures_either_way(ws: Workspace, tmp_path: Path, labeled: str) -> None:
    source = str(masked(tmp_path / "m", [1, 6, 8, 3, 5], labeled))
    found = load(source, keep=ws.root / "pictures")
    for path, mask in zip(found.texts, found.masks, strict=True):
        box = thing(int(Path(path).stem))[1]
        there = np.argwhere(masks.read(mask) == 1)
        assert (*there.min(0)[::-1], *(there.max(0)[::-1] + 1)) == box.corners
        scenes = Scenes([path], min(SIDES), [mask])
        assert scenes.picture(0).info["size"] == SIDES == scenes.mask(0).size
    assert ("upright" if labeled == "upright" else "stored") in codes(found)["orientation"].message
    again = build("m", source, workspace=ws)
    assert build("m", source, workspace=ws).fingerprint == again.fingerprint


def test_square_masks_are_taken_as_upright_and_it_is_told(tmp_path: Path) -> None:
    found = load(str(masked(tmp_path / "m", [6, 6], "upright", (40, 40))))
    assert codes(found)["orientation"].level == "warning"
    assert "The size of 2 pictures does not show it" in codes(found)["orientation"].message


def test_answers_are_in_pixels_of_the_upright_picture(tmp_path: Path) -> None:
    """Boxes and masks that a model finds are scaled to the sides of `outer`."""
    path = save(thing(0)[0], tmp_path / "a.jpg", 6)
    batch = Scenes([str(path)], 32).whole([0])
    assert batch["outer"].tolist() == [list(SIDES)]
    assert batch["inner"].tolist() == [[48, 32]]
