"""VOC folders as people have them: names are cleaned, lists are read, what is missing is counted."""

from pathlib import Path

import pytest

from sft_magics.core import errors
from sft_magics.datasets import load
from sft_magics.datasets.annotations import boxes
from tests.datasets.house import codes, save, thing

COUNT = 6


def xml(number: int, name: str | None = None, more: str = "") -> str:
    box = thing(number)[1]
    places = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box.corners, strict=True))
    said = f"<name>{box.label if name is None else name}</name>" if name != "" else ""
    return f"<annotation><object>{said}<bndbox>{places}</bndbox>{more}</object></annotation>"


def folder(root: Path, images: str = "JPEGImages", notes: str = "Annotations") -> Path:
    for number in range(COUNT):
        save(thing(number)[0], root / images / f"v {number}.png")
        (root / notes).mkdir(exist_ok=True)
        (root / notes / f"v {number}.xml").write_text(xml(number))
    return root


PLAIN = [[thing(number)[1]] for number in range(COUNT)]


@pytest.mark.parametrize(
    ("images", "notes"),
    [("JPEGImages", "Annotations"), ("images", "annotations"), ("images", "Annotations"), (".", ".")],
)
def test_pictures_and_notes_lie_in_folders_or_side_by_side(tmp_path: Path, images: str, notes: str) -> None:
    found = load(str(folder(tmp_path, images, notes)))
    assert [boxes.loads(label) for label in found.labels] == PLAIN


def test_the_folders_of_splits_above_them_are_read(tmp_path: Path) -> None:
    folder(tmp_path / "train", ".", ".")
    save(thing(9)[0], tmp_path / "valid" / "w.png")
    (tmp_path / "valid" / "w.xml").write_text(xml(9))
    assert load(str(tmp_path)).splits == ["train"] * COUNT + ["validation"]


def test_names_are_cleaned(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "Annotations" / "v 0.xml").write_text(xml(0, " red \n"))
    assert load(str(root)).names == ("blue", "red")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (xml(0, ""), "object 1 of v 0.xml: a box has no class"),
        (xml(0, "  "), "object 1 of v 0.xml: a box has no class"),
        (xml(0).replace("bndbox", "robndbox"), "object 1 of v 0.xml: it has no bndbox"),
        (xml(0).replace("xmax", "xmaks"), "object 1 of v 0.xml: it has no bndbox with xmin, ymin, xmax and ymax"),
        ("<annotation><object>", "v 0.xml cannot be read as a VOC annotation"),
    ],
)
def test_bad_notes_are_named_and_left_out(tmp_path: Path, text: str, fault: str) -> None:
    root = folder(tmp_path)
    good = xml(0).removeprefix("<annotation>")
    (root / "Annotations" / "v 1.xml").write_text(xml(0, "").replace("</annotation>", "") + good)
    (root / "Annotations" / "v 0.xml").write_text(text)
    with pytest.raises(errors.DataProblem, match=f"2 files of.*{fault}"):
        load(str(root))
    found = load(str(root), broken="skip")
    assert len(found) == COUNT - 1, "the other box of v 1 is good"
    assert "1 broken box was left out: v 1.png" in codes(found)["broken_boxes"].message


def test_lists_are_the_split_whatever_their_lines_end_in(tmp_path: Path) -> None:
    root = folder(tmp_path)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\ufeffv 0\nv 1\n   \nv 2\ngone\n", encoding="utf-8")
    (lists / "val.txt").write_bytes(b"v 3  1\r\nv 4 -1\r\n\r\n")
    found = load(str(root))
    assert found.splits == ["train"] * 3 + [None] * 3, "a name with a space in it and a flag is no name of a picture"
    assert "3 names in the lists of ImageSets have no annotation" in codes(found)["unlisted"].message
    for path in root.rglob("v *"):
        path.rename(path.with_name(path.name.replace(" ", "")))
    (lists / "train.txt").write_text("v0\nv1\n   \nv2 1\n")
    (lists / "val.txt").write_bytes(b"v3  1\r\nv4 -1\r\nv5\r\n")
    assert load(str(root)).splits == ["train"] * 3 + ["validation"] * 3
    (lists / "test.txt").write_text("v3")
    with pytest.raises(errors.DataProblem, match="'v3' stands in"):
        load(str(root))


def test_what_is_left_out_or_marked_is_counted(tmp_path: Path) -> None:
    root = folder(tmp_path)
    save(thing(7)[0], root / "JPEGImages" / "bare.png")
    (root / "Annotations" / "v 0.xml").write_text(xml(0, more="<difficult>1</difficult>"))
    (root / "Annotations" / "._v 0.xml").write_bytes(b"\x00\x05junk")
    found = load(str(root))
    assert len(found) == COUNT
    assert "1 picture without an XML file" in codes(found)["missing_labels"].message
    assert "1 box is marked as difficult" in codes(found)["difficult"].message
