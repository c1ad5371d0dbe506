"""Steps of the engine beside plain PyTorch loops and other trainers: the same model, rows, batch, size, one process.

    python -m tests.benchmarks tasks                           every case, 7 rounds, one thread
    python -m tests.benchmarks tasks --case segmentation --rounds 11 --threads 2

A plain loop is what a tutorial writes: files are opened and changed by torchvision's transforms at every step, in fp32,
batches padded to their longest, logits of every token. A peer that ends in `bf16` adds autocast. A round takes some
steps of each, in an order that changes; its ratio is of CPU-seconds (of wall with more threads) a step, of language
models a token. Medians of the ratios are printed. ResNet-50 has drawn weights: its speed is measured, not its quality.
Of a frozen backbone whole runs of some epochs are compared, with an evaluation after each; both sides read every file.

Peers that are not installed are left out, and said so: `make bench-engine` has an environment with all of them.
"""

import argparse
import functools
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import peers
from tests.benchmarks.peers import Clock, Side


def main(argv: list[str] | None = None) -> None:
    """Measure each case and print its ratios."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks tasks")
    parser.add_argument("--case", choices=sorted(_CASES), action="append")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="a round and side")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv or [])
    import torch

    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    for name in options.case or _CASES:
        with tempfile.TemporaryDirectory() as folder:
            sides = _CASES[name](Path(folder), options.threads)
            _measure(name, sides, options, clock)


def _measure(name: str, sides: dict[str, Side], options: argparse.Namespace, clock: Clock) -> None:
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for side in sides.values():
        side(1, clock)
    for turn in range(options.rounds):
        for side in sorted(sides, reverse=bool(turn % 2)):
            seconds, units = sides[side](options.steps, clock)
            taken[side].append(seconds / units)
    ours = taken.pop("ours")
    unit = "CPU-s" if options.threads == 1 else "s"
    print(f"{name}: ours {statistics.median(ours):.4g} {unit} a unit of work", flush=True)
    for side, times in taken.items():
        ratios = sorted(theirs / mine for theirs, mine in zip(times, ours, strict=True))
        middle, low, high = statistics.median(ratios), ratios[0], ratios[-1]
        print(
            f"  {middle:.2f} times as fast as {side} ({statistics.median(times):.4g} {unit}; {low:.2f} to {high:.2f})"
        )


def _ours(task: str, data: Path, labels: list[str], start: dict[str, Any], threads: int, folder: Path,
          **more: Any) -> Side:  # fmt: skip
    """Steps of the engine's own loop on the recipe of the base."""
    from sft_magics.engine.jobs import worker
    from sft_magics.engine.tasks import find
    from sft_magics.lifecycle.training.recipe import Recipe

    options = Recipe(epochs=1000.0, threads=threads, device="cpu").options({**find(task).recipe(start), **more})
    spec = {"task": task, "start": start, "labels": labels, "data": str(data), "options": options}
    loop, _ = worker.prepare(spec, lambda _: "", folder / "run")
    loop.task.model.train()
    numbers = iter(range(10**9))

    def side(steps: int, clock: Clock) -> tuple[float, float]:
        began, units = clock(), 0.0
        for number in (next(numbers) for _ in range(steps)):
            loop.rehearse(number)
            rows = loop.batches_of(number // loop.plan.batches)[number % loop.plan.batches]
            units += sum(loop.plan.train.lengths[i] for i in rows) if task == "causal-lm" else 1.0
        return clock() - began, units

    return side


def _plain(
    model: Any, batches: Iterator[Any], loss: Callable[[Any], Any], *, bf16: bool = False, sgd: bool = False,
    units: Callable[[Any], float] = lambda _: 1.0,
) -> Side:  # fmt: skip
    """Steps of a loop as a tutorial writes it."""
    import torch

    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(learning, lr=1e-4)
    if sgd:  # the classic recipe
        optimizer = torch.optim.SGD(learning, lr=1e-3, momentum=0.9)
    model.train()

    def step(batch: Any) -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(batch)
        value.backward()
        if not sgd:
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        return units(batch)

    def side(steps: int, clock: Clock) -> tuple[float, float]:
        began = clock()
        done = sum(step(next(batches)) for _ in range(steps))
        return clock() - began, done

    return side


def _dataset(name: str, folder: Path) -> tuple[Path, Any, list[str]]:
    """Return a sample's file, its training rows and its labels."""
    from sft_magics.core.workspace import Workspace
    from sft_magics.datasets import build, read_rows

    ws = Workspace(folder / "sft").prepare()
    dataset = build(name, f"sample:{name}", workspace=ws)
    path = ws.root / dataset.file
    return path, read_rows(path, "train"), list(dataset.labels)


def _shuffled(rows: list[Any], batch: int) -> Iterator[list[Any]]:
    draw = random.Random(0)
    while True:
        yield draw.sample(rows, batch)


class _Pictures:
    """A data set as PyTorch knows them: files that are opened and changed when they are asked for."""

    def __init__(self, frame: Any, labels: list[str], change: Callable[[Any], Any]) -> None:
        self.paths, self.classes = list(frame["text"]), [labels.index(label) for label in frame["label"]]
        self.change = change

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.change(Image.open(self.paths[index]).convert("RGB")), self.classes[index]


def _there(*names: str) -> list[str]:
    """Return which packages are installed, and say which are not."""
    from importlib.util import find_spec

    found = [name for name in names if find_spec(name) is not None]
    for name in sorted(set(names) - set(found)):
        print(f"({name} is not installed here: left out)")
    return found


def _resnet(folder: Path, threads: int) -> dict[str, Side]:
    import torch
    import torchvision
    from torchvision.transforms import v2

    batch = 16
    data, frame, labels = _dataset("emoji", folder)
    start = {"kind": "name", "path": "resnet50", "weights": "none"}
    ours = _ours("image-classification", data, labels, start, threads, folder, batch=batch, image_size=224)
    change = v2.Compose([v2.RandomResizedCrop(224, (0.7, 1.0)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
                         v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])  # fmt: skip
    rows = _Pictures(frame, labels, change)

    def batches() -> Iterator[Any]:
        for part in _shuffled(list(range(len(rows))), batch):
            items = [rows[i] for i in part]
            yield torch.stack([p for p, _ in items]), torch.tensor([c for _, c in items])

    def model() -> Any:
        return torchvision.models.resnet50(num_classes=len(labels))

    def plain(*, bf16: bool) -> Side:
        net = model()
        loss = torch.nn.functional.cross_entropy
        return _plain(net, batches(), lambda b: loss(net(b[0]).float(), b[1]), bf16=bf16, sgd=True)

    found = {"ours": ours, "a plain loop": plain(bf16=False), "a plain loop bf16": plain(bf16=True)}
    if _there("accelerate"):
        found["the Hugging Face Trainer bf16"] = peers.hugging_face(rows, model(), batch, folder)
    if _there("fastai"):
        found["fastai"] = peers.fastai(rows, model(), batch)
    return found


_FROZEN_EPOCHS = 5


def _frozen(folder: Path, threads: int, sample: str = "emoji", size: int = 96) -> dict[str, Side]:
    """Whole runs of some epochs that learn the head alone, of a few hundred pictures or, as digits, of thousands."""
    import timm
    import torch
    from torchvision.transforms import v2

    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.datasets import read_rows
    from sft_magics.engine.jobs import worker
    from sft_magics.engine.models import backbones
    from sft_magics.engine.tasks import find
    from sft_magics.lifecycle.training.recipe import Recipe

    data, frame, labels = _dataset(sample, folder)
    start = {"kind": "folder", "path": str(fetch("lite0"))}
    recipe = {**find("image-classification").recipe(start), "augment": "none", "image_size": size}
    chosen = Recipe(epochs=float(_FROZEN_EPOCHS), threads=threads, device="cpu", method="head", lr=0.01)
    spec = {"task": "image-classification", "start": start, "labels": labels, "data": str(data),
            "options": chosen.options(recipe), "resume": False}  # fmt: skip

    def ours(steps: int, clock: Clock) -> tuple[float, float]:
        began = clock()
        for _ in range(steps):
            worker.train(spec, lambda _: "", folder / "frozen")
        return clock() - began, float(steps)

    change = v2.Compose([v2.Resize(size), v2.CenterCrop(size), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
                         v2.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])  # fmt: skip
    learned, judged = (_Pictures(part, labels, change) for part in (frame, read_rows(data, "validation")))
    stored = backbones.whole(start).model.state_dict()

    def plain(steps: int, clock: Clock) -> tuple[float, float]:
        began = clock()
        for _ in range(steps):
            model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
            model.load_state_dict(stored)
            model.reset_classifier(len(labels))
            _learn_the_head(model, learned, judged)
        return clock() - began, float(steps)

    return {"ours": ours, f"a plain loop of {_FROZEN_EPOCHS} epochs": plain}


def _learn_the_head(model: Any, learned: _Pictures, judged: _Pictures) -> None:
    """Let the head of a frozen model learn as a tutorial writes it: the backbone is run at every step."""
    import torch
    from torch.utils.data import DataLoader

    head = model.get_classifier()
    model.requires_grad_(False)
    head.requires_grad_(True)
    model.eval()  # what is frozen keeps its counts
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
    for _ in range(_FROZEN_EPOCHS):
        for pictures, classes in DataLoader(learned, 32, shuffle=True):  # type: ignore[arg-type, var-annotated]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(pictures), classes).backward()
            optimizer.step()
        with torch.no_grad():
            for pictures, _ in DataLoader(judged, 32):  # type: ignore[arg-type, var-annotated]
                model(pictures)


def _segmentation(folder: Path, threads: int) -> dict[str, Side]:
    import torch
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.engine.tasks import find

    data, frame, labels = _dataset("planet", folder)
    start = {"kind": "folder", "path": str(fetch("lite0"))}
    ours = _ours("semantic-segmentation", data, labels, start, threads, folder)
    model = find("semantic-segmentation").load(start, labels, {"image_size": 128}).model
    change = v2.Compose([v2.RandomResizedCrop(128, (0.7, 1.0)), v2.RandomHorizontalFlip()])

    def batches() -> Iterator[Any]:
        for rows in _shuffled(list(zip(frame["text"], frame["mask"], strict=True)), 8):
            pairs = [change(tv_tensors.Image(Image.open(p).convert("RGB")), tv_tensors.Mask(Image.open(m)))
                     for p, m in rows]  # fmt: skip
            pictures = torch.stack([p.float() / 127.5 - 1 for p, _ in pairs])
            yield pictures, torch.stack([m.reshape(128, 128).long() for _, m in pairs])

    loss = torch.nn.functional.cross_entropy
    return {"ours": ours, "a plain loop": _plain(model, batches(), lambda b: loss(model(b[0]), b[1]))}


def _detection(folder: Path, threads: int) -> dict[str, Side]:
    import torch
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.datasets.annotations import boxes
    from sft_magics.engine.tasks import find

    data, frame, labels = _dataset("islands", folder)
    start = {"kind": "folder", "path": str(fetch("lite0"))}
    ours = _ours("object-detection", data, labels, start, threads, folder)
    task = find("object-detection").load(start, labels, {"image_size": 256})
    task.encode(list(frame["text"][:1]), None)
    model = task.model
    change = v2.Compose([v2.RandomResizedCrop(256, (0.7, 1.0)), v2.RandomHorizontalFlip(), v2.SanitizeBoundingBoxes()])

    def one(path: str, label: str) -> tuple[Any, dict[str, Any]]:
        corners = torch.tensor([b.corners for b in boxes.loads(label)])
        place = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(256, 256))  # type: ignore[call-overload]
        marks = {"boxes": place, "labels": torch.ones(len(corners), dtype=torch.long)}
        picture, marks = change(tv_tensors.Image(Image.open(path).convert("RGB")), marks)
        return picture.float() / 255, {k: torch.Tensor(v).to(v.dtype) for k, v in marks.items()}

    def batches() -> Iterator[Any]:
        for rows in _shuffled(list(zip(frame["text"], frame["label"], strict=True)), 4):
            yield [one(*row) for row in rows]

    def loss(batch: Any) -> Any:
        return torch.stack(list(model([p for p, _ in batch], [m for _, m in batch]).values())).sum()

    return {"ours": ours, "a plain loop": _plain(model, batches(), loss)}


def _language(folder: Path, threads: int) -> dict[str, Side]:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.engine.tasks import find
    from sft_magics.engine.tasks.causal_lm import CausalLM

    data, frame, _ = _dataset("docstrings", folder)
    start = {"kind": "folder", "path": str(fetch("smollm2"))}
    ours = _ours("causal-lm", data, [], start, threads, folder)

    def peer(*, bf16: bool) -> Side:
        task = find("causal-lm").load(start, [], {"method": "lora", "max_length": 512})
        assert isinstance(task, CausalLM)
        task.suit(bf16=bf16)
        rows = task.encode(list(frame["text"]), list(frame["label"]))
        assert rows.starts is not None
        known = list(zip(rows.ids, rows.starts, strict=True))

        def batches() -> Iterator[Any]:
            for part in _shuffled(known, 8):
                ids = pad_sequence([torch.tensor(i) for i, _ in part], batch_first=True)
                targets = [torch.tensor([-100] * s + i[s:]) for i, s in part]
                labels = pad_sequence(targets, batch_first=True, padding_value=-100)
                mask = pad_sequence([torch.ones(len(i), dtype=torch.long) for i, _ in part], batch_first=True)
                yield {"input_ids": ids, "attention_mask": mask, "labels": labels}

        tokens = lambda b: float(b["attention_mask"].sum())  # noqa: E731
        return _plain(task.model, batches(), lambda b: task.model(**b).loss, bf16=bf16, units=tokens)

    found = {"ours": ours, "peft in a plain loop": peer(bf16=False), "peft in a plain loop bf16": peer(bf16=True)}
    if _there("trl"):
        from sft_magics.engine.models import language_models

        def load() -> tuple[Any, Any]:
            base = language_models.load(start)
            return base.model, base.tokenizer

        pairs = [{"prompt": p, "completion": c} for p, c in zip(frame["text"], frame["label"], strict=True)]
        found["TRL packed bf16"] = peers.trl(pairs, load, 16, folder)
    return found


_CASES: dict[str, Callable[[Path, int], dict[str, Side]]] = {
    "resnet50": _resnet,
    "frozen": _frozen,
    "frozen-digits": functools.partial(_frozen, sample="digits", size=64),
    "segmentation": _segmentation,
    "detection": _detection,
    "smollm2-lora": _language,
}
