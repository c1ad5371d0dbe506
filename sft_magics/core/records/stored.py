"""What the workspace remembers: data, models, versions, runs, endpoints, alerts."""

import math
from dataclasses import dataclass, field
from typing import Any

from sft_magics.core.records.finding import Finding
from sft_magics.core.records.overlap import Overlap
from sft_magics.core.records.tabular import Tabular
from sft_magics.core.tasks import IMAGE_TASKS, TEXT_CLASSIFICATION, headlines


@dataclass(frozen=True)
class Metric(Tabular):
    """One measured number with its 95 % interval; `label` names the class it speaks of, if one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    label: str | None = None

    @property
    def key(self) -> str:
        """The name alert rules use: `accuracy`, `recall[negative]`."""
        return f"{self.name}[{self.label}]" if self.label is not None else self.name

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


@dataclass(frozen=True)
class Example(Tabular):
    """One row as a person would read it; of an image `text` is the path and `picture` a small copy (a data: URL).

    `mask` is the path of a mask; boxes stand in `label` as JSON.
    """

    text: str
    label: str
    split: str = ""
    picture: str = ""
    mask: str = ""


@dataclass(frozen=True)
class Dataset(Tabular):
    """One version of a named, split and fingerprinted table of examples. Immutable, except that it may be dropped.

    `number` counts the versions of a name from 1 on: other rows, labels or splits make another version. `dropped_at` is
    when its rows were removed; its record then stays, for what was trained on it.

    `file` is a Parquet file relative to the workspace with the columns id, text, label, split ("train",
    "validation", and "test" where the source has such rows). `lengths[i]` counts texts of at least `length_edges[i]`
    and under `length_edges[i+1]` words; of images, shorter sides in pixels. `fingerprint` is a hash of the sorted
    (text, label, split) rows, with an image's SHA-256 in the place of its path: the same rows give the same
    fingerprint on any machine.
    """

    name: str
    source: str
    task: str
    labels: tuple[str, ...]
    counts: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    fingerprint: str
    file: str
    created_at: float
    columns: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    examples: tuple[Example, ...] = ()
    lengths: tuple[int, ...] = ()
    length_edges: tuple[int, ...] = ()
    license: str = ""
    parents: tuple[str, ...] = ()
    number: int = 1
    dropped_at: float | None = None

    @property
    def ref(self) -> str:
        """The reference that always means this version: `name:number`."""
        return f"{self.name}:{self.number}"

    @property
    def of_images(self) -> bool:
        """Whether the rows are images; else they are texts."""
        return self.task in IMAGE_TASKS

    def __str__(self) -> str:
        rows = ", ".join(f"{n:,} {split}" for split, n in self.counts.items())
        notes = [f"  {f.level}: {f.message}" for f in self.findings]
        known = f"; labels {', '.join(self.labels)}" if self.labels else ""
        head = f"dataset {self.ref}: {self.task}, {rows}{known}; fingerprint {self.fingerprint[:12]}"
        return "\n".join([head, *notes])


@dataclass(frozen=True)
class Model(Tabular):
    """A named line of versions: a task, a base to start from, and the data it was made for.

    `data` is the version of the dataset that it was created with (`complaints:1`), None for an imported model.

    `base` is what the user typed (`minilm`, a hub id, a folder); `weights` records what was really found: source,
    sha256 where known, licence, and the tensors that start fresh.
    """

    name: str
    task: str
    base: str
    data: str | None
    labels: tuple[str, ...]
    weights: dict[str, Any]
    created_at: float

    def __str__(self) -> str:
        fresh = ", ".join(self.weights.get("fresh", ())) or "none"
        size = self.weights.get("parameters")
        count = f", {size / 1e6:.1f} M parameters" if size else ""
        known = f"; labels {', '.join(self.labels)}" if self.labels else ""
        return f"model {self.name}: {self.task} on {self.base}{count}{known}; fresh: {fresh}"


@dataclass(frozen=True)
class Version(Tabular):
    """One trained, committed state of a model. Immutable, except that it may be retired.

    `artifact` is the id of its files in the artifact store, `metrics` are keyed by `Metric.key` and measured on the
    validation split of `data`, `cells` are the notebook cells that led here, `parent` is the reference it was
    fine-tuned from (None: from the base weights; `run-7f3a/120`: a run that made no version,
    at that step), `size` the bytes of its files and `added` those that the store took up for it. `overlap` says how
    many validation rows are left out of the metrics because it was trained on them (None: not known). `concern` is a
    sentence where it is no better than a constant answer.
    """

    model: str
    number: int
    run: str
    parent: str | None
    data: str
    data_fingerprint: str
    options: dict[str, Any]
    labels: tuple[str, ...]
    preprocessing: dict[str, Any]
    metrics: dict[str, Metric]
    environment: dict[str, Any]
    artifact: str
    size: int
    created_at: float
    task: str = "text-classification"
    cells: tuple[str, ...] = ()
    status: str = "ready"
    note: str = ""
    concern: str = ""
    successor: str | None = None
    aliases: tuple[str, ...] = ()
    added: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    overlap: Overlap | None = None

    @property
    def ref(self) -> str:
        """The reference that always means this version: `name:number`."""
        return f"{self.model}:{self.number}"

    @property
    def ancestor(self) -> str | None:
        """The nearest version it comes from: its parent, or that of the run it was cloned from."""
        if self.parent is None or not self.parent.startswith("run-"):
            return self.parent
        found = (self.environment.get("cloned") or {}).get("parent")
        return None if found is None or found.startswith("run-") else str(found)

    def __str__(self) -> str:
        shown = [f"{k} {self.metrics[k]}" for k in headlines(self.task) if k in self.metrics]
        tail = f" (aliases: {', '.join(self.aliases)})" if self.aliases else ""
        useless = "; nothing learned" if self.concern else ""
        return f"version {self.ref}: {'; '.join(shown) or self.status}{useless}; run {self.run}{tail}"


@dataclass(frozen=True)
class EpochRow:
    """One evaluation of a run: losses and metrics on the validation rows at a step.

    `train_loss` is the mean since the evaluation before (None where no step had a finite one), `seconds` the time since
    then, steps and evaluation together.
    """

    step: int
    epoch: float
    train_loss: float | None
    validation_loss: float
    metrics: dict[str, float]
    seconds: float = 0.0
    best: bool = False


@dataclass(frozen=True)
class Run(Tabular):
    """One fine-tuning run: a process and a folder.

    `state` is one of queued, running, paused, interrupted, failed, done, lost. `options` are the options as given plus
    the defaults that were used; `edits` among them are what was changed as it trained, each with its step. `metric` is
    the value of `metric_name` on `measured_rows` validation rows at the best epoch so far, `start` the weights it began
    with. `concern` says so where a run is done and its version is no better than a constant answer.
    """

    id: str
    model: str
    state: str
    data: str
    options: dict[str, Any]
    created_at: float
    folder: str
    parent: str | None = None
    ended_at: float | None = None
    version: str | None = None
    why: str = ""
    next_step: str = ""
    step: int = 0
    steps: int = 0
    metric: float | None = None
    concern: str = ""
    evaluations: tuple[EpochRow, ...] = ()
    metric_name: str = ""
    measured_rows: int = 0
    data_fingerprint: str = ""
    start: str = ""

    def __str__(self) -> str:
        progress = f" step {self.step}/{self.steps}" if self.steps else ""
        made = f" -> {self.version}" if self.version else ""
        why = f": {self.why}" if self.why else ""
        concern = f" {self.concern}" if self.concern else ""
        return f"{self.id} {self.model} {self.state}{progress}{made}{why}{concern}"


@dataclass(frozen=True)
class Endpoint(Tabular):
    """A served version: its own process, a loopback URL and a token that lies in a 0600 file.

    `state` is one of starting, ready, draining, stopped, failed, lost. `ref` is what the user deployed
    (`reviews@live`), `version` what answers now. `engine` computes, because of `engine_why`; `wanted`
    is what was asked for, maybe "auto". With `public` other machines reach it; with a `socket`, the path of a
    Unix socket, it has no port. `restarts` counts how often the process that holds a version had to be replaced.
    `example` is a text that the model was measured on. `docs` is a link to its description for a browser: it opens
    nothing else, and no longer than this start.
    """

    name: str
    model: str
    ref: str
    version: str
    url: str
    port: int
    state: str
    token_file: str
    folder: str
    created_at: float
    keep: bool = False
    idle_stop: float = 0.0
    requests: int = 0
    why: str = ""
    task: str = TEXT_CLASSIFICATION
    engine: str = "torch"
    wanted: str = "torch"
    engine_why: str = ""
    public: bool = False
    socket: str = ""
    restarts: int = 0
    example: str = ""
    docs: str = ""

    @property
    def exposed(self) -> str:
        """What a public endpoint lays open, in a sentence or two; nothing of one that only this machine reaches."""
        if not self.public:
            return ""
        return (
            f"Public: whoever reaches this machine and has the token can ask it at {self.url}. It speaks HTTP without "
            f"TLS, so the token can be read on the way: put a proxy that speaks TLS before it. %sft_stop {self.name} "
            "ends it."
        )

    def __str__(self) -> str:
        who = f"{self.version} by {self.engine}"
        said = f"endpoint {self.name}: {self.state}, {who} at {self.url}, {self.requests:,} requests"
        return "\n".join(line for line in (said, self.engine_why, self.exposed) if line)


@dataclass(frozen=True)
class Alert(Tabular):
    """A rule on an endpoint's monitored numbers, and what it said when it was last checked.

    `state` is one of "ok", "firing", "no data". `rule` reads `metric[class] < number`.
    """

    id: str
    endpoint: str
    rule: str
    state: str = "no data"
    value: float | None = None
    checked_at: float | None = None
    since: float | None = None

    def __str__(self) -> str:
        seen = "no data yet" if self.value is None else f"now {self.value:.3f}"
        return f"{self.state}: {self.endpoint} {self.rule} ({seen})"
