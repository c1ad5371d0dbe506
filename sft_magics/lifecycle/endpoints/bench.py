"""What an endpoint of a version delivers on this machine: requests a second, latency, where it goes; beside another."""

import contextlib
import json
import os
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as until_done
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Bench, BenchRatio, BenchRow, BenchSubject, Endpoint, Version
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import IMAGE_TASKS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.endpoints import rollout
from sft_magics.lifecycle.evaluation import row_selection
from sft_magics.lifecycle.evaluation.row_selection import Wanted
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption

if TYPE_CHECKING:
    from sft_magics.registry import Registry
    from sft_magics.serving.client.load_generator import Driven, Question

Engine = Literal["auto", "torch", "openvino", "onnx", "onnx-int8"]
Say = Callable[[str, int, int], None]
_ROWS = 256
_MOST_CLIENTS, _MOST_LEVELS, _MOST_SECONDS, _MOST_ROUNDS = 256, 6, 120.0, 20
_WARM_SECONDS = 0.5
_PARTS = ("queue", "preprocess", "model", "postprocess")
_TELL_SECONDS = 0.5
_IDLE_STOP = 901.0  # seconds after which an endpoint ends that nobody came back for; no user's, who says minutes
_NAME = re.compile(r"bench-[0-9a-f]+")


@dataclass
class _Subject:
    """A version behind an engine, its endpoint, and what was seen of it by number of clients, once a round."""

    version: Version
    endpoint: Endpoint
    ready: float
    why: str
    seen: dict[int, "list[Driven]"] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.version.ref}, {self.endpoint.engine}"

    def rates(self, clients: int) -> list[float]:
        """Return the answers a second of each round."""
        return [len(found.milliseconds) / found.seconds for found in self.seen[clients]]


