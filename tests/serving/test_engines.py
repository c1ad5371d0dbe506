"""Engines without torch say what torch says, of texts, pictures and masks, in any number and of any size."""

import base64
import io
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.runtime import batches, exports
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import rows
from sft_magics.engine import tasks
from sft_magics.engine.inference import onnx_export
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.jobs import worker
from sft_magics.engine.kernels import unpadded_encoder
from sft_magics.registry import ArtifactStore, Registry
from sft_magics.serving import engines, predictor
from sft_magics.serving.engines import agreement
from sft_magics.serving.engines.pictures import resized
from sft_magics.serving.engines.texts import UnpaddedTexts
from tests import shapes
from tests.engine.test_first_token_only import model_of

ODD = ["a moving, funny film", "dull", "", "<b>bold</b> \N{SNOWMAN} \0", "never a boring moment " * 300]


class Served:
    """A version of a model, its export, and the validation rows of its data."""

    def __init__(self, ws: Workspace, ref: str, target: Path) -> None:
        registry = Registry(ws)
        self.version = registry.version(ref)
        self.folder = ArtifactStore(ws.artifacts).checkout(self.version.artifact)
        self.inputs = list(rows(ws, registry.dataset(self.version.data), "validation")["text"])
        self.target = target / self.version.model
        onnx_export.export(self.folder, self.target)

    def torch(self, inputs: list[Any], *, alone: bool = False) -> list[Any]:
        return worker.reference(self.folder, inputs, alone=alone)


