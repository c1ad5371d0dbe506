"""Folds of events into what a panel shows. A panel knows a view and nothing else.

A view is rebuilt from the events file alone, so the same picture comes up in any notebook, kernel or terminal.
"""

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

from sft_magics.core import events as ev
from sft_magics.core.records.stored import EpochRow
from sft_magics.core.tasks import HEADLINES

ACTIVE = ("waiting", "queued", "running")
Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A place on the curve from which a run goes by other options: `changes` maps each to what it was and is."""

    step: int
    changes: dict[str, Any]
    who: str = ""


@dataclass
class JobView:
    """What every job has: a state, who works where, remarks, and how far it is."""

    job: str
    title: str = ""
    state: str = "waiting"
    what: str = ""
    done: int = 0
    total: int = 0
    host: str = ""
    behind: str = ""
    pid: int | None = None
    started_at: float | None = None
    stopped_at: float | None = None
    idle: float = 0.0
    heard_at: float | None = None
    ended_at: float | None = None
    why: str = ""
    next_step: str = ""
    problem: str = ""
    concern: str = ""
    remarks: list[tuple[str, str]] = field(default_factory=list)
    standing: dict[str, tuple[str, str]] = field(default_factory=dict)  # of each topic the remark that holds

    @property
    def active(self) -> bool:
        """Whether more can still come."""
        return self.state in ACTIVE

    @property
    def seconds(self) -> float:
        """How long it has worked, without the time between an end and a resume."""
        if self.started_at is None:
            return 0.0
        return (self.stopped_at or self.ended_at or self.heard_at or self.started_at) - self.started_at - self.idle

    def apply(self, event: ev.Event) -> None:
        """Fold one event in; kinds this view does not know are passed over."""
        if isinstance(event, ev.TakenUp | ev.Queued | ev.Started):
            self._begin()
        self.heard_at = event.at
        handler = getattr(self, f"_on_{type(event).__name__.lower()}", None)
        if handler is not None:
            handler(event)

    def lose(self, why: str, next_step: str) -> None:
        """Mark the job lost: its process is gone without a word."""
        self.state, self.why, self.next_step = "lost", why, next_step
        self.ended_at = self.heard_at or time.time()

    def _begin(self) -> None:
        # A job that was interrupted, failed or lost may begin again in the same file: what it ended with is past.
        if self.started_at is not None and self.stopped_at is None:
            self.stopped_at = self.ended_at or self.heard_at
        self.behind, self.why, self.next_step, self.problem, self.ended_at = "", "", "", "", None
        self.concern = ""

    def _on_takenup(self, event: ev.TakenUp) -> None:  # noqa: ARG002 - every handler takes its event
        self.state = "waiting"

    def _on_queued(self, event: ev.Queued) -> None:
        self.state, self.behind = "queued", event.behind

    def _on_started(self, event: ev.Started) -> None:
        self.state = "running"
        self.what, self.host, self.pid = event.what, event.host, event.pid
        if self.started_at is None:
            self.started_at = event.at
        elif self.stopped_at is not None:
            self.idle += event.at - self.stopped_at
        self.stopped_at = None

    def _on_progress(self, event: ev.Progress) -> None:
        self.what, self.done, self.total = event.what, event.done, event.total

    def _on_remark(self, event: ev.Remark) -> None:
        # A run that is taken up again says most things again.
        said = (event.level, event.text if event.epoch is None else f"Epoch {event.epoch:.3g}: {event.text}")
        if said in self.remarks:
            return
        if event.topic:
            self._withdraw(event.topic)
            self.standing[event.topic] = said
        self.remarks.append(said)

    def _on_withdrawn(self, event: ev.Withdrawn) -> None:
        self._withdraw(event.topic)

    def _withdraw(self, topic: str) -> None:
        if (said := self.standing.pop(topic, None)) in self.remarks:
            self.remarks.remove(said)

    def _on_ended(self, event: ev.Ended) -> None:
        self.state, self.why, self.next_step = event.state, event.why, event.next_step
        self.problem, self.concern, self.ended_at = event.problem, event.concern, event.at


@dataclass
class LossView(JobView):
    """A fine-tuning run: curves, rate, time left, memory, checkpoints, the version it made.

    Curves are lists of (step, value). After a resume the points beyond the checkpoint are dropped, as the run repeats
    those steps.
    """

    model: str = ""
    epochs: float = 0.0
    epoch: float = 0.0
    steps: int = 0
    step: int = 0
    rows: int = 0
    validation_rows: int = 0
    batch: int = 0
    rate: float = 0.0
    rows_per_second: float = 0.0
    seconds_left: float = 0.0
    memory_mb: float = 0.0
    padding_waste: float = 0.0
    device: str = ""
    precision: str = ""
    threads: int = 0
    train: list[Point] = field(default_factory=list)
    validation: list[Point] = field(default_factory=list)
    metrics: dict[str, list[Point]] = field(default_factory=dict)
    evaluations: list[EpochRow] = field(default_factory=list)
    best_step: int | None = None
    best_steps: list[int] = field(default_factory=list)
    checkpoint_step: int | None = None
    resumed_at: list[int] = field(default_factory=list)
    edits: list[Mark] = field(default_factory=list)
    version: str | None = None
    _measured: float = 0.0  # seconds of work up to the last evaluation, or to the plan

    def _on_runplanned(self, event: ev.RunPlanned) -> None:
        self.steps, self.epochs, self.rows = event.steps, event.epochs, event.rows
        self.batch, self.rate, self.validation_rows = event.batch, event.lr, event.validation_rows
        self.padding_waste = event.padding_waste
        self.device, self.precision, self.threads = event.device, event.precision, event.threads
        self.step = event.resumed_at
        if event.resumed_at:
            self.resumed_at.append(event.resumed_at)
        # A run that starts or resumes at step k repeats what lay beyond k.
        for curve in (self.train, self.validation, *self.metrics.values()):
            curve[:] = [p for p in curve if p[0] <= event.resumed_at]
        self.evaluations = [e for e in self.evaluations if e.step <= event.resumed_at]
        self._measured = self.seconds
        self.best_steps = [s for s in self.best_steps if s <= event.resumed_at]
        self.edits = [e for e in self.edits if e.step < event.resumed_at]
        self.best_step = self.best_steps[-1] if self.best_steps else None

    def _on_stepdone(self, event: ev.StepDone) -> None:
        self.step, self.epoch, self.rate = event.step, event.epoch, event.lr
        self.rows_per_second, self.seconds_left = event.rows_per_second, event.seconds_left
        self.memory_mb = event.memory_mb
        self.train.append((event.step, event.loss))
        self.what = "training"

    def _on_epochdone(self, event: ev.EpochDone) -> None:
        self.epoch = event.epoch
        self.validation.append((event.step, event.validation_loss))
        learned = event.train_loss if math.isfinite(event.train_loss) else None
        took, self._measured = self.seconds - self._measured, self.seconds
        self.evaluations.append(
            EpochRow(event.step, event.epoch, learned, event.validation_loss, event.metrics, took, event.best)
        )
        for name, value in event.metrics.items():
            self.metrics.setdefault(name, []).append((event.step, value))
        if event.best:
            self.best_step = event.step
            self.best_steps.append(event.step)

    def _on_edited(self, event: ev.Edited) -> None:
        self.edits.append(Mark(event.step, event.changes, event.who))
        self.steps, self.epochs = event.steps, event.epochs

    def _on_checkpointsaved(self, event: ev.CheckpointSaved) -> None:
        self.checkpoint_step = event.step

    def _on_committed(self, event: ev.Committed) -> None:
        self.version = event.version

    def evaluated(self) -> list[EpochRow]:
        """Return the evaluations so far, of which one alone is marked as the best."""
        return [replace(e, best=e.step == self.best_step) for e in self.evaluations]

    def latest(self, metric: str) -> float | None:
        """Return the newest value of `metric`, or None."""
        points = self.metrics.get(metric)
        return points[-1][1] if points else None

    @property
    def headline(self) -> str:
        """The metric that speaks for the task; nothing before the first epoch has ended."""
        return next((names[0] for names in HEADLINES.values() if names[0] in self.metrics), "")

    def best_quality(self) -> float | None:
        """Return the value of the headline metric at the best epoch so far."""
        return self.best(self.headline)

    def best(self, metric: str) -> float | None:
        """Return the value of `metric` at the best epoch so far, or None."""
        return next((v for s, v in self.metrics.get(metric, []) if s == self.best_step), None)
