"""Pictures with marks: COCO, VOC and mask folders; every fault is named by its file; the samples are what they say."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.records import Dataset
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, rows
from sft_magics.datasets.annotations import annotation_render, boxes, masks
from tests import shapes


def made(source: object, tmp_path: Path, **options: object) -> Dataset:
    return build("scenes", source, workspace=Workspace(tmp_path / "sft").prepare(), **options)  # type: ignore[arg-type]


def test_a_coco_file_becomes_boxes(tmp_path: Path) -> None:
    file = shapes.coco(tmp_path / "coco", 30)
    dataset = made(str(file), tmp_path)
    assert (dataset.task, dataset.labels) == ("object-detection", ("disc", "square"))
    frame = rows(Workspace(tmp_path / "sft"), dataset)
    assert list(frame.columns) == ["id", "text", "label", "split", "sha256", "pixels"]
    wanted = {f"{seed:03d}.png": shapes.scene(seed)[2] for seed in range(30)}
    for text, label in zip(frame["text"], frame["label"], strict=True):
        assert boxes.loads(label) == boxes.loads(boxes.dumps(wanted[Path(text).name]))
    counted = [b.label for found in wanted.values() for b in found]
    totals = {label: sum(of[label] for of in dataset.class_counts.values()) for label in dataset.labels}
    assert totals == {label: counted.count(label) for label in dataset.labels}
    assert boxes.loads(dataset.examples[0].label)


def test_the_fingerprint_of_boxes_is_of_what_is_in_the_files(tmp_path: Path) -> None:
    one = made(str(shapes.coco(tmp_path / "coco", 12)), tmp_path)
    assert made(str(shapes.coco(tmp_path / "elsewhere", 12)), tmp_path).fingerprint == one.fingerprint
    file = tmp_path / "coco" / "instances.json"
    found = json.loads(file.read_text())
    found["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(found))
    assert made(str(file), tmp_path).fingerprint != one.fingerprint


def test_wrong_boxes_and_missing_pictures_are_named_and_refused_or_left_out(tmp_path: Path) -> None:
    file = shapes.coco(tmp_path / "coco", 20)
    found = json.loads(file.read_text())
    found["annotations"][0]["bbox"] = [60, 60, 40, 40]
    flat = next(a for a in found["annotations"] if a["image_id"] == 5)
    flat["bbox"][2] = 0
    file.write_text(json.dumps(found))
    (tmp_path / "coco" / "009.png").unlink()
    with pytest.raises(errors.DataProblem) as refused:
        made(str(file), tmp_path)
    for said in ("3 files of", "000.png (a box leaves the picture of 64 x 64)", "005.png (a box has no area)", "009"):
        assert said in refused.value.what
    dataset = made(str(file), tmp_path, broken="skip")
    kept = {
        Path(text).name: label for text, label in rows(Workspace(tmp_path / "sft"), dataset)[["text", "label"]].values
    }
    alone = [name for name in ("000.png", "005.png") if len(shapes.scene(int(name[:3]))[2]) == 1]
    assert len(kept) == 19 - len(alone), "a picture that lost one of its boxes stays, one that lost all goes"
    assert all(len(boxes.loads(kept[name])) == 1 for name in ("000.png", "005.png") if name not in alone)
    assert "1 broken image was left out: 009.png" in dataset.findings[0].message


VOC = (
    "<annotation><object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    "</object></annotation>"
)


def test_a_folder_in_the_voc_layout_with_its_split(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for seed in range(12):
        picture, _, (box, *_) = shapes.scene(seed)
        picture.save(root / "JPEGImages" / f"{seed}.jpg")
        (root / "Annotations" / f"{seed}.xml").write_text(VOC.format(box.label, *box.corners))
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(str(s) for s in range(9)))
    (root / "ImageSets" / "Main" / "val.txt").write_text("9\n10\n11\n")
    dataset = made(str(root), tmp_path)
    assert dataset.task == "object-detection"
    assert dataset.counts == {"train": 9, "validation": 3}
    (root / "Annotations" / "3.xml").write_text("<annotation><object>")
    with pytest.raises(errors.DataProblem, match=r"3\.xml cannot be read as a VOC annotation"):
        made(str(root), tmp_path)


def test_a_folder_of_masks_becomes_a_dataset(tmp_path: Path) -> None:
    root = shapes.masks_folder(tmp_path / "masks", 16, 4)
    dataset = made(str(root), tmp_path)
    assert (dataset.task, dataset.labels) == ("semantic-segmentation", shapes.CLASSES)
    assert dataset.counts == {"train": 16, "validation": 4}
    frame = rows(Workspace(tmp_path / "sft"), dataset)
    assert list(frame.columns) == ["id", "text", "label", "split", "sha256", "pixels", "mask"]
    for text, label, mask in zip(frame["text"], frame["label"], frame["mask"], strict=True):
        assert Path(text).name == Path(mask).name
        assert label == ", ".join(shapes.CLASSES[n] for n in sorted(set(masks.read(mask).ravel().tolist())))
    other = root.rename(tmp_path / "moved")
    assert made(str(other), tmp_path).fingerprint == dataset.fingerprint
    Image.new("L", (64, 64), 1).save(other / "train" / "masks" / "003.png")
    assert made(str(other), tmp_path).fingerprint != dataset.fingerprint


def test_masks_that_do_not_fit_are_named_and_refused_or_left_out(tmp_path: Path) -> None:
    root = shapes.masks_folder(tmp_path / "masks", 16, 4)
    Image.new("L", (32, 64), 0).save(root / "train" / "masks" / "001.png")
    Image.new("RGB", (64, 64), (0, 0, 9)).save(root / "train" / "masks" / "002.png")
    Image.new("L", (64, 64), 9).save(root / "val" / "masks" / "016.png")
    with pytest.raises(errors.DataProblem) as refused:
        made(str(root), tmp_path)
    said = refused.value.what
    assert "001.png (it is 32 x 64 pixels, and its picture 64 x 64)" in said
    assert "002.png (it is in color (RGB)" in said
    assert "016.png (it has the number 9, and there are 3 classes, from 0 on)" in said
    assert sum(made(str(root), tmp_path, broken="skip").counts.values()) == 17
    (root / "classes.txt").write_text("one\none\n")
    with pytest.raises(errors.DataProblem, match="each once"):
        made(str(root), tmp_path)


def test_pixels_of_no_class_are_no_class(tmp_path: Path) -> None:
    root = shapes.masks_folder(tmp_path / "masks", 8, 2)
    (root / "classes.txt").unlink()
    Image.new("L", (64, 64), 255).save(root / "train" / "masks" / "000.png")
    dataset = made(str(root), tmp_path)
    assert dataset.labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "taken for a COCO file of boxes, and is no such file: it has no list called images"),
        ("[1, 2]", "taken for a COCO file of boxes, and is no such file: it is no object"),
        ('{"categories": [], "images": [], "annotations": []}', "has no boxes"),
    ],
)
def test_a_json_file_of_another_kind_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(errors.DataProblem, match=said):
        made(str(file), tmp_path)


def test_columns_and_tasks_that_do_not_go_with_a_source_are_refused(tmp_path: Path) -> None:
    root = shapes.masks_folder(tmp_path / "masks", 8, 2)
    with pytest.raises(errors.UsageProblem, match="has no columns"):
        made(str(root), tmp_path, text="a")
    with pytest.raises(errors.DataProblem, match="holds rows for semantic-segmentation, not for object-detection"):
        made(str(root), tmp_path, task="object-detection")


def test_the_earth_is_cut_into_tiles_that_share_nothing(tmp_path: Path) -> None:
    tiles = made("sample:planet", tmp_path)
    assert tiles.labels == ("ocean", "land", "lake")
    assert tiles.counts["train"] > 200
    assert tiles.counts["validation"] >= 47
    assert not [f for f in tiles.findings if f.code == "leak"]
    islands = made("sample:islands", tmp_path)
    assert islands.labels == ("island",)
    assert islands.counts == {"train": 349, "validation": 109}
    relief = made("sample:planet-relief", tmp_path)
    assert sum(relief.counts.values()) == tiles.counts["validation"], "the same places, drawn otherwise"


def width(address: str) -> int:
    """The width of a picture that a data: address holds."""
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return image.width


def test_pictures_show_what_is_marked(tmp_path: Path) -> None:
    picture, mask, found = shapes.scene(3)
    picture.save(tmp_path / "a.png")
    mask.save(tmp_path / "m.png")
    plain = annotation_render.boxed(str(tmp_path / "a.png"), [])
    marked = annotation_render.boxed(str(tmp_path / "a.png"), found)
    tinted = annotation_render.tinted(str(tmp_path / "a.png"), str(tmp_path / "m.png"), labels=("a", "b"))
    assert all(p.startswith("data:image/jpeg;base64,") for p in (plain, marked, tinted))
    assert len({plain, marked, tinted}) == 3
    both = annotation_render.tinted(
        str(tmp_path / "a.png"), masks.read(tmp_path / "m.png"), str(tmp_path / "m.png"), labels=("a", "b")
    )
    assert width(both) == 2 * width(tinted) + 4, "the answer, and to its right the truth"
    assert annotation_render.boxed(str(tmp_path / "gone.png"), found) == ""
    assert annotation_render.tinted(str(tmp_path / "gone.png"), str(tmp_path / "m.png"), labels=()) == ""


def test_masks_of_black_and_white_are_refused_with_what_to_write(tmp_path: Path) -> None:
    root = shapes.masks_folder(tmp_path / "masks", 8, 2)
    (root / "classes.txt").unlink()
    for file in root.rglob("masks/*.png"):
        with Image.open(file) as mask:
            white = mask.point(lambda n: 255 if n else 0)
        white.save(file)
    with pytest.raises(errors.DataProblem, match="are of one class") as refused:
        made(str(root), tmp_path)
    assert "for a thing 1, not 255" in refused.value.next_step


def test_masks_are_paired_by_their_place_not_by_their_bare_name(tmp_path: Path) -> None:
    for number, town in enumerate(("berlin", "rome")):
        for seed in range(6):
            picture, mask, _ = shapes.scene(10 * number + seed)
            for kind, image in (("images", picture), ("masks", mask)):
                (tmp_path / "towns" / kind / town).mkdir(parents=True, exist_ok=True)
                image.save(tmp_path / "towns" / kind / town / f"{seed}.png")
    (tmp_path / "towns" / "classes.txt").write_text("\n".join(shapes.CLASSES))
    dataset = made(str(tmp_path / "towns"), tmp_path)
    frame = rows(Workspace(tmp_path / "sft"), dataset)
    assert len(frame) == 12
    assert all(Path(t).parent.name == Path(m).parent.name for t, m in zip(frame["text"], frame["mask"], strict=True))


def test_a_voc_folder_with_masks_and_boxes_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "Annotations", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for seed in range(8):
        picture, mask, (box, *_) = shapes.scene(seed)
        picture.save(root / "JPEGImages" / f"{seed}.jpg")
        mask.save(root / "SegmentationClass" / f"{seed}.png")
        (root / "Annotations" / f"{seed}.xml").write_text(VOC.format(box.label, *box.corners))
    assert made(str(root), tmp_path).task == "semantic-segmentation"
    assert made(str(root), tmp_path, task="object-detection").task == "object-detection"
