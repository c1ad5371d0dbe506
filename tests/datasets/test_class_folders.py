"""Folders of classes: splits are read wherever they lie, or the odd folder is named; no split is ever a class."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.datasets import load
from tests.datasets.house import codes

PAIR = ("cat", "dog")


def fill(root: Path, *places: str) -> Path:
    """Write two pictures into each place; all of them differ."""
    for place in places:
        (root / place).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            tint = sum(map(ord, place)) % 200
            Image.new("RGB", (9, 9), (tint, len(place), number)).save(root / place / f"{number}.png")
    return root


def both(*folders: str) -> list[str]:
    return [f"{folder}/{name}".strip("/") for folder in folders for name in PAIR]


READ: dict[str, tuple[list[str], dict[str | None, int]]] = {
    "classes": (both(""), {None: 4}),
    "splits": (both("train", "val"), {"train": 4, "validation": 4}),
    "wrapped": (both("pets"), {None: 4}),
    "wrapped splits": (both("data/train", "data/val"), {"train": 4, "validation": 4}),
    "wrapped twice": (both("a/b/Train", "a/b/TEST"), {"train": 4, "test": 4}),
    "split in split": (both("train/train", "val/val"), {"train": 4, "validation": 4}),
    "images in split": (both("train/images", "val/images"), {"train": 4, "validation": 4}),
    "class first": (["cat/train", "cat/val", "dog/train", "dog/val"], {"train": 4, "validation": 4}),
    "wrapped class first": (["d/cat/train", "d/dog/train", "d/dog/val"], {"train": 4, "validation": 2}),
    "one split": (both("train"), {"train": 4}),
    "one split, wrapped": (both("train/images"), {"train": 4}),
    "below a class": (["cat/a", "cat/b", "dog/c"], {None: 6}),
    "hidden beside": ([*both("train", "val"), "__MACOSX/train/cat", ".cache/dog"], {"train": 4, "validation": 4}),
}


@pytest.mark.parametrize("name", READ)
def test_splits_and_classes_are_read(tmp_path: Path, name: str) -> None:
    places, counts = READ[name]
    found = load(str(fill(tmp_path / "set", *places)))
    assert sorted(set(found.labels)) == list(PAIR)
    assert dict(Counter(found.splits)) == counts


REFUSED: dict[str, tuple[list[str], str]] = {
    "a folder beside the splits": ([*both("train", "val"), "extra/cat"], "train, val beside extra"),
    "the set once more beside its splits": (
        [*both("train", "val"), *both("pets/train", "pets/val")], "train, val beside pets",
    ),
    "unlabeled pictures beside classes": ([*both(""), "test"], "test beside cat, dog"),
    "a class that is called like a split": (["cat", "dog", "dev"], "dev beside cat, dog"),
    "two sets": (both("a/train", "a/val", "b/train", "b/val"), "a has train, val, with classes in them"),
    "a split among classes of a split": ([*both("train"), "train/test", "val/cat"], "a folder test where classes are"),
    "a split in one class only": (["cat/train", "cat/more", "dog/x"], "cat/train"),
    "a split deep in a class": (["cat/2020/train", "cat/2021", "dog/x"], "2020/train"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_either_is_refused_by_name(tmp_path: Path, name: str) -> None:
    places, said = REFUSED[name]
    with pytest.raises(errors.DataProblem, match=said):
        load(str(fill(tmp_path / "set", *places)))


def test_pictures_of_no_class_are_counted(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", *both("train"), "test")
    (root / "train" / "cat" / "phone.heic").write_bytes(b"x")
    found = load(str(root))
    assert len(found) == 4
    assert "2 pictures lie in no folder of a class" in codes(found)["unlabeled"].message
    assert "1 file was left out, of formats not read: .heic" in codes(found)["unread_formats"].message


def test_a_class_without_pictures_is_an_empty_one(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", *both(""))
    (root / "bird").mkdir()
    assert load(str(root)).empty_classes == ("bird",)
    split = fill(tmp_path / "split", *both("train", "val"))
    (split / "docs").mkdir()
    (split / "train" / "bird").mkdir()
    assert load(str(split)).empty_classes == ("bird",)


def test_names_are_composed_so_that_two_systems_agree(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", "train/caf\u00e9", "val/cafe\u0301", "train/dog", "val/dog")
    assert sorted(set(load(str(root)).labels)) == ["caf\u00e9", "dog"]
