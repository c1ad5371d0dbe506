"""How a model is fine-tuned: the options, what they are where none are given, and which values can work."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sft_magics.core import errors
from sft_magics.lifecycle.training import length


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned: the options of `train.finetune` that reach the engine.

    What is None is as the model's base recommends, else as in `GENERAL`; epochs, patience and eval_steps are as suits
    the data (see `length`).
    """

    epochs: float | None = None
    lr: float | None = None
    batch: int | Literal["auto"] | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    max_length: int | None = None
    long: str = "cut"
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    threads: int | str = "auto"
    dropout: bool = True
    checkpoint_seconds: float = 60.0
    optimizer: str | None = None
    momentum: float | None = None
    schedule: str | None = None
    clip: float | None = None
    method: str | None = None
    augment: str | None = None
    image_size: int | None = None
    workers: int | None = None
    label_smoothing: float = 0.0
    class_weights: str = "none"
    sampling: str = "natural"
    patience: int | None = None
    eval_steps: int | None = None
    lora_rank: int = 16
    views: int = 0
    micro_batch: int | Literal["auto"] = 0
    layer_decay: float = 1.0
    unfreeze: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    recompute: bool = False
    compile: str = "off"
    deterministic: bool = False

    def options(self, recommended: Mapping[str, Any] | None = None, size: length.Size | None = None) -> dict[str, Any]:
        """Return the options as the run's order records them; raises UsageProblem for values that cannot work.

        Without the `size` of the data a run that says nothing of its length has one epoch.
        """
        method = self.method or (recommended or {}).get("method", "full")
        usual = {**GENERAL, **_OF_METHOD.get(method, {}), **(recommended or {})}
        if size is not None and self.batch is None and self.epochs is None:
            usual["batch"] = length.batch_for(size.rows, int(usual["batch"]))
        found = check(self._settled({**usual, **self._set()}, usual["batch"]))
        chosen = self.length(found, size)
        return {**found, "epochs": chosen.epochs, "patience": chosen.patience, "eval_steps": chosen.eval_steps}

    def length(self, options: Mapping[str, Any], size: length.Size | None) -> length.Length:
        """Return how long a run by these settled `options` takes: as this recipe says, else as suits the data."""
        if size is None:
            return length.Length(self.epochs or 1.0, self.patience or 0, self.eval_steps or 0)
        method, batch = str(options["method"]), int(options["batch"])
        return length.choose(size, method, batch, self.epochs, self.patience, self.eval_steps)

    def over(self, before: Mapping[str, Any], named: Collection[str]) -> dict[str, Any]:
        """Return the options of another run with those that were `named` in their place; raises UsageProblem."""
        usual = {**GENERAL, **Recipe()._set(), **_WITHOUT_LENGTH, **before}
        mine = {k: v for k, v in self._set().items() if k in named}
        return check(self._settled({**usual, **_OF_METHOD.get(mine.get("method", ""), {}), **mine}, usual["batch"]))

    def _set(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if value is not None}

    def _settled(self, found: dict[str, Any], batch: int) -> dict[str, Any]:
        """Return the options with the recipe's batch where it was left to us: how it is computed is what can vary."""
        if found["batch"] != "auto":
            return found
        return {**found, "batch": batch, "micro_batch": self.micro_batch or "auto"}


def check(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options if their values can work; raises UsageProblem."""
    for name, (low, high, example) in _RANGES.items():
        value = options.get(name)
        if value not in (None, "auto") and (isinstance(value, str) or not low <= value <= high):
            flag = name.replace("_", "-")
            raise errors.UsageProblem(f"--{flag} cannot be {value}.", f"write for example --{flag} {example}.")
    if options.get("sampling") == "balanced" and options.get("class_weights") == "auto":
        raise errors.UsageProblem(
            "--sampling balanced and --class-weights auto would count rare classes twice.", "leave one of the two out."
        )
    return options


GENERAL: Mapping[str, Any] = {
    "lr": 5e-5, "batch": 32, "weight_decay": 0.01, "warmup": 0.1, "optimizer": "adamw", "momentum": 0.9,
    "schedule": "linear", "clip": 1.0, "augment": "none", "image_size": None, "workers": 0,
    "max_length": 256, "method": "full",
}  # fmt: skip
# What fewer weights bear, where a base says nothing of its own.
_OF_METHOD: Mapping[str, Mapping[str, Any]] = {"head": {"lr": 1e-3}, "lora": {"lr": 5e-4}, "qlora": {"lr": 5e-4}}
_WITHOUT_LENGTH: Mapping[str, Any] = {"epochs": 1.0, "patience": 0, "eval_steps": 0}
_TINY = 1e-12
# option -> the least and the most that can work, and an example
_RANGES: Mapping[str, tuple[float, float, str]] = {
    "epochs": (_TINY, 10_000, "3"),
    "lr": (_TINY, 10 - _TINY, "5e-5"),
    "batch": (1, 65_536, "32"),
    "warmup": (0, 1 - _TINY, "0.1"),
    "max_length": (8, 100_000, "256"),
    "weight_decay": (0, 1 - _TINY, "0.01"),
    "threads": (1, 1024, "2"),
    "checkpoint_seconds": (_TINY, float("inf"), "60"),
    "momentum": (0, 1 - _TINY, "0.9"),
    "clip": (0, float("inf"), "1.0"),
    "image_size": (32, 2048, "224"),
    "workers": (0, 64, "2"),
    "label_smoothing": (0, 1 - _TINY, "0.1"),
    "patience": (0, 10_000, "3"),
    "eval_steps": (0, 1_000_000, "200"),
    "lora_rank": (1, 1024, "16"),
    "views": (0, 64, "4"),
    "micro_batch": (0, 65_536, "8"),
    "layer_decay": (0.01, 1, "0.9"),
    "unfreeze": (0, 10_000, "1"),
    "mixup": (0, 100, "0.2"),
    "cutmix": (0, 100, "1.0"),
    "ema": (0, 1 - _TINY, "0.999"),
}
