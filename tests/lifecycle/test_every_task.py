"""Boxes, masks and words through their life: data, create, train, evaluate, ask, errors, compare, export; refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.evaluation.answers import mask_of
from sft_magics.notebook import panels
from tests import shapes
from tests.engine.test_causal_lm import base  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a model of boxes and one of masks, a version of each."""
    root = tmp_path_factory.mktemp("scenes")
    ws = root / "workspace"
    sft.data("masks", str(shapes.masks_folder(root / "masks", 48, 12)), workspace=ws)
    sft.data("boxes", str(shapes.coco(root / "coco", 60)), workspace=ws)
    sft.data("strange", str(shapes.masks_folder(root / "strange", 8, 4)), workspace=ws)
    for name in ("masks", "boxes"):
        sft.create(name, data=name, workspace=ws)
        sft.finetune(name, epochs=3, workspace=ws)
    return ws


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:  # noqa: F811
    """A workspace with a language model and a version of it."""
    ws = tmp_path_factory.mktemp("words") / "workspace"
    table = pd.DataFrame({"prompt": [f"Say {n}." for n in range(60)], "response": [f"It is {n}." for n in range(60)]})
    sft.data("says", table, workspace=ws)
    sft.create("says", data="says", base=str(base), workspace=ws)
    sft.finetune("says", epochs=2, workspace=ws)
    return ws


def test_data_shows_what_is_marked(scenes: Path) -> None:
    boxes, masks = (sft.data(name, workspace=scenes) for name in ("boxes", "masks"))
    assert (boxes.task, masks.task) == ("object-detection", "semantic-segmentation")
    assert all(e.picture.startswith("data:image/jpeg") for e in (*boxes.examples, *masks.examples))
    assert boxes.examples[0].label.split()[1] in ("disc", "disc,", "square")
    for dataset in (boxes, masks):
        assert "<img" in str(panels.html(dataset))
    assert b"data:image" not in (scenes / "registry" / "registry.journal").read_bytes()


def test_models_and_versions_say_what_they_are(scenes: Path) -> None:
    made = {v.model: v for v in sft.versions(workspace=scenes)}
    assert set(made["boxes"].metrics) >= {"ap50", "map", "recall[disc]"}
    assert set(made["masks"].metrics) >= {"miou", "pixel_accuracy", "iou[ground]"}
    assert made["masks"].options["lr"] == 0.001
    assert made["boxes"].options["batch"] == 4
    assert "miou" in str(made["masks"])
    page = str(panels.html(sft.versions(workspace=scenes)))
    assert "ap50" in page
    assert "miou" in page
    for ref in ("boxes:1", "masks:1"):
        assert "precision" in str(panels.html(sft.show(ref, workspace=scenes)))


def test_masks_are_measured_and_asked(scenes: Path, tmp_path: Path) -> None:
    found = sft.evaluate("masks:1", workspace=scenes)
    version = next(v for v in sft.versions("masks", workspace=scenes))
    assert found.n == 12
    assert found.metrics["miou"].value == pytest.approx(version.metrics["miou"].value, abs=2e-3)
    assert sum(map(sum, found.confusion)) == 12 * 64 * 64
    assert all(p.picture and p.mask for p in found.worst)
    assert "pixels" in str(panels.html(found))
    picture, _, _ = shapes.scene(99, (80, 60))
    picture.save(tmp_path / "a.png")
    (answer,) = sft.predict("masks:1", str(tmp_path / "a.png"), workspace=scenes).rows
    assert mask_of(answer).shape == (60, 80)
    assert sum(answer.scores.values()) == pytest.approx(1.0, abs=1e-4)
    assert answer.picture
    wrong = sft.errors_("masks:1", count=3, workspace=scenes)
    assert len(wrong.rows) == 3
    assert wrong.mistakes[0].n == max(
        n for i, row in enumerate(found.confusion) for j, n in enumerate(row) if i != j
    ), "the most frequent mistake, in pixels"


