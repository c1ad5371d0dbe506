"""COCO files as people have them: nothing is lost in silence, one bad note spoils one box, errors name the format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core import errors
from sft_magics.datasets import load
from sft_magics.datasets.annotations import boxes
from tests.datasets.house import SIDES, codes, save, thing

COUNT = 6
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Six pictures with a box each, red (3) and blue (17) in turn; the sizes are declared."""
    content: dict[str, Any] = {
        "images": [], "annotations": [], "categories": [{"id": 17, "name": "blue"}, {"id": 3, "name": "red"}],
    }  # fmt: skip
    for number in range(COUNT):
        image, box = thing(number)
        save(image, tmp_path / f"p{number}.png")
        sizes = {"width": SIDES[0], "height": SIDES[1]}
        content["images"].append({"id": 100 + number, "file_name": f"p{number}.png", **sizes})
        place = [box.left, box.top, box.right - box.left, box.bottom - box.top]
        kind = {"red": 3, "blue": 17}[box.label]
        note = {"id": number, "image_id": 100 + number, "category_id": kind, "bbox": place, "iscrowd": 0}
        content["annotations"].append(note)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    return path


def change(file: Path, how: Change) -> str:
    content = json.loads(file.read_text())
    how(content)
    file.write_text(json.dumps(content))
    return str(file)


def note(**said: Any) -> Change:
    usual = {"id": 99, "image_id": 100, "category_id": 3, "bbox": [30, 20, 10, 10]}
    return lambda c: c["annotations"].append({k: v for k, v in (usual | said).items() if v is not None})


def every(file: str, **options: Any) -> list[list[boxes.Box]]:
    return [boxes.loads(label) for label in load(file, **options).labels]


PLAIN = [[thing(number)[1]] for number in range(COUNT)]


def strings(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["id"] = f"img-{image['id']}"
    for one in content["annotations"]:
        one["image_id"] = f"img-{one['image_id']}"


def backslashes(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["file_name"] = "images\\" + image["file_name"]


def elsewhere(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["file_name"] = "/home/somebody/pictures/" + image["file_name"]


def spaces(content: dict[str, Any]) -> None:
    for category in content["categories"]:
        category["name"] += " \n"


def text_numbers(content: dict[str, Any]) -> None:
    for one in content["annotations"]:
        one["bbox"] = [str(n) for n in one["bbox"]]
        one["image_id"] = str(one["image_id"])


@pytest.mark.parametrize("how", [strings, backslashes, elsewhere, spaces, text_numbers])
def test_other_spellings_are_the_same_file(file: Path, how: Change) -> None:
    found = load(change(file, how))
    assert [boxes.loads(label) for label in found.labels] == PLAIN
    assert found.names == ("red", "blue")


def test_boxes_around_crowds_are_left_out_and_told(file: Path) -> None:
    runs = {"counts": [0, 2400], "size": [40, 60]}
    found = load(change(file, note(iscrowd=1, bbox=[0, 0, 60, 40], segmentation=runs)))
    assert [boxes.loads(label) for label in found.labels] == PLAIN
    assert "1 box around a crowd was left out" in codes(found)["crowds"].message
    found = load(change(file, lambda c: c["annotations"][3].update(iscrowd=1)))
    assert len(found) == COUNT - 1, "a picture of nothing but a crowd is not an empty one"
    assert "with 1 picture in which nothing else is marked" in codes(found)["crowds"].message


def test_an_outline_without_a_box_is_read_as_the_box_around_it(file: Path) -> None:
    outlines = [[30, 20, 40, 20, 40, 31], [28, 25, 33, 25, 33, 30]]
    found = load(change(file, note(bbox=None, segmentation=outlines)))
    assert boxes.loads(found.labels[0])[-1].corners == (28, 20, 40, 31)
    assert codes(found)["outlines"].message.startswith("1 outline was read")
    flat = load(change(file, lambda c: c["annotations"][-1].update(segmentation=[28, 20, 40, 20, 40, 31])))
    assert flat.labels == found.labels


def test_an_image_listed_twice_is_one_picture_with_the_boxes_of_both(file: Path) -> None:
    change(file, lambda c: c["images"].append({"id": 900, "file_name": "p0.png"}))
    found = load(change(file, note(image_id=900, category_id=17)))
    assert len(found) == COUNT
    assert [b.label for b in boxes.loads(found.labels[0])] == ["blue", "red"]
    assert "1 picture is listed more than once" in codes(found)["joined_pictures"].message


def test_categories_of_one_name_are_one_class(file: Path) -> None:
    found = load(change(file, lambda c: c["categories"].append({"id": 4, "name": "red "})))
    assert found.names == ("red", "blue")
    assert "'red' is the name of 3, 4" in codes(found)["joined_classes"].message


def test_the_same_box_twice_counts_once(file: Path) -> None:
    found = load(change(file, lambda c: c["annotations"].append(dict(c["annotations"][0], id=50))))
    assert [boxes.loads(label) for label in found.labels] == PLAIN
    assert "1 box repeats one" in codes(found)["repeated_boxes"].message


def test_boxes_that_reach_a_pixel_beyond_their_picture_are_clipped_and_counted(file: Path) -> None:
    assert "clipped_boxes" not in codes(load(file))
    found = load(change(file, note(bbox=[50, 5, 11, 10])))
    assert boxes.loads(found.labels[0])[-1].right == 60
    message = codes(found)["clipped_boxes"].message
    assert message == "1 box reached at most one pixel beyond its picture and was clipped."
    tiny = load(change(file, lambda c: c["annotations"][-1].update(bbox=[50, 5, 10.00001, 10])))
    assert "clipped_boxes" not in codes(tiny), "rounding of the file is no overhang"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"bbox": []}, "annotation 99: it has no bbox"),
        ({"bbox": [1, 2, 3]}, "annotation 99: its bbox has 3 numbers, not 4"),
        ({"bbox": [5, 5, 0, 10]}, "a box has no area"),
        ({"bbox": [50, 5, 30, 10]}, "a box leaves the picture of 60 x 40"),
        ({"bbox": [5, 5, float("nan"), 10]}, "a box has no area"),
        ({"bbox": ["a", 5, 3, 10]}, "annotation 99: could not convert"),
        ({"bbox": None, "segmentation": {"counts": "xx", "size": [40, 60]}}, "annotation 99: it has no bbox"),
        ({"category_id": 8}, "annotation 99 is of category 8, which is not listed"),
    ],
)
def test_one_bad_note_spoils_one_box(file: Path, said: dict[str, Any], fault: str) -> None:
    source = change(file, note(**said))
    with pytest.raises(errors.DataProblem, match=rf"p0\.png \({fault}"):
        load(source)
    found = load(source, broken="skip")
    assert [boxes.loads(label) for label in found.labels] == PLAIN
    assert "1 broken box was left out: p0.png" in codes(found)["broken_boxes"].message