@pytest.fixture(scope="module")
def films(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(Workspace(trained_once), "films:1", tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a model of pictures, one of masks, and one of boxes."""
    root = tmp_path_factory.mktemp("scenes")
    ws = Workspace(root / "workspace")
    sft.data("emoji", "sample:emoji", workspace=ws)
    sft.data("masks", str(shapes.masks_folder(root / "masks", 48, 12)), workspace=ws)
    for name, options in {"emoji": {"method": "head", "epochs": 3}, "masks": {"epochs": 2}}.items():
        sft.create(name, data=name, workspace=ws)
        sft.finetune(name, workspace=ws, **options)  # type: ignore[arg-type]
    return ws


@pytest.fixture(scope="module")
def emoji(scenes: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(scenes, "emoji:1", tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def masks(scenes: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(scenes, "masks:1", tmp_path_factory.mktemp("exports"))


def largest(one: list[Any], other: list[Any]) -> float:
    return float(np.abs(np.array(one) - np.array(other)).max())


each_engine = pytest.mark.parametrize(("engine", "precision"), [("onnx", ""), ("openvino", "fp32")])


@each_engine
def test_texts_get_torchs_answers(films: Served, engine: str, precision: str) -> None:
    served = engines.load(films.target, engine, 1, precision)
    answers = served.scores([*films.inputs, *ODD])
    assert largest(answers, films.torch([*films.inputs, *ODD])) <= 1e-4
    torch = Predictor(films.folder, threads=1)
    torch.scores([*films.inputs, *ODD])
    assert served.unread == torch.unread
    assert list(served.unread) == [len(films.inputs) + len(ODD) - 1]
    served.scores(["dull"])
    assert served.unread == {}


def _roberta(folder: Path) -> Path:
    """A small RoBERTa whose tokenizer adds nothing, so that a text may have no token, and reads what is padding's."""
    words = ["<unk>", "<pad>", *(f"w{i}" for i in range(40))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>").save_pretrained(folder)
    model_of("roberta", initializer_range=0.3).save_pretrained(folder)
    task = tasks.find("text-classification").load(
        {"kind": "folder", "path": str(folder)}, ["a", "b", "c"], {"max_length": 30}
    )
    task.save(folder / "version")
    return folder / "version"


@each_engine
def test_what_a_text_may_be_for_a_roberta(engine: str, precision: str, tmp_path: Path) -> None:
    folder = _roberta(tmp_path)
    card = onnx_export.export(folder, tmp_path / "export")
    assert (card.preprocessing[exports.UNPADDED], card.preprocessing[exports.UNCOUNTED]) == (True, 1)
    texts = ["w5 <pad> w6 w7", "", "<pad> w9", "w1 " * 50, "w3", "w8 w9 w10 w11 w12", "", "w2 w4"]
    loaded = engines.load(tmp_path / "export", engine, 1, precision)
    answers = loaded.scores(texts)
    assert largest(answers, worker.reference(folder, texts)) <= 1e-4
    alone = [loaded.scores([text])[0] for text in texts]
    assert largest(alone, answers) <= 1e-5, "nobody is answered with a neighbor's"
    assert largest(loaded.scores(["", ""]), [alone[1]] * 2) <= 1e-5


@each_engine
def test_texts_for_a_network_that_pads_get_torchs_answers_too(
    films: Served, engine: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpadded_encoder, "unpadded", lambda _: None)
    assert exports.read_card(films.target).preprocessing[exports.UNPADDED], "those of other tests do not"
    assert exports.UNPADDED not in onnx_export.export(films.folder, tmp_path / "padded").preprocessing
    answers = engines.load(tmp_path / "padded", engine, 1, precision).scores([*films.inputs[:40], *ODD])
    assert largest(answers, films.torch([*films.inputs[:40], *ODD])) <= 1e-4


def test_in_bfloat16_texts_get_nearly_the_same(films: Served) -> None:
    answers = engines.load(films.target, "openvino", 1, "bf16").scores(films.inputs)
    assert 0 < largest(answers, films.torch(films.inputs)) <= 0.02


@each_engine
def test_pictures_get_torchs_answers_from_paths_and_from_bytes(emoji: Served, engine: str, precision: str) -> None:
    loaded = engines.load(emoji.target, engine, 1, precision)
    answers = loaded.scores(emoji.inputs)
    assert loaded.labels == emoji.version.labels
    assert largest(answers, emoji.torch(emoji.inputs)) <= 1e-4
    read = [Path(path).read_bytes() for path in emoji.inputs[:5]]
    assert largest(loaded.scores(read), answers[:5]) <= 1e-5, "another batch, other kernels"
    assert largest(emoji.torch(read), answers[:5]) <= 1e-4, "torch takes bytes as well"


def strange_pictures(folder: Path) -> list[str]:
    """Pictures that lie on their side, that are transparent, gray, long, small, and large."""
    draw = np.random.default_rng(0)
    found = {
        "gray": Image.fromarray(draw.integers(0, 255, (70, 90), dtype=np.uint8)),
        "clear": Image.fromarray(draw.integers(0, 255, (50, 60, 4), dtype=np.uint8)),
        "long": Image.fromarray(draw.integers(0, 255, (40, 400, 3), dtype=np.uint8)),
        "small": Image.fromarray(draw.integers(0, 255, (9, 7, 3), dtype=np.uint8)),
        "large": Image.fromarray(draw.integers(0, 255, (900, 1300, 3), dtype=np.uint8)),
    }
    for name, picture in found.items():
        picture.save(folder / f"{name}.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    found["long"].save(folder / "turned.jpg", exif=turned)
    return [*(str(folder / f"{name}.png") for name in found), str(folder / "turned.jpg")]


def test_strange_pictures_are_prepared_as_torch_prepares_them(emoji: Served, masks: Served, tmp_path: Path) -> None:
    paths = strange_pictures(tmp_path)
    assert largest(engines.load(emoji.target, "onnx", 1).scores(paths), emoji.torch(paths)) <= 1e-4
    said, truths = engines.load(masks.target, "onnx", 1).scores(paths), masks.torch(paths, alone=True)
    for answer, truth in zip(said, truths, strict=True):
        one, other = (mask_of(found) for found in (answer, truth))
        assert one.shape == other.shape
        assert (one != other).mean() <= 1e-3


def mask_of(answer: dict[str, Any]) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))


@each_engine
def test_masks_are_torchs(masks: Served, engine: str, precision: str) -> None:
    said, truths = engines.load(masks.target, engine, 1, precision).scores(masks.inputs), masks.torch(masks.inputs)
    for answer, truth in zip(said, truths, strict=True):
        assert (mask_of(answer) != mask_of(truth)).mean() <= 1e-3
        assert answer["shares"] == pytest.approx(truth["shares"], abs=1e-3)
        assert answer["confidence"] == pytest.approx(truth["confidence"], abs=1e-4)


def test_a_masks_answer_does_not_depend_on_the_others(masks: Served, tmp_path: Path) -> None:
    loaded = engines.load(masks.target, "onnx", 1)
    large = strange_pictures(tmp_path)[4]
    (alone,) = loaded.scores(masks.inputs[:1])
    assert loaded.scores([large, masks.inputs[0]])[1]["shares"] == pytest.approx(alone["shares"], abs=1e-3)


def test_maps_grow_and_shrink_as_torch_does_it() -> None:
    import torch

    maps = np.random.default_rng(1).normal(size=(3, 13, 20)).astype(np.float32)
    for high, wide in ((13, 20), (40, 77), (5, 6), (1, 1)):
        wanted = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], size=(high, wide), mode="bilinear")[0]
        assert np.abs(resized(maps, high, wide) - wanted.numpy()).max() <= 1e-5