def test_boxes_are_measured_and_asked(scenes: Path, tmp_path: Path) -> None:
    found = sft.evaluate("boxes:1", split="all", seen="include", workspace=scenes)
    assert found.n == 60
    assert found.overlap.seen == sft.data("boxes", workspace=scenes).counts["train"]
    assert found.confusion == []
    assert {"ap50", "map"} <= set(found.metrics)
    assert all(p.picture and p.truth for p in found.worst)
    panels.html(found)
    picture, _, _ = shapes.scene(99, (128, 96))
    picture.save(tmp_path / "a.png")
    answers = sft.predict("boxes:1", str(tmp_path / "a.png"), workspace=scenes)
    for box in answers.rows[0].boxes:
        assert box["label"] in ("disc", "square")
        assert -1 <= box["left"] < box["right"] <= 129
    assert isinstance(pd.DataFrame(answers.columns()), pd.DataFrame)
    wrong = sft.errors_("boxes:1", workspace=scenes)
    assert wrong.wrong <= wrong.n
    assert "Answered worst" in str(panels.html(wrong))


def test_a_language_model_is_measured_and_asked(words: Path) -> None:
    found = sft.evaluate("says:1", workspace=words)
    assert found.metrics["perplexity"].value > 1.0
    assert found.labels == ()
    assert all(p.truth and p.truth.startswith("It is") for p in found.worst)
    assert "prompt" in str(panels.html(found))
    answers = sft.predict("says:1", "Say 7.", "Say 9.", workspace=words)
    assert [a.text for a in answers.rows] == ["Say 7.", "Say 9."]
    panels.html(answers)
    wrong = sft.errors_("says:1", count=4, workspace=words)
    assert len(wrong.rows) == 4
    assert "Say" in str(wrong)
    assert "perplexity" in str(sft.show("says:1", workspace=words))


def test_the_second_version_of_a_lora_takes_little_room(words: Path) -> None:
    sft.finetune("says", epochs=1, seed=5, workspace=words)
    first, second = sorted(sft.versions("says", workspace=words), key=lambda v: v.number)
    assert second.added < 0.3 * first.added, "the base is stored once"
    on = sft.finetune("says", epochs=1, from_="says:1", workspace=words)
    assert on.parent == "says:1"


def test_two_versions_are_compared_by_their_making(scenes: Path) -> None:
    sft.finetune("masks", epochs=0.5, workspace=scenes)
    found = sft.diff("masks:1", "masks:2", workspace=scenes)
    assert "row by row is for classifiers" in found.verdict
    assert {c.name for c in found.options} >= {"epochs"}
    assert found.layers
    passed = sft.promote("masks:1", to="live", gate="miou >= 0.01", reason="first", workspace=scenes)
    assert passed.gates[0].passed
    with pytest.raises(errors.Refused, match="miou"):
        sft.promote("masks:2", to="live", gate="miou >= 0.999", reason="better", workspace=scenes)


@pytest.mark.parametrize("ref", ["masks:1", "boxes:1"])
def test_they_leave_as_a_bundle_and_come_back(scenes: Path, tmp_path: Path, ref: str) -> None:
    sft.export(ref, str(tmp_path / "out.zip"), workspace=scenes)
    other = Workspace(tmp_path / "other").prepare()
    came = sft.import_(str(tmp_path / "out.zip"), workspace=other)
    assert came.task == sft.show(ref, workspace=scenes).version.task
    picture, _, _ = shapes.scene(7)
    picture.save(tmp_path / "a.png")
    here, there = (
        sft.predict(r, str(tmp_path / "a.png"), workspace=w).rows[0] for r, w in ((ref, scenes), (came.ref, other))
    )
    assert (here.label, here.mask, here.boxes) == (there.label, there.mask, there.boxes)


def test_a_language_model_leaves_as_a_folder_that_peft_loads(words: Path, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    out = sft.export("says:1", str(tmp_path / "out"), workspace=words)
    assert "peft.PeftModel.from_pretrained" in out.next_step
    peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "out"), tmp_path / "out" / "adapter")


