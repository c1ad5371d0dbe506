"""What the engine's tests share: real film sentences in small tables, orders for the worker, a sink that remembers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file

from sft_magics.core.events import Event
from sft_magics.core.runtime.fetching import fetch
from sft_magics.datasets.fingerprints import fingerprint
from sft_magics.datasets.samples.text_samples import read_sample
from sft_magics.datasets.tables import parquet

LABELS = ["negative", "positive"]
E = TypeVar("E", bound=Event)


class Ear:
    """A sink that remembers, and answers "stop" from the event on for which `stop` says so."""

    def __init__(self, stop: Callable[[Event], bool] = lambda _: False) -> None:
        self.heard: list[Event] = []
        self._stop = stop
        self._stopping = False

    def __call__(self, event: Event) -> str:
        self.heard.append(event)
        self._stopping = self._stopping or self._stop(event)
        return "stop" if self._stopping else ""

    def all(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.heard if isinstance(event, kind)]


def films(folder: Path, train: int, validation: int) -> Path:
    """A data set's file with the first film sentences of the sample."""
    texts, labels, _ = read_sample("reviews")
    return table(folder, texts[: train + validation], labels, ["train"] * train + ["validation"] * validation)


def table(folder: Path, texts: list[str], labels: list[str], splits: list[str]) -> Path:
    """A data set's file, named by its content as the engine expects."""
    columns = [[f"r{i}" for i in range(len(texts))], texts, labels[: len(texts)], splits]
    path = folder / "films" / f"{fingerprint(zip(*columns[1:], strict=True))}.parquet"
    parquet.write(path, columns)
    return path


def order(data: Path, **options: Any) -> dict[str, Any]:
    """The order of a short exact training; `options` and the keys task and start override."""
    spec = {
        "task": options.pop("task", "text-classification"),
        "start": {"kind": "folder", "path": str(options.pop("start", None) or fetch("minilm"))},
        "labels": LABELS,
        "data": str(data),
    }
    usual = {
        "epochs": 1.0, "lr": 5e-5, "batch": 8, "weight_decay": 0.01, "warmup": 0.1, "max_length": 48, "seed": 3,
        "precision": "fp32", "device": "cpu", "threads": 1, "checkpoint_seconds": 3600.0, "dropout": True,
    }  # fmt: skip
    return {**spec, "options": {**usual, **options}}


def changed_base(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the base whose tensors `change` has edited."""
    base = fetch("minilm")
    folder.mkdir(parents=True)
    for file in base.iterdir():
        if file.name != "model.safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(base / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def small_base(folder: Path, layers: int = 2) -> Path:
    """A BERT of 1 M parameters, weights drawn, with the base's tokenizer: for tests that save many checkpoints."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    config = BertConfig(
        vocab_size=30_522, hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(fetch("minilm")).save_pretrained(folder)
    return folder