def test_a_picture_that_loses_its_only_box_is_left_out(file: Path) -> None:
    source = change(file, lambda c: c["annotations"][2].update(bbox=[5, 5, 0, 1]))
    assert every(source, broken="skip") == PLAIN[:2] + PLAIN[3:]


def test_a_note_of_an_image_that_is_not_listed_is_refused_or_counted(file: Path) -> None:
    source = change(file, note(image_id=99_999))
    with pytest.raises(errors.DataProblem, match="annotation 99 is of image 99999"):
        load(source)
    found = load(source, broken="skip")
    assert [boxes.loads(label) for label in found.labels] == PLAIN
    assert "1 annotation" in codes(found)["orphans"].message


def test_a_declared_size_that_is_not_the_pictures_is_refused(file: Path) -> None:
    source = change(file, lambda c: c["images"][1].update(width=120, height=80))
    with pytest.raises(errors.DataProblem, match=r"p1\.png \(its labels are for 120 x 80 pixels, and it is 60 x 40\)"):
        load(source)
    assert len(load(source, broken="skip")) == COUNT - 1
    assert len(load(change(file, lambda c: c["images"][1].update(width=0, height=0)))) == COUNT, "0 is not declared"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda c: c.pop("annotations"), "it has no list called annotations"),
        (lambda c: c["images"][0].pop("file_name"), "an image has no id or no file_name"),
        (lambda c: c["images"][0].update(id=101), "two images have the same id"),
        (lambda c: c["categories"][0].update(name=" "), "a category has no id or no name"),
        (lambda c: c["annotations"].append(7), "annotation 7 is no object"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_the_format_that_was_guessed(
    file: Path, how: Change, said: str
) -> None:
    with pytest.raises(errors.DataProblem, match=f"was taken for a COCO file of boxes, and is no such file: {said}"):
        load(change(file, how))


def test_a_folder_with_one_file_is_that_file_and_another_json_is_none(file: Path, tmp_path: Path) -> None:
    file.rename(tmp_path / "labels.json")
    assert every(str(tmp_path)) == PLAIN
    (tmp_path / "labels.json").write_text('{"0": "cat"}')
    for number in range(4):
        save(thing(number)[0], tmp_path / "ab"[number % 2] / f"{number}.png")
    assert load(str(tmp_path)).task == "image-classification"


def test_folders_of_files_keep_their_splits(file: Path, tmp_path: Path) -> None:
    content = json.loads(file.read_text())
    flow, usual = tmp_path / "flow", tmp_path / "usual"
    (usual / "annotations").mkdir(parents=True)
    for part, year, ids in (("train", "train2017", {100, 101, 102, 103}), ("valid", "val2017", {104, 105})):
        for folder in (flow / part, usual / year):
            folder.mkdir(parents=True)
            for number in ids:
                (folder / f"p{number - 100}.png").write_bytes((tmp_path / f"p{number - 100}.png").read_bytes())
        text = json.dumps({
            "images": [i for i in content["images"] if i["id"] in ids],
            "annotations": [a for a in content["annotations"] if a["image_id"] in ids],
            "categories": content["categories"],
        })  # fmt: skip
        (flow / part / "_annotations.coco.json").write_text(text)
        (usual / "annotations" / f"instances_{year}.json").write_text(text)
        (usual / "annotations" / f"captions_{year}.json").write_text("{}")
    for source in (flow, usual):
        found = load(str(source))
        assert [boxes.loads(label) for label in found.labels] == PLAIN
        assert found.splits == ["train"] * 4 + ["validation"] * 2
