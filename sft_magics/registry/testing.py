"""The registry's fake, for tests that need no disk, and records to put into it.

registry = Registry(workspace, MemoryStorage())
registry.add_model(a_model("pets"))
registry.commit_version(a_version("pets"))
"""

import contextlib
import threading
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any

from sft_magics.core.records import Dataset, Metric, Model, Version
from sft_magics.registry.state import State
from sft_magics.registry.storage import RegistryStorage


class MemoryStorage(RegistryStorage):
    """Keeps the rows in this process; the threads of the process take turns."""

    def __init__(self) -> None:
        super().__init__()
        self._state = State()
        self._lock = threading.RLock()

    def key(self) -> Hashable:
        """See `RegistryStorage.key`."""
        return id(self)

    def newest(self) -> State:
        """See `RegistryStorage.newest`."""
        return self._state

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[State]:
        """See `RegistryStorage.exclusive`."""
        with self._lock:
            yield self._state

    def publish(self, old: State, new: State) -> None:
        """See `RegistryStorage.publish`."""
        if new.changes(old):
            self._state = new


def a_model(name: str = "pets", **fields: Any) -> Model:
    """Return a small text classifier's record, with other `fields` where given."""
    model = Model(name, "text-classification", "minilm", "films", ("negative", "positive"), {}, 1_700_000_000.0)
    return replace(model, **fields)


def a_version(model: str = "pets", **fields: Any) -> Version:
    """Return a draft of a version, as a run would hand it in, with other `fields` where given."""
    draft = Version(
        model=model,
        number=0,
        run="run-7f3a",
        parent=None,
        data="films",
        data_fingerprint="f" * 64,
        options={"epochs": 1, "lr": 5e-5, "nested": {"betas": [0.9, 0.999]}},
        labels=("negative", "positive"),
        preprocessing={"max_tokens": 128},
        metrics={"accuracy": Metric("accuracy", 0.84, 0.82, 0.86, 1500)},
        environment={"python": "3.11"},
        artifact="0" * 64,
        size=90_000_000,
        created_at=1_700_000_000.0,
    )
    return replace(draft, **fields)


def a_dataset(name: str = "films", **fields: Any) -> Dataset:
    """Return a small data set's record, with other `fields` where given."""
    dataset = Dataset(
        name=name,
        source="films.csv",
        task="text-classification",
        labels=("negative", "positive"),
        counts={"train": 80, "validation": 20},
        class_counts={"train": {"negative": 40, "positive": 40}, "validation": {"negative": 10, "positive": 10}},
        fingerprint="f" * 64,
        file=f"datasets/{name}.parquet",
        created_at=1_700_000_000.0,
    )
    return replace(dataset, **fields)
