"""Images as data: folders of classes, tables of paths, samples; broken files are named; places do not count."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.records import Dataset
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, load, rows, thumbnail
from sft_magics.datasets.samples import image_samples


def draw(path: Path, color: tuple[int, int, int], side: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side + 8), color).save(path)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Forty pictures of two classes, each of another color."""
    root = tmp_path / "pets"
    for label, red in (("cat", 0), ("dog", 120)):
        for number in range(20):
            draw(root / label / f"{number:02d}.png", (red + number, number, 9))
    return root


def made(source: object, tmp_path: Path, **options: object) -> Dataset:
    return build("pets", source, workspace=Workspace(tmp_path / "sft").prepare(), **options)  # type: ignore[arg-type]


def test_a_folder_of_classes_becomes_a_dataset_of_images(pets: Path, tmp_path: Path) -> None:
    (pets / "cat" / ".hidden.png").write_bytes(b"nothing")
    (pets / "notes.txt").write_text("not a class")
    dataset = made(str(pets), tmp_path)
    assert (dataset.task, dataset.of_images, dataset.labels) == ("image-classification", True, ("cat", "dog"))
    assert sum(dataset.counts.values()) == 40
    frame = rows(Workspace(tmp_path / "sft"), dataset)
    assert set(frame.columns) == {"id", "text", "label", "split", "sha256", "pixels"}
    assert all(
        Path(path).is_file() and Path(path).parent.name == label for path, label in frame[["text", "label"]].values
    )
    assert (dataset.lengths, dataset.length_edges[-1]) == ((0,) * 12 + (40,), 26)


def test_the_fingerprint_is_of_the_pictures_not_of_their_place(pets: Path, tmp_path: Path) -> None:
    one = made(str(pets), tmp_path)
    moved = pets.rename(tmp_path / "moved")
    two = made(str(moved), tmp_path)
    assert one.fingerprint == two.fingerprint
    draw(moved / "cat" / "00.png", (255, 255, 255))
    assert made(str(moved), tmp_path).fingerprint != one.fingerprint


def test_train_and_val_folders_are_the_split(pets: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for part in ("train", "Val"):
        shutil.copytree(pets, root / part)
    dataset = made(str(root), tmp_path)
    assert dataset.counts == {"train": 40, "validation": 40}
    assert next(f.code for f in dataset.findings if f.level == "warning") == "leak"
    assert "is also in train" not in str(dataset)
    assert "image" not in [f.code for f in dataset.findings]
    assert any("repeat an image that is there already." in f.message for f in dataset.findings)


def test_a_table_of_paths_is_read_from_where_it_lies(pets: Path, tmp_path: Path) -> None:
    lines = [f"{p.relative_to(tmp_path)},{p.parent.name}" for p in sorted(pets.glob("*/*.png"))]
    table = tmp_path / "pets.csv"
    table.write_text("\n".join(["image,animal", *lines]))
    loaded = load(str(table), label="animal")
    assert loaded.task == "image-classification"
    assert loaded.columns == {"text": "image", "label": "animal"}
    assert made(str(table), tmp_path, label="animal").fingerprint == made(str(pets), tmp_path).fingerprint


def test_broken_images_are_named_and_refused_or_left_out(pets: Path, tmp_path: Path) -> None:
    whole = (pets / "cat" / "03.png").read_bytes()
    (pets / "cat" / "03.png").write_bytes(whole[: len(whole) // 2])
    (pets / "dog" / "04.jpg").write_bytes(b"<html>404</html>")
    with pytest.raises(errors.DataProblem) as refused:
        made(str(pets), tmp_path)
    assert "2 files of" in refused.value.what
    assert "03.png (" in refused.value.what
    assert "04.jpg (it is no image that can be read)" in refused.value.what
    assert "--broken skip" in refused.value.next_step
    dataset = made(str(pets), tmp_path, broken="skip")
    assert sum(dataset.counts.values()) == 39
    assert any(f.code == "broken_images" and "2 broken images were left out" in f.message for f in dataset.findings)


def test_a_path_that_is_not_there_is_named(pets: Path, tmp_path: Path) -> None:
    table = tmp_path / "pets.csv"
    table.write_text("image,label\npets/cat/00.png,cat\npets/dog/00.png,dog\nnowhere/1.png,dog\n")
    with pytest.raises(errors.DataProblem, match=r"1\.png \(there is no such file\)"):
        made(str(table), tmp_path)


@pytest.mark.parametrize("layout", ["empty", "flat", "texts"])
def test_a_folder_without_classes_is_refused_with_the_layout(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "folder"
    root.mkdir()
    if layout == "flat":
        draw(root / "1.png", (1, 2, 3))
    if layout == "texts":
        (root / "cat").mkdir()
        (root / "cat" / "1.txt").write_text("meow")
    with pytest.raises(errors.DataProblem, match="is a folder, and holds no images in folders of classes") as refused:
        made(str(root), tmp_path)
    assert "/cat/1.jpg" in refused.value.next_step


def test_columns_do_not_go_with_a_folder(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageProblem, match="no columns"):
        made(str(pets), tmp_path, label="animal")


def test_the_samples_are_real_handwriting() -> None:
    digits, uci = load("sample:digits"), load("sample:uci-digits")
    assert (len(digits), len(uci)) == (5000, 1797)
    assert sorted(set(digits.labels)) == sorted(set(uci.labels)) == [str(n) for n in range(10)]
    assert (set(digits.sides), set(uci.sides)) == ({28}, {8})
    assert "MNIST" in digits.license


def test_emoji_are_drawn_in_color_each_but_once() -> None:
    emoji = load("sample:emoji")
    kinds = ["animals", "buildings", "clothing", "faces", "food", "hands", "people", "vehicles"]
    assert sorted(set(emoji.labels)) == kinds
    assert len(emoji) == len(set(emoji.hashes)) == image_samples.SAMPLES["emoji"][1]
    assert min(emoji.labels.count(kind) for kind in kinds) >= 20
    dull = [path for path in emoji.texts if len(Image.open(path).getcolors(96 * 96) or range(9)) < 5]
    assert dull == []


def test_a_font_that_is_not_there_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_samples, "_NOTO", ("nowhere.ttf",))
    monkeypatch.setattr("sft_magics.core.workspace.cache", lambda: tmp_path)
    with pytest.raises(errors.DataProblem, match="not on this machine") as refused:
        load("sample:noto-emoji")
    assert "fonts-noto-color-emoji" in refused.value.next_step
    assert not (tmp_path / "images" / "noto-emoji").exists()


def test_a_thumbnail_is_small_and_never_fails(pets: Path, tmp_path: Path) -> None:
    large = draw(tmp_path / "large.jpg", (10, 200, 30), 900)
    assert thumbnail(str(large)).startswith("data:image/jpeg;base64,")
    assert len(thumbnail(str(large))) < 4000
    assert thumbnail(str(tmp_path / "gone.png")) == ""
