"""YOLO folders as people have them: classes by any names, outlines, splits of the .yaml file, junk of other systems."""

from collections import Counter
from pathlib import Path

import pytest

from sft_magics.core import errors
from sft_magics.datasets import load
from sft_magics.datasets.annotations import boxes
from tests.datasets.house import SIDES, codes, save, thing

COUNT = 6
SET_AND_NAMES = "train: {}\nval: {}\nnames: [red, blue]\n"


def shares(number: int) -> tuple[float, float, float, float]:
    box = thing(number)[1]
    return (
        (box.left + box.right) / 2 / SIDES[0], (box.top + box.bottom) / 2 / SIDES[1], 20 / SIDES[0], 10 / SIDES[1],
    )  # fmt: skip


def line(number: int, kind: object = None) -> str:
    return " ".join(map(str, (number % 2 if kind is None else kind, *shares(number)))) + "\r\n"


def outline(number: int) -> str:
    x, y, wide, high = shares(number)
    corners = [(x - wide / 2, y - high / 2), (x + wide / 2, y - high / 2), (x, y + high / 2)]
    return f"{number % 2} " + " ".join(f"{a} {b}" for a, b in corners)


def folder(
    root: Path, yaml: str | None = "names: [red, blue]", images: str = "images", numbers: range = range(COUNT)
) -> Path:
    labels = "labels".join(images.rsplit("images", 1))
    for number in numbers:
        save(thing(number)[0], root / images / f"y{number}.png")
        (root / labels).mkdir(parents=True, exist_ok=True)
        (root / labels / f"y{number}.txt").write_bytes(line(number).encode())
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return root


PLAIN = [[thing(number)[1]] for number in range(COUNT)]


def near(found: list[str], wanted: list[list[boxes.Box]]) -> None:
    for label, row in zip(found, wanted, strict=True):
        for one, other in zip(boxes.loads(label), row, strict=True):
            assert (one.label, one.corners) == (other.label, pytest.approx(other.corners, abs=0.06))


@pytest.mark.parametrize(
    "yaml",
    [
        "names: [red, blue]", "names:\n  0: red\n  1: blue", "names:\n  '0': red\n  '1': blue",
        "names: [' red', \"blue \\n\"]", "# nothing\nnc: 2\nnames: {1: blue, 0: red}",
    ],
)  # fmt: skip
def test_names_are_a_list_or_numbered(tmp_path: Path, yaml: str) -> None:
    found = load(str(folder(tmp_path, yaml)))
    near(found.labels, PLAIN)
    assert found.names == ("red", "blue")


@pytest.mark.parametrize("numbers", [(1, 2), (0, 5), (7, 3)])
def test_numbers_may_begin_anywhere_and_have_gaps(tmp_path: Path, numbers: tuple[int, int]) -> None:
    root = folder(tmp_path, f"names:\n  {numbers[0]}: red\n  {numbers[1]}: blue")
    for number in range(COUNT):
        (root / "labels" / f"y{number}.txt").write_text(line(number, numbers[number % 2]))
    near(load(str(root)).labels, PLAIN)
    (root / "labels" / "y0.txt").write_text(line(0, 4))
    with pytest.raises(errors.DataProblem, match=r"line 1 is of class 4, and there are 2, of the numbers"):
        load(str(root))


@pytest.mark.parametrize("place", ["classes.txt", "labels/classes.txt", "obj.names"])
def test_names_may_stand_in_a_list(tmp_path: Path, place: str) -> None:
    root = folder(tmp_path, None)
    (root / place).write_text("red\nblue\n")
    near(load(str(root)).labels, PLAIN)
    (root / place).write_text("red\n\nblue\n")
    with pytest.raises(errors.DataProblem, match="empty line between classes"):
        load(str(root))


def test_of_several_yaml_files_the_one_of_the_usual_name_counts(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "a.yaml").write_text("names: [hyp, other]")
    near(load(str(root)).labels, PLAIN)
    (root / "data.yaml").rename(root / "things.yaml")
    with pytest.raises(errors.DataProblem, match=r"several \.yaml files with names of classes: a\.yaml, things\.yaml"):
        load(str(root))
    (root / "things.yaml").write_text(SET_AND_NAMES.format("images", "images"))
    near(load(str(root)).labels, PLAIN)
    (root / "classes.txt").write_text("blue\nred\n")
    with pytest.raises(errors.DataProblem, match="name the classes otherwise"):
        load(str(root))


