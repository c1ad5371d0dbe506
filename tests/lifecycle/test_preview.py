"""A preview is the very batch that a run begins with, turned back: pictures, boxes, masks, tokens, what has loss."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sft_magics as sft
from sft_magics.__main__ import main
from sft_magics.core import codec, errors
from sft_magics.core.records import BatchPreview, Seen
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, read_rows
from sft_magics.engine.inputs.batching import epoch_batches
from sft_magics.engine.inputs.images import AugmentRng, Pictures
from sft_magics.engine.jobs import dry_run
from sft_magics.engine.tasks import find
from sft_magics.notebook import panels
from tests import shapes
from tests.engine import test_causal_lm as words
from tests.engine import test_image_training as images
from tests.engine.house import Ear
from tests.engine.test_causal_lm import base  # noqa: F401 - a fixture


def opened(row: dict[str, Any]) -> Any:
    data = base64.b64decode(row["picture"].partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def look(spec: dict[str, Any], folder: Path, **more: Any) -> dict[str, Any]:
    return dry_run.look({**spec, "kind": "preview", "epoch": 0, "rows": 8, **more}, Ear(), folder)


def test_pictures_are_those_of_the_step(tmp_path: Path) -> None:
    data = images.digits(tmp_path, 40, 8)
    found = look(images.order(data, augment="strong"), tmp_path, epoch=2, rows=5)
    frame = read_rows(data, "train")
    indices = epoch_batches([64] * 40, 8, 3, 2)[0][:5]
    assert [row["text"] for row in found["rows"]] == [frame["text"][i] for i in indices]
    assert [row["label"] for row in found["rows"]] == [frame["label"][i] for i in indices]
    pictures = Pictures(list(frame["text"]), 64, images.backbones.load({"kind": "folder", "path": str(fetch("lite0"))},
                        [str(n) for n in range(10)], 3).sized(64).resize)  # fmt: skip
    seen, other = (pictures.batch(indices, AugmentRng("strong", 3, epoch)) for epoch in (2, 1))
    drawn = np.stack([opened(row) for row in found["rows"]]).transpose(0, 3, 1, 2)
    assert np.abs(drawn - seen.numpy()).mean() < 6 < np.abs(drawn - other.numpy()).mean()
    assert found["tensors"] == ["pictures 8 x 3 x 64 x 64 uint8", "labels 8 int64"]
    assert found["batch"] == 8
    assert any("cropped by chance (strong)" in note for note in found["notes"])
    assert not any(note.startswith("Computing in") for note in found["notes"])


def test_two_pictures_in_one_have_two_labels(tmp_path: Path) -> None:
    found = look(images.order(images.digits(tmp_path, 16, 4), mixup=1.0), tmp_path)
    assert all("%" in row["label"] and ", " in row["label"] for row in found["rows"])


def scenes(folder: Path, source: Path, task: str, **options: Any) -> dict[str, Any]:
    dataset = build("shapes", str(source), workspace=Workspace(folder / "sft").prepare())
    spec = images.order(folder / "sft" / dataset.file, image_size=None, **options)
    return look(spec | {"task": task, "labels": list(dataset.labels)}, folder)


def test_boxes_are_drawn_where_the_things_are(tmp_path: Path) -> None:
    found = scenes(tmp_path, shapes.coco(tmp_path / "coco", 16), "object-detection", augment="mirror")
    assert found["tensors"][1].startswith("boxes 8 x 2 x 5")
    for row in found["rows"]:
        picture = opened(row)
        assert (np.abs(picture - (0xD5, 0x5E, 0)).sum(-1) < 90).any() or (
            np.abs(picture - (0, 0x72, 0xB2)).sum(-1) < 90
        ).any()
        assert "disc" in row["label"] or "square" in row["label"]


def test_masks_lie_over_their_pictures(tmp_path: Path) -> None:
    found = scenes(tmp_path, shapes.masks_folder(tmp_path / "masks", 16, 4), "semantic-segmentation", augment="rotate")
    assert all("ground" in row["label"] for row in found["rows"])
    assert any("no class" in row["label"] for row in found["rows"]), "corners that a turn left empty"


def test_tokens_that_have_loss_are_the_answer_s(base: Path, tmp_path: Path) -> None:  # noqa: F811
    table = pd.DataFrame({"prompt": [f"Say {n}." for n in range(20)], "response": [f"It is {n}." for n in range(20)]})
    table.loc[3, "response"] = "so " * 60
    dataset = build("x", table, workspace=Workspace(tmp_path / "sft").prepare())
    file = tmp_path / "sft" / dataset.file
    found = look(words.order(file, base, batch=20, max_length=48), tmp_path, rows=20)
    frame = read_rows(file, "train")
    indices = epoch_batches(find_lengths(base, frame), 20, 1, 0)[0]
    for i, row in zip(indices, found["rows"], strict=True):
        kinds = {p["kind"]: p for p in row["pieces"]}
        said = kinds["learned"]["text"].replace("·", "")
        if frame["text"][i] == "Say 3.":
            assert said.startswith("so so so")
            assert kinds["cut"]["text"].count("so") > 20
            assert sum(p["tokens"] for p in row["pieces"][:2]) == 48
        else:
            assert said.startswith(frame["label"][i])
            assert "cut" not in kinds
        assert frame["text"][i] in kinds["read"]["text"].replace("·", "")


def find_lengths(base: Path, frame: pd.DataFrame) -> list[int]:  # noqa: F811
    task = find("causal-lm").load({"kind": "folder", "path": str(base)}, [], {"max_length": 48})
    return task.encode(list(frame["text"]), list(frame["label"])).lengths


def test_the_verb_shows_texts_as_tokens(trained_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sft.preview("films", max_length=12, rows=3, workspace=trained_once)
    assert isinstance(found, BatchPreview)
    assert not list((trained_once / "jobs").iterdir()), "nothing is kept"
    assert found.tensors[0] == "input_ids 32 x 12 int64"
    assert len(found.rows) == 3
    assert any("longer than 12 tokens" in note for note in found.notes)
    cut = [row for row in found.rows if len(row.pieces) == 2]
    assert cut
    assert cut[0].pieces[0].text.startswith("[CLS]·")
    assert cut[0].pieces[0].text.endswith("·[SEP]")
    assert not cut[0].pieces[1].text.endswith("[SEP]")
    assert "cut (" in str(found)
    page = str(panels.html(found))
    assert "<s " in page
    assert "struck out" in page
    assert len(page) < 200_000
    assert main(["preview", "films", "--rows", "11", "--workspace", str(trained_once)]) == 2
    assert "--rows cannot be 11" in capsys.readouterr().err


def test_a_page_of_the_most_pictures_stays_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (16, 224, 224, 3), dtype=np.uint8)
    frame = pd.DataFrame({"image": list(noise), "label": ["a", "b"] * 8})
    ws = Workspace(tmp_path / "sft").prepare()
    dataset = build("x", frame, workspace=ws, validation=0.1)
    spec = images.order(ws.root / dataset.file, image_size=224, batch=14, augment="none")
    found = look(spec | {"labels": ["a", "b"]}, tmp_path, rows=10)
    rows = tuple(codec.build(Seen, row) for row in found["rows"])
    page = panels.html(BatchPreview("x", "image-classification", "x", 0, "as they are", 14, rows))
    assert len(rows) == 10
    assert len(str(page)) < 200_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": 0}, "--rows cannot be 0"),
        ({"epoch": -1}, "--epoch cannot be -1"),
        ({"augment": "flop"}, "'flop' is not known"),
        ({"max_length": 2}, "--max-length cannot be 2"),
        ({"batch": 0}, "--batch cannot be 0"),
    ],
)
def test_bad_input_is_a_sentence(trained_once: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.UsageProblem, match=said):
        sft.preview("films", workspace=trained_once, **options)


def test_what_is_not_there_is_a_sentence(trained: Workspace) -> None:
    with pytest.raises(errors.NotFound, match="no model called 'flims'"):
        sft.preview("flims", workspace=trained)
    with pytest.raises(errors.NotFound, match="no dataset called 'flims'"):
        sft.preview("films", data="flims", workspace=trained)
    with pytest.raises(errors.ModelProblem, match="--mixup is not there for text-classification"):
        sft.preview("films", mixup=0.2, workspace=trained)
