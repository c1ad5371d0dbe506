"""Fine-tuning beside the Hugging Face Trainer: the same base, rows, split, batch, rate, epochs, threads and machine.

    python -m tests.benchmarks engine                       one epoch on the 8,543 film sentences, seed 0
    python -m tests.benchmarks engine --seeds 3 --threads 1
    python -m tests.benchmarks engine --rows 1000 --seeds 3

Each run is a process of its own, in turn (ours, fp32, bf16, bf16, fp32, ours, ...), with the same environment. The
clock runs from after the imports to the end: loading, tokenizing, training and one evaluation of all validation rows.
Ours also writes its checkpoint and its best weights, the peers write nothing. CPU-seconds are of the whole process, all
threads. Quality: the mean accuracy over the seeds, and a paired test (McNemar, exact) on the same validation rows.
"""

import argparse
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
LR, BATCH, DECAY, WARMUP, LENGTH = 5e-5, 32, 0.01, 0.1, 256


def main(argv: list[str] | None = None) -> None:
    """Measure and print a table: medians by CPU-second and by wall, ratios, accuracies."""
    options = _options(argv if argv is not None else [])
    if options.child:
        print(json.dumps(_CHILDREN[options.child](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = _table(Path(folder), options.rows)
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in _CHILDREN}
        for seed in range(options.seed, options.seed + options.seeds):
            options.seed = seed
            for side in sorted(_CHILDREN, key=list(_CHILDREN).index, reverse=bool(seed % 2)):
                found[side].append(_run(side, table, options))
    _print(found, options)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks engine")
    parser.add_argument("--rows", type=int, default=0, help="training rows; 0 for all")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--threads", type=int, default=0, help="0: the cores there are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", choices=sorted(_CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not options.threads:
        from sft_magics.core.runtime import cpu_count

        options.threads = cpu_count.usable()
    return options


def _table(folder: Path, rows: int) -> Path:
    """Write the film sentences, split as the product splits them, with at most `rows` training rows."""
    from sft_magics.core.workspace import Workspace
    from sft_magics.datasets import build
    from sft_magics.datasets.fingerprints import fingerprint
    from sft_magics.datasets.tables import parquet

    ws = Workspace(folder).prepare()
    dataset = build("reviews", "sample:reviews", workspace=ws)
    if not rows:
        return ws.root / dataset.file
    frame = parquet.rows(ws, dataset)
    train = frame[frame["split"] == "train"].sample(rows, random_state=0)
    columns = [
        list(frame.loc[frame.index.isin(train.index) | (frame["split"] != "train"), c])
        for c in parquet.COLUMNS
        if c in frame
    ]
    path = folder / "short" / f"{fingerprint(zip(*columns[1:], strict=True))}.parquet"
    parquet.write(path, columns)
    return path


def _run(side: str, table: Path, options: argparse.Namespace) -> dict[str, Any]:
    from sft_magics.engine.runtime import launchers

    words = [f"--{name}={getattr(options, name)}" for name in ("epochs", "threads", "seed")]
    child = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "engine", f"--child={side}", f"--table={table}", *words],
        cwd=ROOT,
        env={**os.environ, **launchers.ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        sys.exit(child.stderr[-3000:])
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    print(
        f"{side:5} {found['wall']:7.1f} s wall {found['cpu']:7.1f} CPU-s, accuracy {found['accuracy']:.3f}", flush=True
    )
    return found


def _ours(options: argparse.Namespace) -> dict[str, Any]:
    from sft_magics.core.events import EpochDone, Event, Remark
    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.engine.jobs import worker

    heard: list[Event] = []

    def sink(event: Event) -> str:
        heard.append(event)
        return ""

    spec: dict[str, Any] = {
        "task": "text-classification",
        "start": {"kind": "folder", "path": str(fetch("minilm"))},
        "labels": ["negative", "positive"],
        "data": options.table,
        "options": {
            "epochs": options.epochs, "lr": LR, "batch": BATCH, "weight_decay": DECAY, "warmup": WARMUP,
            "max_length": LENGTH, "seed": options.seed, "precision": "auto", "device": "cpu",
            "threads": options.threads, "checkpoint_seconds": 60.0, "dropout": True,
        },
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        clock = _Clock()
        trained = worker.train(spec, sink, Path(folder))
        found = clock.read()
    last = [e for e in heard if isinstance(e, EpochDone)][-1]
    said = next(e.text for e in heard if isinstance(e, Remark) and e.text.startswith("Computing"))
    print(said, file=sys.stderr)
    frame = _validation(options)
    labels = dict(zip(frame["id"], frame["label"], strict=True))
    names = spec["labels"]
    right = {
        i: labels[i] == names[max(range(len(names)), key=scores.__getitem__)]
        for i, scores in zip(trained.validation_ids, trained.validation_scores, strict=True)
    }
    return {**found, "steps": trained.steps, "accuracy": last.metrics["accuracy"], "right": right}


def _validation(options: argparse.Namespace) -> Any:
    from sft_magics.datasets import read_rows

    return read_rows(Path(options.table), "validation")


def _fp32(options: argparse.Namespace) -> dict[str, Any]:
    return _peer(options, bf16=False)


def _bf16(options: argparse.Namespace) -> dict[str, Any]:
    return _peer(options, bf16=True)


def _peer(options: argparse.Namespace, *, bf16: bool) -> dict[str, Any]:
    import torch
    from torch.utils.data import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.datasets import read_rows

    torch.set_num_threads(options.threads)

    class Rows(Dataset):  # type: ignore[type-arg]
        def __init__(self, split: str) -> None:
            frame = read_rows(Path(options.table), split)
            self.ids = tokenizer(list(frame["text"]), truncation=True, max_length=LENGTH)["input_ids"]
            self.targets = [int(label == "positive") for label in frame["label"]]

        def __len__(self) -> int:
            return len(self.ids)

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"input_ids": self.ids[index], "labels": self.targets[index]}

    clock = _Clock()
    base = str(fetch("minilm"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(options.seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        recipe = TrainingArguments(
            folder, num_train_epochs=options.epochs, per_device_train_batch_size=BATCH, learning_rate=LR,
            per_device_eval_batch_size=BATCH, weight_decay=DECAY, warmup_steps=WARMUP, max_grad_norm=1.0,
            lr_scheduler_type="linear", optim="adamw_torch_fused", use_cpu=True, bf16=bf16, save_strategy="no",
            eval_strategy="no", logging_steps=10, report_to=[], disable_tqdm=True, seed=options.seed,
        )  # fmt: skip
        trainer = Trainer(
            model, recipe, train_dataset=Rows("train"), eval_dataset=Rows("validation"),
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda found: {"accuracy": float((found[0].argmax(-1) == found[1]).mean())},
        )  # fmt: skip
        trainer.train()
        said = trainer.predict(trainer.eval_dataset)
        found = clock.read()
    truths = [int(label == "positive") for label in _validation(options)["label"]]
    right = dict(zip(_validation(options)["id"], (said.predictions.argmax(-1) == truths).tolist(), strict=True))
    accuracy = float(said.metrics["test_accuracy"])
    return {**found, "steps": trainer.state.global_step, "accuracy": accuracy, "right": right}


class _Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}


def _print(found: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    from scipy.stats import binomtest

    ours = found.pop("ours")
    for name, peer in found.items():
        print(f"beside the Trainer in {name}:")
        for unit, shown in (("cpu", "CPU-second"), ("wall", "wall second")):
            medians = [statistics.median(run[unit] for run in side) for side in (peer, ours)]
            ratios = [theirs[unit] / mine[unit] for theirs, mine in zip(peer, ours, strict=True)]
            print(
                f"  by {shown}: {medians[0]:.1f}, ours {medians[1]:.1f}: {medians[0] / medians[1]:.2f} times as fast "
                f"(by seed {', '.join(f'{r:.2f}' for r in ratios)})"
            )
        means = [statistics.mean(run["accuracy"] for run in side) for side in (peer, ours)]
        pairs = [(t["right"][i], m["right"][i]) for t, m in zip(peer, ours, strict=True) for i in m["right"]]
        lost, won = (sum(pair == kind for pair in pairs) for kind in ((True, False), (False, True)))
        p = binomtest(min(lost, won), max(1, lost + won)).pvalue
        print(
            f"  accuracy {means[0]:.4f} and ours {means[1]:.4f}; of {len(pairs):,} answers {won} are right with ours "
            f"alone, {lost} with theirs alone (p = {p:.3f})"
        )
    print(
        f"({int(ours[0]['steps'])} steps, {options.threads} threads, {options.seeds} seeds, epochs {options.epochs:g})"
    )


_CHILDREN = {"ours": _ours, "fp32": _fp32, "bf16": _bf16}
