"""Changes by name follow from (seed, epoch, index) alone, in any thread, and marks move with their pictures."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sft_magics.core import augments, errors
from sft_magics.core.events import Remark
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build
from sft_magics.engine.inputs import augment
from sft_magics.engine.inputs.annotated_images import Scenes
from sft_magics.engine.inputs.images import AugmentRng, Pictures
from sft_magics.engine.jobs import worker
from tests import shapes
from tests.engine.house import Ear
from tests.engine.test_image_training import digest, digits, order

ALL = [*augments.CHANGES, augments.AUTO]


@pytest.fixture
def pictures() -> Pictures:
    found = Pictures(["a", "b", "c", "d"], 64, 64)
    found.kept = {i: shapes.scene(i, (80, 64))[0] for i in range(4)}
    return found


def test_the_engine_can_do_what_the_words_say() -> None:
    assert set(augments.CHANGES) <= set(augment.CHANGES)
    assert all(len(said) > 10 for said in augments.CHANGES.values())


@pytest.mark.parametrize("name", ALL)
def test_a_change_follows_from_seed_epoch_and_index_in_any_thread(pictures: Pictures, name: str) -> None:
    before = torch.get_rng_state()
    rows = list(range(4))
    whole = [pictures.batch(rows, AugmentRng(name, 3, epoch)) for epoch in range(12)]
    assert torch.equal(torch.get_rng_state(), before), "the process's own generator is not touched"
    torch.rand(7)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda job: pictures.batch([job[1]], AugmentRng(name, 3, job[0])),
                              [(epoch, row) for row in reversed(rows) for epoch in range(12)]))  # fmt: skip
    for number, one in enumerate(again):
        assert torch.equal(one[0], whole[number % 12][3 - number // 12])
    plain = pictures.batch(rows, None)
    moved = sum(not torch.equal(a, b) for one in whole for a, b in zip(one, plain, strict=True))
    assert moved >= 4, "of 48 pictures some have changed"
    assert any(not torch.equal(whole[0], other) for other in whole[1:]), "epochs differ"
    assert any(not torch.equal(one, pictures.batch(rows, AugmentRng(name, 4, e))) for e, one in enumerate(whole))


def test_a_crop_is_the_same_with_changes_behind_it(pictures: Pictures) -> None:
    assert AugmentRng("flip,color", 1, 2).of(3) == AugmentRng("flip", 1, 2).of(3)
    assert AugmentRng("color", 1, 2).of(3) is None
    assert AugmentRng("auto", 1, 2).of(3) == AugmentRng("flip", 1, 2).of(3)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[tuple[str, str, list[Any]]]]:
    found = []
    for i in range(6):
        picture, mask, boxes = shapes.scene(i, (96, 96))
        picture.save(tmp_path / f"{i}.png")
        mask.save(tmp_path / f"{i}-mask.png")
        found.append((str(tmp_path / f"{i}.png"), str(tmp_path / f"{i}-mask.png"), boxes))
    return found


def colored(picture: torch.Tensor) -> torch.Tensor:
    """Where a square (1) or a disc (2) shows by its color."""
    red, _, blue = picture.int()
    return torch.where(red > blue + 80, 1, torch.where(blue > red + 80, 2, 0))


@pytest.mark.parametrize("name", ["rotate", "affine", "perspective", "mirror", "upside-down", "flip,affine,mirror"])
def test_masks_move_with_their_pictures(files: list[Any], name: str) -> None:
    scenes = Scenes([f[0] for f in files], 96, masks=[f[1] for f in files])
    for epoch in range(4):
        pictures, marks = scenes.learned(range(6), AugmentRng(name, 0, epoch))
        assert marks is not None
        known = marks != 255
        agree = (torch.stack([colored(p) for p in pictures])[known] == marks[known]).float().mean()
        assert agree > 0.97
        unmoved = scenes.learned(range(6), None)[1]
        assert unmoved is not None
        if epoch == 1:
            assert not torch.equal(marks, unmoved)
    assert known.any()


@pytest.mark.parametrize("name", ["rotate", "affine", "perspective", "mirror", "upside-down", "flip,affine"])
def test_boxes_move_with_their_pictures(files: list[Any], name: str) -> None:
    scenes = Scenes([f[0] for f in files], 96, boxes=[f[2] for f in files])
    seen = 0
    for epoch in range(4):
        pictures, found = scenes.boxed(range(6), AugmentRng(name, 0, epoch))
        for picture, boxes in zip(pictures, found, strict=True):
            where = colored(picture)
            for box in boxes:
                assert 0 <= box.left < box.right <= 96
                inside = where[round(box.top) : round(box.bottom), round(box.left) : round(box.right)]
                share = (inside == shapes.CLASSES.index(box.label)).float().mean()
                assert share > 0.35, "a turned disc fills a third of its box at least"
                seen += 1
    assert seen > 20


def test_pixels_that_a_turn_leaves_empty_are_of_no_class(files: list[Any]) -> None:
    scenes = Scenes([files[0][0]], 96, masks=[files[0][1]])
    marks = [scenes.learned([0], AugmentRng("rotate", 0, epoch))[1] for epoch in range(5)]
    assert any((m == 255).any() for m in marks if m is not None)


def test_a_box_that_is_turned_out_of_its_picture_is_left_out() -> None:
    far = torch.tensor([[0.0, 0.0, 6.0, 6.0], [40.0, 40.0, 60.0, 60.0]])
    there = [
        augment.apply(("affine",), (0, epoch, 0), Image.new("RGB", (96, 96)), boxes=far).there for epoch in range(40)
    ]
    assert all(found is not None and found[1] for found in there)
    assert any(found is not None and not found[0] for found in there)
    nothing = augment.apply(("affine",), (0, 0, 0), Image.new("RGB", (96, 96)), boxes=torch.zeros(0, 4))
    assert nothing.there == []


def test_no_transform_sees_marks_it_would_pass_by(files: list[Any], recwarn: pytest.WarningsRecorder) -> None:
    every = ",".join(name for name in augments.CHANGES if name not in augments.WHOLE_PICTURES)
    scenes = Scenes([f[0] for f in files], 96, masks=[f[1] for f in files])
    scenes.learned(range(6), AugmentRng(every, 0, 0))
    scenes.learned(range(6), AugmentRng("auto", 0, 0))
    assert [w for w in recwarn if "passing through" in str(w.message)] == []


@pytest.mark.parametrize("name", ["auto", "light,color,erase"])
def test_threads_of_the_loader_change_nothing(tmp_path: Path, name: str) -> None:
    data = digits(tmp_path, 24, 8)
    found = []
    for workers in (0, 3):
        ear = Ear()
        spec = order(data, augment=name, workers=workers, epochs=2.0)
        worker.train(spec, ear, tmp_path / f"run-{workers}")
        found.append(digest(tmp_path / f"run-{workers}"))
        assert any("changed by chance" in r.text for r in ear.all(Remark))
    assert found[0] == found[1]


@pytest.mark.parametrize("task", ["semantic-segmentation", "object-detection"])
def test_masks_and_boxes_are_learned_from_changed_pictures(tmp_path: Path, task: str) -> None:
    """Through the worker, whole: with threads the weights come out the same, and others than without the changes."""
    masks = task == "semantic-segmentation"
    source = shapes.masks_folder(tmp_path / "masks", 12, 4) if masks else shapes.coco(tmp_path / "coco", 16)
    dataset = build("shapes", str(source), workspace=Workspace(tmp_path / "sft").prepare())
    spec = order(tmp_path / "sft" / dataset.file, batch=4, epochs=1.0)
    spec |= {"task": task, "labels": list(dataset.labels)}
    found = {}
    for augment_, workers in (("auto", 0), ("auto", 2), ("flip", 0)):
        spec["options"] |= {"augment": augment_, "workers": workers}
        worker.train(spec, Ear(), tmp_path / f"{augment_}-{workers}")
        found[augment_, workers] = digest(tmp_path / f"{augment_}-{workers}")
    assert found["auto", 0] == found["auto", 2] != found["flip", 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour", "'colour' is not known. Did you mean 'color'"),
        ("flip,none", "'none' stands alone"),
        ("auto,color", "'auto' stands alone"),
        ("flip,strong", "one crop, and each change once"),
        ("color,color", "one crop, and each change once"),
        ("", "'' is not known"),
        ("flip,", "'' is not known"),
    ],
)
def test_words_that_cannot_be_are_refused(text: str, said: str) -> None:
    with pytest.raises(errors.UsageProblem, match=said.replace("?", r"\?")):
        augments.read(text)


def test_what_marks_cannot_follow_is_refused_for_them() -> None:
    augments.check("flip,trivial", "image-classification")
    augments.check("auto", "object-detection")
    with pytest.raises(errors.UsageProblem, match="boxes and masks cannot follow"):
        augments.check("flip,trivial", "semantic-segmentation")


@pytest.mark.parametrize("task", ["text-classification", "causal-lm"])
def test_texts_have_no_pictures_to_change(task: str) -> None:
    augments.check("none", task)
    with pytest.raises(errors.UsageProblem, match="--augment changes pictures"):
        augments.check("flip", task)
    with pytest.raises(errors.UsageProblem, match="'flap' is not known"):
        augments.check("flap", task)


def test_words_are_said_as_they_are_done() -> None:
    assert str(augments.read("none")) == "as they are"
    assert str(augments.read("flip")) == "cropped by chance (flip)"
    assert str(augments.read(" flip , color")) == "cropped by chance (flip) and changed by chance (color)"
    assert str(augments.read("gray")) == "changed by chance (gray)"
