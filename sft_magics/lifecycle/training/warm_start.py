"""A new run that begins with the weights of another: of its best evaluation, or of a checkpoint of a step.

The weights are linked into the new run's folder at once, so that the other run may go on, end or be removed; they stay
there, for `%sft_reproduce`.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors, observer, references
from sft_magics.core.commands import AppliedEdit
from sft_magics.core.events import EventReader
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Version
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import run_folders, seen_rows

if TYPE_CHECKING:
    from sft_magics.registry import Registry

_TRIES = 3
_KEPT = ("model.safetensors", "model.compressed", "reference.safetensors", "manifest.json")


@dataclass(frozen=True)
class Source:
    """Where a clone begins: a run, the step of its weights, the options in force there; its version, if it made one."""

    job: JobFolder
    step: int
    folder: Path | None
    options: dict[str, Any]
    version: Version | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    whole: bool = False  # whether the folder is a model, and not only what learned of one

    @property
    def parent(self) -> str:
        """What a version's record names as the parent."""
        return self.version.ref if self.version else f"{self.job.id}/{self.step}"

    def told(self) -> dict[str, Any]:
        """Return what the new run's order says of its origin: the run, the step, and what that run started from."""
        before = self.spec.get("cloned") or {}
        given = before.get("parent") or self.spec.get("parent")
        return {"run": self.job.id, "step": self.step, "parent": given}

    def start(self, folder: Path) -> dict[str, Any]:
        """Return where the new run, in `folder`, finds its weights."""
        return {
            "kind": "folder",
            "path": str(folder / run_folders.START),
            "source": f"{self.job.id} at step {self.step}",
        }

    def to_assemble(self) -> dict[str, Any] | None:
        """Return the order to make a whole model of a checkpoint's weights; None where the model is whole."""
        if self.folder is None or self.whole:
            return None
        method = self.spec["options"].get("method", "full")
        options = {**self.spec["options"], "method": "full" if method == "head" else method, "class_weights": "none"}
        kept = {name: self.spec[name] for name in ("task", "start", "labels")}
        return {**kept, "options": options, "data": self.spec["data_file"]}

    def bring(self, folder: Path) -> None:
        """Link the weights into the new run's folder; raises Refused where they are gone or damaged."""
        if self.folder is None:
            return
        target = folder / (run_folders.START if self.whole else run_folders.WEIGHTS)
        for _ in range(_TRIES):  # a run that goes on replaces them
            with contextlib.suppress(FileNotFoundError):
                _link(self.folder, target, None if self.whole else _KEPT)
                self._check(target)
                seen_rows.write(target, self.spec)
                return
            shutil.rmtree(target, ignore_errors=True)
        raise errors.Refused(
            f"The checkpoint of step {self.step} of {self.job.id} is gone: a run keeps its newest two, "
            "and the newest alone once it rests.",
            f"write --from {self.job.id}/newest, or --from {self.job.id} for its best.",
        )

    def _check(self, linked: Path) -> None:
        """Raise FileNotFoundError where it is of the other kind by now, Refused where it is damaged."""
        if self.whole:
            (linked / "sft.json").stat()
        else:
            _verify(linked, self.job.id, self.step)


def find(ws: Workspace, registry: "Registry", origin: str) -> Source:
    """Return what `run-7f3a`, `run-7f3a/120`, `run-7f3a/best` or `run-7f3a/newest` means; raises NotFound, Refused."""
    run, wanted = references.checkpoint(origin)
    job = run_folders.find(ws, run)
    view = run_folders.view_of(job)
    observer.catch_up(view, EventReader(job.events))
    best = view.best_step or 0
    if view.version:
        if wanted not in ("", "best", str(best)):
            raise errors.Refused(
                f"{run} is done: of its weights only the best are kept, of step {best}, as {view.version}.",
                f"write --from {run}, or --from {view.version}.",
            )
        return _source(job, best, None, registry.version(view.version))
    has = {int(path.name.partition("-")[2]): path for path in sorted((job.path / "checkpoints").glob("step-*"))}
    kept = job.path / "best" if any((job.path / "best").glob("*.safetensors")) else None
    if kept is not None and wanted in ("", "best", str(best)):
        return _source(job, best, kept)
    if wanted == "best" or not has:
        lacks = "evaluation" if wanted == "best" else "checkpoint"
        raise errors.Refused(f"{run} has no {lacks} yet to begin with.", f"%sft_watch {run} shows how far it is.")
    step = max(has) if wanted in ("", "newest") else int(wanted)
    if step not in has:
        there = ", ".join(map(str, sorted({*has, *([best] if kept else [])})))
        raise errors.Refused(f"{run} has no checkpoint of step {step}; there are {there}.", f"write --from {run}/STEP.")
    if not Path(job.spec()["data_file"]).exists():
        raise errors.DataProblem(f"The data of {run} is no longer there.", f"write --from {run}/best if it has one.")
    return _source(job, step, has[step])


def _source(job: JobFolder, step: int, folder: Path | None, version: Version | None = None) -> Source:
    spec = job.spec()
    whole = folder is not None and (folder / "sft.json").is_file()
    return Source(job, step, folder, in_force(spec["options"], job.taken(), step), version, spec, whole)


def in_force(options: dict[str, Any], edits: Iterable[AppliedEdit], step: float) -> dict[str, Any]:
    """Return the options that a run went by in the step before `step` was done."""
    found = {name: value for name, value in options.items() if name != "edits"}
    for edit in edits:
        if edit.step < step:
            found |= edit.changes
    return found


def check_adapter(source: Source, options: dict[str, Any]) -> None:
    """Refuse another rank than that of the adapter which is taken over."""
    before, rank = source.options.get("lora_rank"), options.get("lora_rank")
    if before != rank and options.get("method") == source.options.get("method") == "lora":
        raise errors.ModelProblem(
            f"{source.job.id} has learned changes of rank {before}, which fit no rank of {rank}.",
            "leave --lora-rank out.",
        )


def _link(source: Path, target: Path, names: tuple[str, ...] | None) -> None:
    """Link the files of a folder that may be put away meanwhile; raises FileNotFoundError if it is."""
    handle = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder, _, files, at in os.fwalk(".", dir_fd=handle):
            (target / folder).mkdir(exist_ok=True)
            for name in (f for f in files if names is None or f in names):
                _link_file(name, at, target / folder / name)
    finally:
        os.close(handle)


def _link_file(name: str, folder: int, target: Path) -> None:
    try:
        os.link(name, target, src_dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as source, target.open("wb") as file:  # noqa: PTH123 - a descriptor
            shutil.copyfileobj(source, file)


def _verify(linked: Path, run: str, step: int) -> None:
    hashes = json.loads((linked / "manifest.json").read_text())
    found = [path for path in sorted(linked.iterdir()) if path.name != "manifest.json"]
    if not any(path.stem == "model" for path in found):
        raise FileNotFoundError(linked / "model.safetensors")
    for path in found:
        with path.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != hashes.get(path.name):
                raise errors.Refused(
                    f"What {run} kept of step {step} is damaged.",
                    "name another step, or write --from RUN for its best.",
                )