@each_engine
@pytest.mark.parametrize("count", [1, 2, 3, 37, 100])
def test_any_number_of_texts_is_answered_in_order(films: Served, engine: str, precision: str, count: int) -> None:
    loaded = engines.load(films.target, engine, 1, precision)
    texts = [(films.inputs * 2)[i] * (1 + i % 4) for i in range(count)]
    alone = [loaded.scores([text])[0] for text in texts[-3:]]
    assert largest(loaded.scores(texts)[-3:], alone) <= 1e-5
    assert loaded.scores([]) == []


def test_batches_hold_every_row_once_and_few_sizes() -> None:
    sizes = [8 * (1 + i * i % 30) for i in range(77)]
    plan = batches.plan(sizes)
    assert sorted(i for batch in plan for i in batch) == list(range(77))
    assert all(len(batch) * max(sizes[i] for i in batch) <= batches.MOST for batch in plan)
    assert sum(len(batch) not in batches.SIZES for batch in plan) <= 1
    assert batches.plan([100_000]) == [[0]], "what is longer than a batch is one of its own"
    assert len(batches.plan([8] * 64)) == 1
    assert len(batches.plan([8] * 32 + [512] * 2)) == 2, "short rows are not filled up to long ones"
    assert [batches.filled(n) for n in (1, 3, 33, 64, 100)] == [1, 4, 64, 64, 100]


def test_batches_without_padding_hold_every_row_once_and_keep_long_ones_apart() -> None:
    lengths = [3 + i * i % 250 for i in range(77)]
    parts = batches.unpadded(lengths)
    assert sorted(i for part in parts for i in part) == list(range(77))
    assert all(sum(lengths[i] for i in part) <= batches.MOST for part in parts)
    assert batches.unpadded([]) == []
    assert batches.unpadded([100_000]) == [[0]], "what is longer than a batch is one of its own"
    assert len(batches.unpadded([8 + i % 30 for i in range(32)])) == 1, "other lengths need no batch of their own"
    assert len(batches.unpadded([8] * 32 + [512] * 2)) == 2, "a long one would make places for all"


def test_what_an_engine_prepares_once_for_a_length_does_not_decide_on_its_precision() -> None:
    seen: set[str] = set()

    def prepares(inputs: Sequence[str]) -> list[Any]:
        if not seen.issuperset(inputs):
            seen.update(inputs)
            time.sleep(0.05)
        return []

    def takes_longer(_: Sequence[str]) -> list[Any]:
        time.sleep(0.01)
        return []

    one, other = agreement._in_turn([prepares, takes_longer], ["a", "b", "c"])
    assert one < other


