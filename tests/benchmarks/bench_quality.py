"""CPU-seconds to a quality: that with which the Hugging Face Trainer in bf16 ends after three epochs.

    python -m tests.benchmarks quality                         complaints, emoji and films, three seeds each
    python -m tests.benchmarks quality --data complaints --seeds 3

The Trainer runs three epochs of the classic recipe (AdamW at the base's usual rate, linear, batches of 32) and sets
the goal: the accuracy on the held-out rows at its end. Ours runs its default recipe, as `%sft_finetune MODEL` does. The
time of a side is that of the second of two successive evaluations that reach the goal, loading and evaluations
included. Each run is a process of its own with one thread, in turn, and both sides are evaluated equally often on the
same held-out rows. `complaints` are synthetic rows (see `complaints`), `emoji` a sample of pictures, `films` the film
sentences.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ("complaints", "emoji", "films")
_EPOCHS, _WARMUP, _DECAY = 3, 0.1, 0.01
Points = list[tuple[float, float]]  # CPU-seconds and accuracy of each evaluation


def main(argv: list[str] | None = None) -> None:
    """Run both sides with each seed and print when each reached the goal."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks quality")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--child", choices=("ours", "trainer"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args(argv or [])
    if options.child:
        side = _ours if options.child == "ours" else _trainer
        print(json.dumps(side(json.loads((Path(options.folder) / "spec.json").read_text()), Path(options.folder))))
        return
    for data in options.data:
        found = [_seed(data, seed) for seed in range(options.seeds)]
        reached = [ours for ours, _ in found if ours is not None]
        print(f"{data}: ours reached the goal in {len(reached)} of {len(found)} runs", flush=True)
        ratios = [theirs / ours for ours, theirs in found if ours is not None and theirs is not None]
        if ratios:
            middle = statistics.median(ratios)
            print(f"  {middle:.2f} times as fast as the Trainer in bf16 ({min(ratios):.2f} to {max(ratios):.2f})")


def _seed(data: str, seed: int) -> tuple[float | None, float | None]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "spec.json").write_text(json.dumps(_order(data, seed, folder)))
        sides = ("ours", "trainer") if seed % 2 else ("trainer", "ours")
        found = {side: _run(side, folder) for side in sides}
    goal = found["trainer"][-1][1]
    ours, theirs = (reached(found[side], goal) for side in ("ours", "trainer"))
    shown = [f"{at:.0f} CPU-s" if at is not None else "not reached" for at in (ours, theirs)]
    whole = f"ours ended at {found['ours'][-1][1]:.4f} after {found['ours'][-1][0]:.0f} CPU-s"
    print(f"{data} seed {seed}: goal {goal:.4f}; ours {shown[0]}, Trainer {shown[1]}; {whole}", flush=True)
    return ours, theirs


def reached(points: Points, goal: float) -> float | None:
    """Return when the second of two successive evaluations reached the goal; that of the last one where it is alone."""
    for (_, first), (at, second) in itertools.pairwise(points):
        if first >= goal and second >= goal:
            return at
    return points[-1][0] if points and points[-1][1] >= goal else None


