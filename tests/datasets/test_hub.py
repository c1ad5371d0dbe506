"""Data sets of the Hugging Face library: objects, folders it saved, Parquet as the hub has it; all made by it."""

import builtins
from pathlib import Path
from typing import Any

import datasets as hf
import numpy as np
import pytest
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, load, rows
from tests import shapes

KINDS = ["bad", "good"]


def reviews(count: int) -> hf.Dataset:
    features = hf.Features({"text": hf.Value("string"), "label": hf.ClassLabel(names=KINDS)})
    texts = [f"number {i} of many sentences" for i in range(count)]
    return hf.Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(count)]}, features=features)


def pictures(count: int) -> hf.Dataset:
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=KINDS)})
    made = [Image.fromarray(np.full((20, 20, 3), 5 * i, np.uint8)) for i in range(count)]
    return hf.Dataset.from_dict({"image": made, "label": [i % 2 for i in range(count)]}, features=features)


def scenes(count: int) -> hf.Dataset:
    """Pictures with boxes as the hub has them: left, top, width, height; and with their masks."""
    found: dict[str, list[Any]] = {"image": [], "objects": [], "annotation": []}
    for seed in range(count):
        picture, mask, boxes = shapes.scene(seed)
        places = [[b.left, b.top, b.right - b.left, b.bottom - b.top] for b in boxes]
        found["image"].append(picture)
        found["annotation"].append(mask)
        found["objects"].append({"bbox": places, "category": [shapes.CLASSES.index(b.label) for b in boxes]})
    kinds = hf.ClassLabel(names=list(shapes.CLASSES))
    objects = {"bbox": hf.Sequence(hf.Sequence(hf.Value("float32"), length=4)), "category": hf.Sequence(kinds)}
    features = hf.Features({"image": hf.Image(), "objects": objects, "annotation": hf.Image()})
    return hf.Dataset.from_dict(found, features=features)


def test_texts_keep_the_names_of_their_classes_and_only_the_rows_that_were_chosen() -> None:
    found = load(reviews(10).select([3, 1, 2]))
    assert found.texts[0] == "number 3 of many sentences"
    assert found.labels == ["good", "good", "bad"]
    assert found.source == "Dataset"


def test_a_class_that_no_row_has_is_told(ws: Workspace) -> None:
    features = hf.Features({"text": hf.Value("string"), "label": hf.ClassLabel(names=[*KINDS, "odd"])})
    made = hf.Dataset.from_dict(
        {"text": [f"a sentence {i}" for i in range(30)], "label": [i % 2 for i in range(30)]}, features=features
    )
    assert load(made).empty_classes == ("odd",)
    unlabeled = hf.Dataset.from_dict({"text": ["a b c"] * 4, "label": [0, 1, -1, 0]}, features=features)
    assert load(unlabeled).labels == ["bad", "good", "bad"], "-1 is no label"


def test_splits_are_kept_and_those_of_another_use_left_out(ws: Workspace) -> None:
    parts = hf.DatasetDict(
        {"train": reviews(40), "test": reviews(50).select(range(40, 50)), "unsupervised": reviews(7)}
    )
    made = build("x", parts, workspace=ws)
    assert made.counts["test"] == 10
    assert sum(made.counts.values()) == 50
    assert any("unsupervised (7 rows)" in f.message for f in made.findings)
    whole = build("y", parts, workspace=ws, split="none")
    assert "test" not in whole.counts
    assert build("z", hf.DatasetDict({"all": reviews(30)}), workspace=ws).counts.keys() == {"train", "validation"}


def test_each_split_names_its_classes_by_its_own_schema(tmp_path: Path) -> None:
    def part(names: list[str], numbers: list[int]) -> hf.Dataset:
        rows = {"text": [f"{names[n]} said {i}" for i, n in enumerate(numbers)], "label": numbers}
        kinds = hf.Features({"text": hf.Value("string"), "label": hf.ClassLabel(names=names)})
        return hf.Dataset.from_dict(rows, features=kinds)

    data = hf.DatasetDict(
        {"train": part(["neg", "pos"], [0, 1] * 8), "test": part(["pos", "neg", "so so"], [0, 1, 2, 1])}
    )
    data.save_to_disk(tmp_path / "saved")
    for source in (data, str(tmp_path / "saved")):
        found = load(source)
        assert [text.partition(" said")[0] for text in found.texts] == found.labels
        assert set(found.labels) == {"neg", "pos", "so so"}
        assert found.splits == ["train"] * 16 + ["test"] * 4