def test_outlines_and_boxes_may_be_mixed(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for number in (0, 3):
        (root / "labels" / f"y{number}.txt").write_text(outline(number))
    found = load(str(root))
    near(found.labels, PLAIN)
    assert "2 outlines were read as the box around it" in codes(found)["outlines"].message


def test_key_points_after_a_box_are_passed_over(tmp_path: Path) -> None:
    root = folder(tmp_path, "names: [red, blue]\nkpt_shape: [2, 2]")
    for number in range(COUNT):
        (root / "labels" / f"y{number}.txt").write_text(line(number).strip() + " 0.1 0.1 0.9 0.9")
    near(load(str(root)).labels, PLAIN)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0.5 0.5 0.5 0.1 0.1", "line 2 is of class 0.5, which is no whole number"),
        ("-1 0.5 0.5 0.1 0.1", "line 2 is of class -1, which is no whole number"),
        ("red 0.5 0.5 0.1 0.1", "line 2 is no line of numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 2 has 6 numbers.*an answer with its confidence"),
        ("0 0.5 0.5 0.1", "line 2 has 4 numbers"),
        ("0 30 20 20 10", "a box leaves the picture"),
        ("0 0.5 0.5 0 0.1", "a box has no area"),
    ],
)
def test_a_bad_line_spoils_one_box(tmp_path: Path, text: str, fault: str) -> None:
    root = folder(tmp_path)
    (root / "labels" / "y0.txt").write_text(f"{line(0, '0.0')}\n{text}".replace("\r\n\n", "\n"))
    with pytest.raises(errors.DataProblem, match=rf"y0\.png \(.*{fault}"):
        load(str(root))
    found = load(str(root), broken="skip")
    near(found.labels, PLAIN)
    assert "1 broken box was left out: y0.png" in codes(found)["broken_boxes"].message


def test_what_other_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "images" / "._y0.png").write_bytes(b"junk")
    (root / "labels" / "._y0.txt").write_bytes(b"\xff\xfe junk")
    (root / "._data.yaml").write_bytes(b"\xff\xfe junk")
    (root / "labels" / "y1.txt").write_bytes(b"\xef\xbb\xbf" + line(1).encode())
    found = load(str(root))
    near(found.labels, PLAIN)
    assert found.findings == ()


def test_what_has_no_partner_is_counted(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "labels" / "y0.txt").rename(root / "labels" / "z.txt")
    found = load(str(root))
    assert found.labels[0] == "[]"
    assert "1 picture without a text file" in codes(found)["no_boxes"].message
    assert "1 text file of boxes have no picture" in codes(found)["stray_labels"].message


def split_counts(root: Path) -> dict[str | None, int]:
    return dict(Counter(load(str(root)).splits))


@pytest.mark.parametrize(
    "yaml", [None, "names: [red, blue]", SET_AND_NAMES.format("../train/images", "../valid/images")]
)
@pytest.mark.parametrize(
    ("train", "val"),
    [("images/train2017", "images/val2017"), ("images/Train", "images/valid"), ("train/images", "valid/images")],
)
def test_folders_of_splits_are_read(tmp_path: Path, yaml: str | None, train: str, val: str) -> None:
    folder(tmp_path, yaml, train, range(4))
    folder(tmp_path, yaml, val, range(4, 6))
    assert split_counts(tmp_path) == {"train": 4, "validation": 2}


def test_the_yaml_file_says_which_folders_are_which_split(tmp_path: Path) -> None:
    yaml = "path: .\n" + SET_AND_NAMES.format("images/first", "images/second")
    folder(tmp_path, yaml, "images/first", range(4))
    folder(tmp_path, yaml, "images/second", range(4, 6))
    folder(tmp_path, yaml, "images/third", range(6, 8))
    assert split_counts(tmp_path) == {"train": 4, "validation": 2}
    assert "does not name images/third" in codes(load(str(tmp_path)))["unnamed_folder"].message


def test_one_folder_for_both_splits_is_split_by_us_and_told(tmp_path: Path) -> None:
    found = load(str(folder(tmp_path, SET_AND_NAMES.format("images/a", "images/a"), "images/a")))
    assert set(found.splits) == {None}
    assert len(found) == COUNT
    assert "val names the same folder as train" in codes(found)["same_folder"].message


def test_pictures_of_no_split_beside_splits_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, None, "images/train", range(4))
    folder(tmp_path, None, "images/val", range(4, 6))
    folder(tmp_path, None, "images/extra", range(6, 8))
    with pytest.raises(errors.DataProblem, match="beside images/extra: splits, and pictures of no split"):
        load(str(tmp_path))


def test_sets_that_are_not_here_are_told(tmp_path: Path) -> None:
    found = load(str(folder(tmp_path, SET_AND_NAMES.format("train.txt", "val.txt"))))
    assert "that the .yaml file names for train and val are not here" in codes(found)["unfound_sets"].message