def test_a_mask_is_drawn_where_it_was_found(scenes: Path, tmp_path: Path) -> None:
    picture, mask, _ = shapes.scene(3)
    picture.save(tmp_path / "a.png")
    (answer,) = sft.predict("masks:1", str(tmp_path / "a.png"), workspace=scenes).rows
    agree = (mask_of(answer) == np.asarray(mask)).mean()
    assert agree > 0.8


@pytest.mark.parametrize("model", ["masks", "boxes", "says"])
def test_an_endpoint_gives_the_versions_own_answers(scenes: Path, words: Path, tmp_path: Path, model: str) -> None:
    ws = words if model == "says" else scenes
    asked = "Say 7."
    if model != "says":
        asked = str(tmp_path / "a.png")
        shapes.scene(99, (80, 60))[0].save(asked)
    endpoint = sft.deploy(f"{model}:1", workspace=ws)
    try:
        (served,) = sft.predict(model, asked, endpoint=True, workspace=ws).rows
        (own,) = sft.predict(f"{model}:1", asked, workspace=ws).rows
        assert served.text == own.text
        # Of a text only its beginning: the model's weights are drawn, and rounding decides between words.
        said = slice(0, 12 if model == "says" else None)
        assert served.label[said] == own.label[said]
        assert served.confidence == pytest.approx(own.confidence, abs=0.5 if model == "says" else 0.02)
        assert served.id
        assert "stored examples as when it was trained" in (Path(endpoint.folder) / "events.jsonl").read_text()
        if model == "masks":
            assert (mask_of(served) == mask_of(own)).mean() > 0.99
        if model == "boxes":
            assert len(served.boxes) == len(own.boxes)
        if model != "says":
            assert served.picture.startswith("data:image")
            with pytest.raises(errors.EndpointProblem, match="not an image that can be read"):
                sft.predict(model, __file__, endpoint=True, workspace=ws)
        report = sft.monitor(endpoint.name, workspace=ws)
        assert report.requests == 1
        panels.html(report)
    finally:
        sft.stop(model, workspace=ws)


@pytest.mark.parametrize("model", ["masks", "boxes", "says"])
def test_an_endpoint_of_every_task_is_measured(scenes: Path, words: Path, model: str) -> None:
    ws = words if model == "says" else scenes
    found = sft.bench(f"{model}:1", seconds=0.3, rounds=1, clients="2", workspace=ws)
    (row,) = found.rows
    assert row.n >= 2
    assert row.refused == 0
    assert row.parts["model"] > 0
    assert found.data == f"{model}:1"
    assert not list((ws / "endpoints").glob("bench-*"))
    if model != "says":
        with pytest.raises(errors.SftError, match="is for"):
            sft.bench("masks:1", against="boxes:1", workspace=ws)
        with pytest.raises(errors.DataProblem, match="is for"):
            sft.bench("masks:1", data="boxes", workspace=ws)