def test_pictures_are_written_once_and_read_from_there(ws: Workspace) -> None:
    made = build("x", pictures(40), workspace=ws)
    assert (made.task, made.labels) == ("image-classification", ("bad", "good"))
    table = rows(ws, made)
    first = {path: Path(path).stat().st_ino for path in table["text"]}
    assert len(first) == 40
    for path, label in zip(table["text"], table["label"], strict=True):
        assert Path(path).is_relative_to(ws.root / "pictures")
        assert int(np.asarray(Image.open(path))[0, 0, 0]) // 5 % 2 == KINDS.index(label)
    again = build("y", pictures(40), workspace=ws)
    assert again.fingerprint == made.fingerprint
    assert {path: Path(path).stat().st_ino for path in first} == first


@pytest.mark.parametrize("form", ["folder", "splits", "parquet"])
def test_what_the_library_wrote_is_what_it_holds(ws: Workspace, tmp_path: Path, form: str) -> None:
    place = tmp_path / "saved"
    data = pictures(30).shuffle(seed=1)
    if form == "folder":
        data.save_to_disk(place)
    elif form == "splits":
        hf.DatasetDict({"train": data.select(range(20)), "validation": data.select(range(20, 30))}).save_to_disk(place)
    else:
        place = tmp_path / "train.parquet"
        data.to_parquet(place)
    made = build("x", str(place), workspace=ws)
    assert made.labels == ("bad", "good")
    if form == "splits":
        assert made.counts == {"train": 20, "validation": 10}
    else:
        assert made.fingerprint == build("y", data, workspace=ws).fingerprint


def test_boxes_and_masks_of_objects(ws: Workspace) -> None:
    data = scenes(12)
    boxes = load(data, keep=ws.root / "pictures", task="object-detection")
    assert boxes.names == ("disc", "square")
    assert boxes.labels == load(str(shapes.coco(ws.root / "coco", 12))).labels
    masks = load(data, keep=ws.root / "pictures", text="image", label="annotation")
    assert masks.task == "semantic-segmentation"
    assert masks.hashes != boxes.hashes
    drawn = [np.asarray(Image.open(path)) for path in masks.masks]
    assert all((a == np.asarray(shapes.scene(i)[1])).all() for i, a in enumerate(drawn))


def test_dialogues_of_messages_and_of_prompts_that_are_messages() -> None:
    def said(role: str, content: str) -> dict[str, str]:
        return {"role": role, "content": content}

    chats = [[said("user", f"Say {i}."), said("assistant", f"{i} it is.")] for i in range(9)]
    whole = load(hf.Dataset.from_dict({"messages": chats}))
    halves = load(hf.Dataset.from_dict({"prompt": [c[:1] for c in chats], "completion": [c[1:] for c in chats]}))
    plain = load(
        hf.Dataset.from_dict(
            {"prompt": [c[0]["content"] for c in chats], "completion": [c[1]["content"] for c in chats]}
        )
    )
    for found in (whole, halves, plain):
        assert found.task == "causal-lm"
        assert (found.texts[3], found.labels[3]) == ("Say 3.", "3 it is.")


def test_a_picture_that_is_none_is_named_by_its_row(ws: Workspace) -> None:
    data = pictures(6).cast_column("image", hf.Image(decode=False)).to_pandas()
    data.at[2, "image"] = {"bytes": b"no picture", "path": None}
    with pytest.raises(errors.DataProblem, match=r"1 file of DataFrame cannot be used: row 3 \(it is no image"):
        load(data, keep=ws.root / "pictures")
    found = load(data, keep=ws.root / "pictures", broken="skip")
    assert len(found) == 5
    assert "row 3" in found.findings[-1].message


def test_what_cannot_be_read_is_a_sentence(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.DataProblem, match="stream without an end"):
        load(reviews(4).to_iterable_dataset())
    with pytest.raises(errors.DataProblem, match="has no rows"):
        load(reviews(4).select([]))
    reviews(4).save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"torn")
    with pytest.raises(errors.DataProblem, match="written by save_to_disk, and cannot be read"):
        load(str(tmp_path / "saved"))
    odd = hf.DatasetDict({"train": reviews(4), "test": reviews(4).cast_column("label", hf.Value("string"))})
    with pytest.raises(errors.DataProblem, match="do not have the same columns"):
        load(odd)


def test_a_hub_that_is_not_there_is_one_sentence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name server knows no such host: nothing is asked of the real one."""
    import huggingface_hub

    class Nowhere(huggingface_hub.HfApi):
        def __init__(self) -> None:
            super().__init__(endpoint="http://nowhere.invalid")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Nowhere)
    with pytest.raises(errors.DataProblem, match="cannot be reached") as caught:
        load("hub:owner/name")
    assert "HF_HUB_OFFLINE" in caught.value.next_step
    with pytest.raises(errors.DataProblem, match="no name on the hub"):
        load("hub:a/b/c/d")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(errors.DataProblem, match="is not installed") as caught:
        load("hub:owner/name")
    assert "sft_magics[hf]" in caught.value.next_step
