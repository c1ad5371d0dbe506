"""What a rehearsal of a run shows: a plan with its cost, and the rates that were tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_magics.core.records.tabular import Tabular, side_by_side


@dataclass(frozen=True)
class Choice(Tabular):
    """An option that makes a run cheaper, and what it costs in turn."""

    option: str
    price: str

    def __str__(self) -> str:
        return f"{self.option}: {self.price}"


@dataclass(frozen=True)
class Candidate(Tabular):
    """A base one could begin with: `here` says that its weights are on this machine, `pixels` what it was made for.

    `score` is the accuracy of a linear probe on its features of some training rows, `spread` the standard error,
    `seconds` what the features of a row took here, `step_seconds` what a training step does, of a batch as its recipe
    has it.
    """

    base: str
    task: str
    parameters: int
    license: str
    here: bool
    pixels: int = 0
    score: float | None = None
    spread: float | None = None
    seconds: float | None = None
    step_seconds: float | None = None

    def __str__(self) -> str:
        place = "here" if self.here else "to download"
        probe = "" if self.score is None else f", linear probe {self.score:.3f} ± {self.spread or 0.0:.3f}"
        took = "" if self.seconds is None else f", {1000 * self.seconds:.1f} ms a row"
        step = "" if self.step_seconds is None else f", {self.step_seconds:.2g} s a step"
        size = f"{self.parameters / 1e6:.1f} M parameters"
        return f"{self.base}: {size}, {self.license or 'license unknown'}, {place}{probe}{took}{step}"


@dataclass(frozen=True)
class RunPlan(Tabular):
    """What a run would take, from three of its steps: seconds with a range, memory in MB, bytes of its checkpoints.

    `disk_bytes` are held at most while it runs, `version_bytes` by the version that it leaves. `weights` are all
    parameters, `learning` those that are trained; `fits` says whether memory and disk are enough;
    `micro_batch` rows of a batch are computed at once, 0: all. `flops` are the operations of a step, `peak_flops` those
    that products of matrices reach here in a second. `why` says how `epochs` and `patience` were chosen where they were
    not given.
    """

    model: str
    task: str
    rows: int
    steps: int
    batch: int
    method: str
    seconds: float
    seconds_low: float
    seconds_high: float
    step_seconds: float
    weights: int
    learning: int
    memory_mb: float
    free_memory_mb: float
    disk_bytes: int
    free_disk_bytes: int
    machine: dict[str, Any]
    fits: bool
    choices: tuple[Choice, ...] = ()
    next_step: str = ""
    micro_batch: int = 0
    flops: float = 0.0
    peak_flops: float = 0.0
    epochs: float = 0.0
    patience: int = 0
    eval_steps: int = 0
    why: str = ""
    version_bytes: int = 0

    @property
    def utilization(self) -> float:
        """The share of the machine's peak that a step reaches; 0 where it was not measured."""
        return self.flops / self.step_seconds / self.peak_flops if self.peak_flops and self.step_seconds else 0.0

    def __str__(self) -> str:
        parts = f" in parts of {self.micro_batch}" if self.micro_batch else ""
        which = f"({self.rows:,} rows, --method {self.method})"
        head = f"{self.model}: {self.steps:,} steps of {self.batch} rows{parts} {which}"
        time = f"about {_spoken(self.seconds)} ({_spoken(self.seconds_low)} to {_spoken(self.seconds_high)})"
        kept = f", {self.version_bytes / 1e6:,.0f} MB afterwards" if self.version_bytes else ""
        disk = f"{self.disk_bytes / 1e6:,.0f} MB of disk while it runs{kept}"
        room = f"{self.memory_mb:,.0f} MB of memory at most, {disk}"
        verdict = "it fits" if self.fits else "it does not fit: memory or disk are too small"
        lines = [head, *([f"  {self.why}"] if self.why else []), f"  {time}; {room}; {verdict}"]
        return "\n".join([*lines, *(f"  cheaper: {c}" for c in self.choices), f"Next: {self.next_step}"])


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class LrRangeTest(Tabular):
    """A range test: the loss at rates that rise step by step.

    `steepest` is where the smoothed loss fell fastest, `tenth` a tenth of the rate of its lowest value, `diverged`
    where it went away (None: nowhere), `recipe` the rate of the base's own recipe, `advised` the one to start with.
    """

    model: str
    task: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    tenth: float
    diverged: float | None
    recipe: float
    advised: float
    note: str = ""
    next_step: str = ""

    def _rows(self) -> Sequence[Any]:
        return side_by_side({"rate": self.rates, "loss": self.losses, "smoothed": self.smoothed})

    def __str__(self) -> str:
        end = f", away from {self.diverged:.1g} on" if self.diverged else ""
        found = f"steepest at {self.steepest:.1g}, a tenth of the lowest's rate is {self.tenth:.1g}{end}"
        lines = [f"{self.model}: {found}; its recipe says {self.recipe:.1g}"]
        lines += [f"  {self.note}"] if self.note else []
        return "\n".join([*lines, f"Next: {self.next_step}"])