def _run(side: str, folder: Path) -> Points:
    from sft_magics.engine.runtime import launchers

    words = ["tests.benchmarks", "quality", f"--child={side}", f"--folder={folder}"]
    environment = {**os.environ, **launchers.ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if child.returncode:
        sys.exit(child.stderr[-3000:])
    return [(at, accuracy) for at, accuracy in json.loads(child.stdout.splitlines()[-1])]


def _order(data: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return the order of our run by the default recipe, with the held-out rows as its validation rows."""
    import pandas as pd

    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.core.workspace import Workspace
    from sft_magics.datasets import build
    from sft_magics.engine.tasks import find
    from sft_magics.lifecycle.training.length import Size
    from sft_magics.lifecycle.training.recipe import Recipe
    from tests.benchmarks import bench_epochs

    ws = Workspace(folder / "sft").prepare()
    if data == "emoji":
        task, base = "image-classification", "lite0"
        dataset = build("rows", "sample:emoji", workspace=ws, validation=0.3, seed=seed)
    else:
        task, base = "text-classification", "minilm"
        train, held = bench_epochs.rows("reviews" if data == "films" else data, seed)
        frame = pd.DataFrame(train + held, columns=["text", "label"])
        frame["split"] = ["train"] * len(train) + ["validation"] * len(held)
        dataset = build("rows", frame, workspace=ws, split="split")
    start = {"kind": "folder", "path": str(fetch(base))}
    size = Size(task, dataset.counts["train"], dataset.counts["validation"])
    recipe = Recipe(seed=seed, threads=1, device="cpu")
    return {
        "task": task,
        "start": start,
        "labels": list(dataset.labels),
        "data": str(ws.root / dataset.file),
        "options": recipe.options(find(task).recipe(start), size),
    }


def _ours(spec: dict[str, Any], folder: Path) -> Points:
    from sft_magics.core.events import EpochDone, Event
    from sft_magics.engine.jobs import worker

    points: Points = []

    def sink(event: Event) -> str:
        if isinstance(event, EpochDone):
            points.append((time.process_time() - began, event.metrics["accuracy"]))
        return ""

    began = time.process_time()
    worker.train(spec, sink, folder / "run")
    return points


def _trainer(spec: dict[str, Any], folder: Path) -> Points:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    torch.set_num_threads(1)
    points: Points = []

    class Watch(TrainerCallback):
        def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
            points.append((time.process_time() - began, metrics["eval_accuracy"]))

    options, began = spec["options"], time.process_time()
    torch.manual_seed(options["seed"])
    model, parts, collate = (_texts if spec["task"] == "text-classification" else _pictures)(spec)
    inside = options["eval_steps"] or -(-len(parts[0]) // options["batch"])
    recipe = TrainingArguments(
        str(folder / "trainer"), num_train_epochs=_EPOCHS, per_device_train_batch_size=options["batch"],
        per_device_eval_batch_size=options["batch"], learning_rate=options["lr"], weight_decay=_DECAY,
        warmup_steps=_WARMUP, max_grad_norm=1.0, lr_scheduler_type="linear", optim="adamw_torch_fused", use_cpu=True,
        bf16=True, save_strategy="no", eval_strategy="steps", eval_steps=inside, logging_steps=1000, report_to=[],
        disable_tqdm=True, remove_unused_columns=False, seed=options["seed"],
    )  # fmt: skip
    trainer = Trainer(
        model, recipe, train_dataset=parts[0], eval_dataset=parts[1], data_collator=collate, callbacks=[Watch()],
        compute_metrics=lambda found: {"accuracy": float((found[0].argmax(-1) == found[1]).mean())},
    )  # fmt: skip
    trainer.train()
    if trainer.state.global_step % inside:
        trainer.evaluate()
    return points


def _texts(spec: dict[str, Any]) -> Any:
    """Return the library's own classifier on the base, tokenized rows of both splits, and its padding."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

    base = spec["start"]["path"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(spec["labels"]))

    def rows(split: str) -> list[dict[str, Any]]:
        texts, labels = _rows(spec, split)
        ids = tokenizer(texts, truncation=True, max_length=spec["options"]["max_length"])["input_ids"]
        return [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]

    return model.float(), [rows("train"), rows("validation")], DataCollatorWithPadding(tokenizer)


def _pictures(spec: dict[str, Any]) -> Any:
    """Return our model and our batches, changed by chance in training, for the Trainer's loop."""
    import torch

    from sft_magics.engine.tasks import find

    task: Any = find(spec["task"]).load(spec["start"], spec["labels"], spec["options"])
    encoded = []
    for split in ("train", "validation"):
        texts, labels = _rows(spec, split)
        encoded.append(task.encode(texts, [spec["labels"][label] for label in labels]))

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = task.model

        def forward(self, **batch: Any) -> dict[str, Any]:
            logits = task.logits(batch).float()
            return {"loss": torch.nn.functional.cross_entropy(logits, batch["labels"]), "logits": logits}

    def collate(items: list[tuple[int, int]]) -> Any:
        part = items[0][0]
        return task.collate(encoded[part], [i for _, i in items], None if part else 0)

    parts = [[(part, i) for i in range(len(rows.lengths))] for part, rows in enumerate(encoded)]
    return Whole(), parts, collate


def _rows(spec: dict[str, Any], split: str) -> tuple[list[str], list[int]]:
    from sft_magics.datasets import read_rows

    frame = read_rows(Path(spec["data"]), split)
    return list(frame["text"]), [spec["labels"].index(label) for label in frame["label"]]
