"""A run without `--epochs` beside runs of 1, 3, 10 and 20: accuracy on held-out rows, and CPU-seconds.

    python -m tests.benchmarks epochs --data complaints --seeds 5
    python -m tests.benchmarks epochs --data amazon
    python -m tests.benchmarks epochs --data reviews --arms auto 1 3 --seeds 3

`complaints` are 700 synthetic rows of six unbalanced classes (see `complaints`), `amazon` 120 sentences of product
reviews, `reviews` all film sentences. Each seed draws the training rows, their validation split and the order anew; the
held-out rows take no part in training. CPU-seconds are of this process, with one thread, evaluations included.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

ARMS = ("auto", "1", "3", "10", "20")
_HELD = 1000


def main(argv: list[str] | None = None) -> None:
    """Measure each arm with each seed, in an order that turns, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks epochs")
    parser.add_argument("--data", choices=sorted(_SIZES), default="complaints")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help="auto, a number of epochs, or epochs/batch")
    options = parser.parse_args(argv or [])
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in options.arms}
    _trained(options.data, options.seeds, "0.01")  # what is done once in a process, by a run that does not count
    for seed in range(options.seeds):
        turn = seed % len(options.arms)
        for arm in options.arms[turn:] + options.arms[:turn]:
            found[arm].append(one := _trained(options.data, seed, arm))
            print(f"seed {seed} {arm:>4}: {_shown(one)}", flush=True)
    print(f"{options.data}, means of {options.seeds} seeds, on {_HELD:,} held-out rows:")
    for arm, runs in found.items():
        means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        spread = statistics.stdev(run["accuracy"] for run in runs) if len(runs) > 1 else 0.0
        print(f"  {arm:>4}: {_shown(means)}; standard deviation of the accuracy {100 * spread:.1f} points")


def _shown(one: dict[str, float]) -> str:
    return (
        f"accuracy {one['accuracy']:.4f}, {one['cpu']:.0f} CPU-s, {one['steps']:.0f} steps, {one['epochs']:.1f} epochs"
    )


def rows(data: str, seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the rows to train with and those held out, as (text, label)."""
    from sft_magics.datasets.samples.text_samples import read_sample
    from tests.benchmarks import complaints

    if data == "complaints":
        texts, labels = complaints.rows(_SIZES[data] + _HELD, seed)
        whole = list(zip(texts, labels, strict=True))
    else:
        texts, labels, _ = read_sample(data)
        whole = sorted(set(zip(texts, labels, strict=True)))
    random.Random(seed).shuffle(whole)
    return whole[_HELD : _HELD + (_SIZES[data] or len(whole))], whole[:_HELD]


def _trained(data: str, seed: int, arm: str) -> dict[str, float]:
    from sft_magics.core.events import EpochDone, Event
    from sft_magics.engine.jobs import worker

    heard: list[Event] = []

    def sink(event: Event) -> str:
        heard.append(event)
        return ""

    train, held = rows(data, seed)
    with tempfile.TemporaryDirectory() as place:
        spec = order(Path(place), train, seed, arm)
        began = time.process_time()
        made = worker.train(spec, sink, Path(place) / "run")
        cpu = time.process_time() - began
        scores, _ = worker.predict({"folder": str(made.folder), "texts": [text for text, _ in held]}, lambda _: "")
    guesses = [spec["labels"][max(range(len(s)), key=s.__getitem__)] for s in scores]
    right = sum(g == label for g, (_, label) in zip(guesses, held, strict=True))
    batches = made.steps / spec["options"]["epochs"]
    last = max(event.step for event in heard if isinstance(event, EpochDone))
    return {"accuracy": right / len(held), "cpu": cpu, "steps": last, "epochs": last / batches}


def order(folder: Path, train: list[tuple[str, str]], seed: int, arm: str) -> dict[str, Any]:
    """Return the order of a run as the product writes it, of `arm` epochs; `auto`: as many as it finds right."""
    import pandas as pd

    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.core.workspace import Workspace
    from sft_magics.datasets import build
    from sft_magics.lifecycle.training.length import Size
    from sft_magics.lifecycle.training.recipe import Recipe

    ws = Workspace(folder).prepare()
    frame = pd.DataFrame(train, columns=["text", "label"])
    dataset = build("rows", frame, workspace=ws, seed=seed)
    recipe = Recipe(**_length(arm), seed=seed, threads=1, device="cpu")
    size = Size("text-classification", dataset.counts["train"], dataset.counts["validation"])
    return {
        "task": "text-classification",
        "start": {"kind": "folder", "path": str(fetch("minilm"))},
        "labels": list(dataset.labels),
        "data": str(ws.root / dataset.file),
        "options": recipe.options(None, size),
    }


def _length(arm: str) -> dict[str, Any]:
    """Return the options of an arm: `auto`, a number of epochs, or epochs and batch (20/16)."""
    if arm == "auto":
        return {}
    epochs, _, batch = arm.partition("/")
    return {"epochs": float(epochs), **({"batch": int(batch)} if batch else {})}


_SIZES = {"complaints": 700, "amazon": 120, "reviews": 0}
