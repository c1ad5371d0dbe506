"""Answers do not depend on the order or the company of a text, nor on how the weights are stored."""

import gc
import random
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

from sft_magics.core import errors
from sft_magics.core.events import Remark
from sft_magics.core.runtime.fetching import fetch
from sft_magics.datasets.samples.text_samples import read_sample
from sft_magics.engine import tasks
from sft_magics.engine.inference import prepacked_model
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.jobs import worker
from sft_magics.engine.kernels import encoder_fast_path
from tests.engine.house import LABELS, Ear

# bfloat16 has 8 bits of mantissa: sums over other widths round differently.
CLOSE = {"fp32": 1e-5, "bf16": 0.02}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("version") / "best"
    start = {"kind": "folder", "path": str(fetch("minilm"))}
    tasks.find("text-classification").load(start, LABELS, {"seed": 5, "max_length": 64}).save(path)
    return path


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [*read_sample("reviews")[0][:60], "", "<b>a</b>", "good " * 300]


def test_pictures_are_answered_in_bfloat16_too(tmp_path: Path) -> None:
    task = tasks.find("image-classification").load({"kind": "name", "path": "resnet18", "weights": "none"}, LABELS, {})
    picture = str(tmp_path / "a.png")
    Image.new("RGB", (90, 70), "teal").save(picture)
    task.encode([picture], None)
    task.save(tmp_path / "version")
    code = f"""
from pathlib import Path
from sft_magics.engine.inference.predictor import Predictor
made = [Predictor(Path({str(tmp_path / "version")!r}), threads=1, precision=p) for p in ("fp32", "bf16")]
one, other = (p.scores([{picture!r}])[0] for p in made)
assert max(abs(a - b) for a, b in zip(one, other)) <= 0.02
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert child.stderr == "", "nothing is said when it ends"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_order_nor_company_changes_an_answer(folder: Path, texts: list[str], precision: str) -> None:
    predictor = Predictor(folder, threads=1, precision=precision)
    scores = predictor.scores(texts)
    mixed = list(range(len(texts)))
    random.Random(0).shuffle(mixed)
    shuffled = predictor.scores([texts[i] for i in mixed])
    alone = [predictor.scores([text])[0] for text in texts]
    for place, i in enumerate(mixed):
        assert shuffled[place] == pytest.approx(scores[i], abs=CLOSE[precision])
        assert alone[i] == pytest.approx(scores[i], abs=CLOSE[precision])
    assert all(sum(row) == pytest.approx(1.0, abs=1e-5) for row in scores)
    assert len({row[0] for row in scores}) > 50


def test_weights_laid_out_once_answer_as_weights_cast_at_every_call(
    folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        encoder_fast_path, "quicken", lambda _: set()
    )  # which is not the same to the bit; see test_encoder_fast_path
    settled = Predictor(folder, threads=1, precision="bf16")
    said = settled.scores(texts)
    linear = [m for m in settled._task.model.modules() if type(m) is nn.Linear]
    assert all("forward" in vars(layer) and layer.weight.dtype == torch.bfloat16 for layer in linear)
    before = [layer.weight.clone() for layer in linear]
    for layer in linear:
        layer.weight.data.zero_()
    assert settled.scores(texts) == said, "what is read is the copy that was laid out"
    monkeypatch.setattr(prepacked_model, "settle", lambda *_: None)
    plain = Predictor(folder, threads=1, precision="bf16")
    assert plain.scores(texts) == said, "to the last bit"
    assert all(bool(weight.any()) for weight in before)


def test_of_a_large_model_there_is_no_second_copy(
    folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepacked_model, "_MOST", 1000)
    plain = Predictor(folder, threads=1, precision="bf16")
    said = plain.scores(texts[:8])
    assert all(
        layer.weight.dtype == torch.bfloat16 for layer in plain._task.model.modules() if type(layer) is nn.Linear
    )
    monkeypatch.undo()
    monkeypatch.setattr(encoder_fast_path, "quicken", lambda _: set())
    assert said == Predictor(folder, threads=1, precision="bf16").scores(texts[:8])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_cores_answer_as_one(
    folder: Path, texts: list[str], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Predictor(folder, threads=1, precision=precision)
    said = one.scores(texts)
    few = (texts[:1], texts[:2], [*texts[:1], "good " * 300])
    said_of_few = [one.scores(part) for part in few]
    two = Predictor(folder, threads=2, precision=precision)
    readers: Counter[str] = Counter()
    scores = two._task.scores

    def noted(batch: Any) -> Any:
        readers[threading.current_thread().name] += torch.get_num_threads()
        time.sleep(0.01)  # or one might be done before the other begins
        return scores(batch)

    monkeypatch.setattr(two._task, "scores", noted)
    told: list[tuple[int, int]] = []
    shared = two.scores(texts, lambda *progress: told.append(progress))
    assert np.abs(np.array(shared) - np.array(said)).max() <= CLOSE[precision]
    assert len(readers) == 2, "in two threads"
    assert readers.total() == len(told), "each with one core"
    assert [total for _, total in told] == [len(texts)] * len(told)
    assert [done for done, _ in told] == sorted({done for done, _ in told}), "each batch is told, and more each time"
    assert told[-1][0] == len(texts)
    for part, before in zip(few, said_of_few, strict=True):
        assert np.abs(np.array(two.scores(part)) - np.array(before)).max() <= CLOSE[precision]
    assert torch.get_num_threads() == 2, "as it was"


def test_one_sentence_has_the_threads_that_were_quicker_lately(
    folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(folder, threads=2)
    predictor.scores(texts[:1])
    used: list[int] = []
    scores = predictor._task.scores
    monkeypatch.setattr(
        predictor._task, "scores", lambda batch: (used.append(torch.get_num_threads()), scores(batch))[1]
    )
    for woken in (True, False, True):
        monkeypatch.setattr(predictor._waking, "wake", lambda woken=woken: woken)
        predictor.scores(texts[:1])
    assert used == [2, 1, 2]
    monkeypatch.setattr(predictor._waking, "wake", lambda: False)
    predictor.scores(["good " * 400])  # cut to 64 tokens
    assert used[3:] == [1]
    known = dict(predictor._waking._known)
    monkeypatch.setattr(predictor._task, "scores", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predictor.scores(texts[:1])
    assert predictor._waking._known == known, "what fails at once is not quick"


def test_a_predictor_that_is_let_go_is_gone_at_once(folder: Path, texts: list[str]) -> None:
    """What closes its quicker ways at its end knows the model: nothing else may need a look for garbage first."""
    gc.disable()
    try:
        predictor = Predictor(folder, threads=2)
        predictor.scores(texts)
        seen = weakref.ref(predictor)
        del predictor
        assert seen() is None
    finally:
        gc.enable()


def test_a_batch_that_fails_in_a_lane_fails_the_whole(
    folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(folder, threads=2)
    said = predictor.scores(texts[:16])
    ran: list[int] = []
    run = predictor._lanes.run
    monkeypatch.setattr(predictor._lanes, "run", lambda *given: (ran.append(1), run(*given)))
    collate = predictor._task.collate

    def broken(rows: Any, indices: Any) -> Any:
        if 7 in indices:
            raise RuntimeError("broken")
        return collate(rows, indices)

    monkeypatch.setattr(predictor._task, "collate", broken)
    with pytest.raises(RuntimeError, match="broken"):
        predictor.scores(texts[:16])
    assert ran
    monkeypatch.undo()
    assert predictor.scores(texts[:16]) == said


def test_kinds_of_models_that_are_not_known_to_read_in_several_threads_do_not(folder: Path, tmp_path: Path) -> None:
    predictor = Predictor(folder, threads=2)
    assert predictor._task.in_lanes
    small = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}
    config = transformers.AutoConfig.for_model("big_bird", num_labels=2, vocab_size=30522, pad_token_id=0, **small)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    task = tasks.find("text-classification").load({"kind": "folder", "path": str(tmp_path)}, LABELS, {})
    assert not task.in_lanes


def test_where_fp32_is_asked_for_a_model_is_read_by_its_modules(folder: Path, texts: list[str]) -> None:
    for precision in ("fp32", "bf16"):
        predictor = Predictor(folder, threads=1, precision=precision)
        predictor.scores(texts[:2])
        assert ("forward" in vars(predictor._task.model.base_model)) == (precision == "bf16")


def test_layers_are_read_together_whatever_is_asked_first_and_without_a_bias() -> None:
    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self, *, bias: bool) -> None:
            super().__init__()
            self.q_proj, self.k_proj, self.v_proj = (nn.Linear(32, n, bias=bias) for n in (32, 16, 16))

    x, y = torch.randn(2, 5, 32), torch.randn(3, 32)
    for bias in (True, False):
        model = Attention(bias=bias).eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            before = [[layer(rows) for layer in (model.q_proj, model.k_proj, model.v_proj)] for rows in (x, y)]
            prepacked_model.settle(model, torch.device("cpu"))
            later = [[layer(rows) for layer in (model.v_proj, model.q_proj, model.k_proj)] for rows in (x, y)]
            again = model.q_proj(x), model.q_proj(x), model.k_proj(y)
        for (q, k, v), (v2, q2, k2) in zip(before, later, strict=True):
            assert all(torch.equal(a, b) for a, b in ((q, q2), (k, k2), (v, v2)))
        assert torch.equal(again[0], before[0][0])
        assert torch.equal(again[1], before[0][0])
        assert torch.equal(again[2], before[1][1])


def test_texts_that_are_cut_are_said(folder: Path) -> None:
    ear = Ear()
    asked = ["a film", "film " * 900, "a film " * 700]
    found, unread = worker.predict({"folder": str(folder), "texts": asked}, ear)
    assert len(found) == 3
    assert unread == {1: 902 - 64, 2: 1402 - 64}
    (said,) = [remark.text for remark in ear.all(Remark)]
    assert said == "2 texts are longer than the version reads. Of text 2 its last 838 tokens were not read."
    quiet = Ear()
    worker.predict({"folder": str(folder), "texts": asked[:1]}, quiet)
    worker.predict({"folder": str(folder), "texts": asked, "remarks": False}, quiet)
    assert not quiet.all(Remark)


def test_nothing_asked_is_nothing_answered_and_labels_are_in_order(folder: Path) -> None:
    predictor = Predictor(folder, threads=1)
    assert predictor.scores([]) == []
    assert predictor.labels == tuple(LABELS)


def test_a_folder_without_a_version_is_said_to_have_none(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(errors.ModelProblem, match="no trained version"):
        Predictor(fetch("minilm"))
    (tmp_path / "sft.json").write_text('{"task": "text-classification"}')
    with pytest.raises(errors.ModelProblem, match="no trained version"):
        Predictor(tmp_path)


def test_a_version_whose_head_is_missing_does_not_answer(tmp_path: Path, folder: Path) -> None:
    for file in fetch("minilm").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "sft.json").write_bytes((folder / "sft.json").read_bytes())
    with pytest.raises(errors.ModelProblem, match=r"not whole: classifier\.bias"):
        Predictor(tmp_path)