def bench(
    version: Annotated[str, "a version or an alias: reviews:1, reviews@live", Names("version")],
    *,
    against: Annotated[str | None, "another version of the task, measured in turn with it", Names("version")] = None,
    engine: Annotated[Engine, "what computes; auto: what an endpoint would take"] = "auto",
    against_engine: Annotated[Engine | None, "the engine of the other; alone: the same version by that engine"] = None,
    clients: Annotated[str, "how many ask at once, one after the other"] = "1,8",
    seconds: Annotated[float, "of a round, for each number of clients"] = 2.0,
    rounds: Annotated[int, "how often it is done; medians are shown, and the range"] = 3,
    data: Annotated[
        str | None, "the dataset whose rows are asked; without it the version's own", Names("dataset")
    ] = None,
    threads: Annotated[int | Literal["auto"], "CPU threads of an endpoint"] = "auto",
    workspace: WorkspaceOption = None,
) -> Bench:
    """Measure what an endpoint of a version delivers here, one row a request: rate, latency, where the time goes.

    Endpoints are started for it and gone afterwards; those that serve are not touched. Rows are those of validation.
    With --against, or --against-engine, the two are asked in turn and compared by the ratios of the rounds. Raises
    UsageProblem, NotFound, Refused, EndpointProblem.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    levels = _levels(clients)
    _check_bounds(seconds, rounds)
    pairs = [(_found(registry, version), engine)]
    if against is not None or against_engine is not None:
        pairs.append((_found(registry, against or version), against_engine or "auto"))
    _check_pair(pairs)
    asked, questions = _questions(ws, registry, pairs[0][0], data)
    count = None if threads == "auto" else int(threads)
    _clear(ws)
    with _interruptible(version), client.telling(f"measuring {version}") as say, ExitStack() as stack:
        subjects = [stack.enter_context(_started(ws, found, wanted, count, say)) for found, wanted in pairs]
        _check_differ(subjects)
        _measure(subjects, questions, levels, (seconds, rounds), say)
        return Bench(
            model=pairs[0][0].model,
            data=asked,
            subjects=tuple(_told(subject) for subject in subjects),
            rows=tuple(_row(subject, level) for level in levels for subject in subjects),
            ratios=tuple(_ratio(subjects, level) for level in levels) if len(subjects) > 1 else (),
            rounds=rounds,
            seconds=seconds,
            machine={"cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()},
            next_step=f"%sft_deploy {version}",
        )


@contextlib.contextmanager
def _interruptible(version: str) -> Iterator[None]:
    """Say in a sentence that it was stopped, once nothing of it is left."""
    try:
        yield
    except KeyboardInterrupt:
        raise client.interrupted(f"measuring {version}") from None


def _clear(ws: Workspace) -> None:
    """Remove what a measurement left whose process was killed; its endpoint has ended with it."""
    for folder in ws.endpoints.glob("bench-*"):
        job = JobFolder(folder)
        ours = _NAME.fullmatch(folder.name) and job.spec().get("idle_stop") == _IDLE_STOP
        if ours and not job.alive():
            shutil.rmtree(folder, ignore_errors=True)


def _levels(clients: str) -> list[int]:
    try:
        found = [int(word) for word in str(clients).split(",")]
    except ValueError:
        found = []
    if not found or len(found) > _MOST_LEVELS or not all(1 <= n <= _MOST_CLIENTS for n in found):
        raise errors.UsageProblem(
            f"--clients cannot be {clients!r}: it is one to {_MOST_LEVELS} numbers from 1 to {_MOST_CLIENTS}.",
            "write --clients 1,8,32.",
        )
    return sorted(set(found))


def _check_bounds(seconds: float, rounds: int) -> None:
    if not 0.1 <= seconds <= _MOST_SECONDS:
        raise errors.UsageProblem(
            f"--seconds cannot be {seconds:g}: a round takes 0.1 to {_MOST_SECONDS:g}.", "write --seconds 2."
        )
    if not 1 <= rounds <= _MOST_ROUNDS:
        raise errors.UsageProblem(f"--rounds cannot be {rounds}: 1 to {_MOST_ROUNDS}.", "write --rounds 3.")


def _found(registry: "Registry", ref: str) -> Version:
    found = registry.version(ref)
    if found.status == "retired":
        raise errors.Refused(f"{found.ref} is retired.", f"%sft_versions {found.model} lists the others.")
    return found


def _check_pair(pairs: Sequence[tuple[Version, str]]) -> None:
    if len(pairs) > 1 and pairs[0][0].task != pairs[1][0].task:
        one, other = (found for found, _ in pairs)
        raise errors.UsageProblem(
            f"{one.ref} is for {one.task} and {other.ref} for {other.task}: they cannot answer the same rows.",
            "measure each alone.",
        )


def _check_differ(subjects: Sequence[_Subject]) -> None:
    if len({subject.name for subject in subjects}) < len(subjects):
        raise errors.UsageProblem(
            f"Both are {subjects[0].name}: there is nothing to compare.",
            "name another version with --against, or another engine with --against-engine.",
        )


# What is asked


def _questions(ws: Workspace, registry: "Registry", version: Version, data: str | None) -> "tuple[str, list[Question]]":
    """Return the name of what is asked, and up to 256 of its rows as they are posted, spread over all of them."""
    from sft_magics.serving.client.load_generator import Question

    rows = row_selection.choose(ws, registry, [version], Wanted(data, seen="include"))  # their truths play no part
    chosen = rows.texts[:: -(-len(rows.texts) // _ROWS)]
    if version.task in IMAGE_TASKS:
        return rows.name, [Question(_bytes(path), "application/octet-stream") for path in chosen]
    return rows.name, [Question(json.dumps({"inputs": [text]}).encode()) for text in chosen]


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise errors.DataProblem(
            f"The image {path} is no longer there ({error.strerror}).", "%sft_data loads the dataset again."
        ) from error


# Endpoints for the while


@contextlib.contextmanager
def _started(ws: Workspace, version: Version, wanted: str, threads: int | None, say: Say) -> Iterator[_Subject]:
    """Start an endpoint; nothing of it is left when the block ends, however it does."""
    from sft_magics.serving.client import lifecycle as serving

    wanted = os.environ.get("SFT_ENGINE", wanted) if wanted == "auto" else wanted
    order = rollout.prepared(ws, version, wanted)
    name = places.new_id("bench", ws.endpoints)
    title = f"starting an endpoint of {version.ref}"
    say(title, 0, 0)
    began = time.monotonic()
    try:
        endpoint = serving.start(
            ws, name=name, model=version.model, ref=version.ref, version=version.ref, task=version.task, wanted=wanted,
            log_inputs=False, port=0, keep=False, idle_stop=_IDLE_STOP, threads=threads,
            progress=lambda what: say(f"{title}: {what}", 0, 0), **order,
        )  # fmt: skip
        yield _Subject(version, endpoint, time.monotonic() - began, endpoint.engine_why)
    finally:
        with contextlib.suppress(errors.SftError):
            serving.stop(ws, name)
        shutil.rmtree(ws.endpoints / name, ignore_errors=True)


def _measure(
    subjects: Sequence[_Subject], questions: "list[Question]", levels: list[int], how: tuple[float, int], say: Say
) -> None:
    """Ask each subject in turn, round by round; the first of a round is another one each time."""
    from sft_magics.serving.client.load_generator import drive

    seconds, rounds = how
    total, done = rounds * len(levels) * len(subjects), 0
    with ThreadPoolExecutor(1) as pool:  # a notebook's own thread has a loop of its own

        def ask(subject: _Subject, level: int, spell: float) -> "Driven":
            asked = pool.submit(drive, subject.endpoint, questions, level, spell)
            while until_done([asked], _TELL_SECONDS).not_done:
                say(f"{subject.name}, {level} at once", done, total)
            return asked.result()

        for subject in subjects:
            ask(subject, max(levels), min(_WARM_SECONDS, seconds))
        for turn in range(rounds):
            for level in levels:
                for subject in subjects[:: -1 if turn % 2 else 1]:
                    say(f"{subject.name}, {level} at once", done, total)
                    subject.seen.setdefault(level, []).append(ask(subject, level, seconds))
                    done += 1
    say("done", total, total)


# What was seen


def _told(subject: _Subject) -> BenchSubject:
    from sft_magics.serving.client.load_generator import memory_mb

    return BenchSubject(
        subject.name, subject.version.ref, subject.endpoint.engine, subject.ready, memory_mb(subject.endpoint),
        subject.why,
    )  # fmt: skip


def _row(subject: _Subject, level: int) -> BenchRow:
    rounds = subject.seen[level]
    times = sorted(ms for found in rounds for ms in found.milliseconds)
    rates = subject.rates(level)
    parts = {name: [ms for found in rounds for ms in found.parts.get(name, ())] for name in _PARTS}
    return BenchRow(
        subject=subject.name, clients=level, rate=statistics.median(rates), low=min(rates), high=max(rates),
        p50_ms=_percentile(times, 50), p95_ms=_percentile(times, 95), p99_ms=_percentile(times, 99), n=len(times),
        parts={name: statistics.median(known) for name, known in parts.items() if known},
        refused=sum(sum(found.refused.values()) for found in rounds),
    )  # fmt: skip


def _percentile(ordered: list[float], percent: int) -> float:
    """Return the nearest-rank percentile; not a number where nothing was answered."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")


def _ratio(subjects: Sequence[_Subject], level: int) -> BenchRatio:
    pairs = zip(subjects[0].rates(level), subjects[1].rates(level), strict=True)
    ratios = [one / other if other else float("inf") for one, other in pairs]
    return BenchRatio(subjects[0].name, subjects[1].name, level, statistics.median(ratios), min(ratios), max(ratios))