def test_engines_see_few_shapes() -> None:
    for finest in (1, 8):
        found = [batches.stepped(n, finest) for n in range(1, 4097)]
        assert all(n <= m < n + max(finest, n / 14) for n, m in enumerate(found, 1))
        assert len(set(found)) < 150
    texts = UnpaddedTexts.__new__(UnpaddedTexts)
    texts._pad, texts._limit, texts._uncounted = 7, 30, None
    batch = texts.batch([[1, 2, 3], [4] * 29], few_shapes=True)
    assert {name: found.shape for name, found in batch.items()} == {
        "input_ids": (32,), "positions": (32,), "token_at": (2, 30), "place_of": (32,),
    }  # fmt: skip
    assert batch["input_ids"][batch["token_at"][0, :3]].tolist() == [1, 2, 3]
    assert batch["place_of"][:4].tolist() == [0, 1, 2, 30]
    assert batch["positions"][:4].tolist() == [0, 1, 2, 0]
    assert (batch["token_at"][0, 3:] == -1).all()
    texts._limit = 256
    lone = {name: found.shape for name, found in texts.batch([[5] * 26], few_shapes=True).items()}
    assert lone == {"input_ids": (28,), "positions": (28,), "token_at": (1, 28), "place_of": (28,)}
    draw = np.random.default_rng(0)
    requests = [
        [[1] * int(n) for n in draw.geometric(1 / 27, count).clip(3, 256)] for count in draw.integers(1, 33, 2000)
    ]
    asked = [[rows[i] for i in part] for rows in requests for part in texts.parts(rows)]
    exact, few = (
        {tuple(sorted((n, a.shape) for n, a in texts.batch(rows, few_shapes=kept).items())) for rows in asked}
        for kept in (False, True)
    )
    assert len(few) < 0.5 * len(exact)


@pytest.mark.parametrize("engine", ["onnx", "openvino", "onnx-int8"])
def test_a_process_that_answers_has_no_torch(films: Served, engine: str) -> None:
    onnx_export.quantize(films.target)
    code = f"""
import json, sys
from pathlib import Path
from sft_magics.serving import predictor
loaded = predictor.load(Path({str(films.target)!r}), 1, {engine!r})
scores = loaded.scores(["a moving, funny film"])
there = [n for n in ("torch", "transformers", "pandas", "onnx") if n in sys.modules]
print(json.dumps([scores, list(loaded.labels), there]))
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    scores, labels, there = json.loads(child.stdout.splitlines()[-1])
    assert there == []
    assert tuple(labels) == films.version.labels
    assert largest(scores, films.torch(["a moving, funny film"])) <= 0.05


def test_pictures_and_masks_are_answered_without_torch(emoji: Served, masks: Served) -> None:
    code = f"""
import sys
from pathlib import Path
from sft_magics.serving import predictor
for folder, picture in {[(str(s.target), s.inputs[0]) for s in (emoji, masks)]!r}:
    assert len(predictor.load(Path(folder), 1, "onnx").scores([Path(picture).read_bytes()])) == 1
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], timeout=120, check=True)


def test_what_openvino_compiled_is_kept(films: Served) -> None:
    engines.load(films.target, "openvino", 1, "fp32")
    kept = sorted((films.target / exports.COMPILED).rglob("*.blob"))
    assert kept
    engines.load(films.target, "openvino", 1, "fp32")
    assert sorted((films.target / exports.COMPILED).rglob("*.blob")) == kept


def test_damaged_pictures_are_named(emoji: Served, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(Path(emoji.inputs[0]).read_bytes()[:50])
    loaded = engines.load(emoji.target, "onnx", 1)
    with pytest.raises(errors.DataProblem, match=r"1 images cannot be read: .*torn\.png"):
        loaded.scores([emoji.inputs[0], str(tmp_path / "torn.png")])
    with pytest.raises(errors.DataProblem, match="a file of 7 bytes"):
        loaded.scores([b"nothing"])


def test_what_cannot_be_loaded_says_why(films: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.UsageProblem, match="no engine 'tensorrt'"):
        predictor.load(films.target, 1, "tensorrt")
    (tmp_path / exports.MODEL).write_bytes((films.target / exports.MODEL).read_bytes())
    with pytest.raises(errors.ModelProblem, match="holds no exported version"):
        engines.load(tmp_path, "onnx", 1)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(errors.ModelProblem, match="onnxruntime is not installed"):
        engines.load(films.target, "onnx", 1)


def test_a_failed_export_leaves_nothing(films: Served, tmp_path: Path) -> None:
    for name in ("sft.json", "config.json"):
        (tmp_path / name).write_bytes((films.folder / name).read_bytes())
    with pytest.raises(errors.ModelProblem):
        onnx_export.export(tmp_path, tmp_path / "exports" / "one")
    assert list((tmp_path / "exports").glob("*")) == []