def test_answers_of_every_task_are_written_to_a_file(scenes: Path, words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        shapes.scene(90 + number, (80, 60))[0].save(folder / f"{number}.png")
    for model in ("masks", "boxes"):
        to = tmp_path / f"{model}.csv"
        said = sft.predict(f"{model}:1", str(folder), to=str(to), workspace=scenes).rows
        found = pd.read_csv(to)
        assert [Path(p).name for p in found["text"]] == ["0.png", "1.png", "2.png"]
        assert list(found["prediction"]) == [a.label for a in said]
        if model == "boxes":
            assert [json.loads(cell) for cell in found["boxes"]] == [list(a.boxes) for a in said]
            continue
        for path, answer in zip(found["mask"], said, strict=True):
            with Image.open(path) as image:
                assert (np.asarray(image) == mask_of(answer)).all()
        assert list(found["share_ground"]) == pytest.approx([a.scores["ground"] for a in said])
        with pytest.raises(errors.Refused, match="is not overwritten"):
            sft.predict("masks:1", str(folder), to=str(to), workspace=scenes)
        few = sft.predict("masks:1", str(folder / "0.png"), to=str(to), overwrite=True, workspace=scenes)
        assert [p.name for p in sorted((tmp_path / "masks_masks").iterdir())] == ["000000.png"], "none of older answers"
        (tmp_path / "masks_masks" / "mine.txt").write_text("precious")
        with pytest.raises(errors.Refused, match="where the masks go, is there already"):
            sft.predict("masks:1", str(folder), to=str(to), overwrite=True, workspace=scenes)
        assert len(pd.read_csv(to)) == len(few) == 1
    to = tmp_path / "says.jsonl"
    table = pd.DataFrame({"prompt": ["Say 7.", "Say 9."], "who": ["a", "b"]})
    said = sft.predict("says:1", data=table, to=str(to), workspace=words).rows
    rows = [json.loads(line) for line in to.read_text().splitlines()]
    assert [(r["who"], r["prediction"]) for r in rows] == [("a", said[0].label), ("b", said[1].label)]


def test_what_does_not_fit_is_refused_in_a_sentence(scenes: Path, words: Path, film_csv: Path, tmp_path: Path) -> None:
    sft.data("films", str(film_csv), workspace=scenes)
    turned = shapes.masks_folder(tmp_path / "turned", 8, 4)
    (turned / "classes.txt").write_text("\n".join((*reversed(shapes.CLASSES[1:]), shapes.CLASSES[0])))
    sft.data("turned", str(turned), workspace=scenes)

    def finetune(model: str, **options: Any) -> None:
        sft.finetune(model, workspace=scenes, **options)

    refused: list[tuple[Callable[[], object], type[errors.SftError], str]] = [
        (lambda: finetune("masks", data="boxes"), errors.DataProblem, "is for object-detection"),
        (lambda: finetune("masks", data="turned"), errors.DataProblem, "number their classes disc, square, ground"),
        (lambda: finetune("masks", method="lora"), errors.ModelProblem, "--method lora is not there for semantic-seg"),
        (lambda: finetune("boxes", views=3), errors.ModelProblem, "--views is not there for --method full"),
        (lambda: finetune("masks", method="head", views=99), errors.UsageProblem, "--views cannot be 99"),
        (lambda: finetune("boxes", augment="flip,trivial"), errors.UsageProblem, "boxes and masks cannot follow"),
        (lambda: finetune("boxes", augment="flop"), errors.UsageProblem, "'flop' is not known. Did you mean 'flip'"),
        (lambda: finetune("boxes", method="lora"), errors.ModelProblem, "--method lora is not there for object-det"),
        (lambda: finetune("boxes", class_weights="auto"), errors.ModelProblem, "--class-weights is not there"),
        (lambda: finetune("masks", sampling="balanced"), errors.ModelProblem, "--sampling balanced is not there for"),
        (lambda: sft.create("x", data="masks", base="minilm", workspace=scenes), errors.ModelProblem, "is a base for"),
        (lambda: sft.create("x", data="boxes", base="smollm2", workspace=scenes), errors.ModelProblem, "is a base for"),
        (lambda: sft.evaluate("masks:1", data="boxes", workspace=scenes), errors.DataProblem, "is for object-det"),
        (lambda: sft.evaluate("masks:1", data="films", workspace=scenes), errors.DataProblem, "is for text-class"),
        (lambda: sft.evaluate("says:1", split="test", workspace=words), errors.DataProblem, "has no test rows"),
        (lambda: sft.errors_("masks:1", truth="ground", workspace=scenes), errors.UsageProblem, "are for classifiers"),
        (lambda: sft.predict("masks:1", "nowhere.png", workspace=scenes), errors.DataProblem, "cannot be read"),
        (lambda: sft.data("x", "sample:planets", workspace=scenes), errors.NotFound, "sample:planet"),
    ]
    for line, kind, said in refused:
        with pytest.raises(kind, match=said):
            line()
