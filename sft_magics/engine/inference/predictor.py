"""A trained folder that answers: the same preprocessing and number format as when it was measured."""

import contextlib
import json
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sft_magics.core import errors
from sft_magics.core.runtime.batch_workers import BatchWorkers
from sft_magics.core.sampling import Piece, Sampling
from sft_magics.engine import tasks
from sft_magics.engine.inference import prepacked_model, scoring
from sft_magics.engine.kernels import install
from sft_magics.engine.kernels.thread_policy import ThreadPolicy
from sft_magics.engine.runtime import hardware
from sft_magics.engine.tasks import Encoded, Report

_FEW_TOKENS = 256
_MOST_OF_ALL = 0.75  # of all tokens in one row: more, and the others' lane would only wait for it


class Predictor:
    """Answers with the weights in `folder`; use it from one thread only (torch is slower in a second one)."""

    def __init__(
        self, folder: Path, *, threads: int | None = None, precision: str = "auto", device: str = "auto"
    ) -> None:
        self.hardware = hardware.choose(device, precision, threads)
        self.task, labels, preprocessing = _card(folder)
        self.labels: tuple[str, ...] = tuple(labels)
        self._task = tasks.find(self.task).load({"kind": "folder", "path": str(folder)}, labels, preprocessing)
        if self._task.fresh:
            raise errors.ModelProblem(
                f"The weights in {folder} are not whole: {', '.join(self._task.fresh[:4])} would start fresh.",
                "%sft_versions lists versions that can answer.",
            )
        self._task.suit(bf16=self.hardware.bf16)
        install.place(self._task.model, self.hardware)
        self._task.model.eval()
        self.spent: dict[str, float] = {}  # milliseconds of the parts of the last answer, but for the model's
        self.unread: dict[int, int] = {}  # of the last answer: tokens beyond what the version reads, by place
        self._lanes = BatchWorkers(self.hardware.threads, partial(_share, self.hardware.threads))
        self._waking = ThreadPolicy()
        self._quick = False
        self._ways = contextlib.ExitStack()  # not left before the end: these weights do not change
        weakref.finalize(self, self._ways.close)  # at the exit it would come when torch is half gone

    def scores(self, texts: Sequence[Any], progress: Callable[[int, int], None] | None = None) -> list[Any]:
        """Return the answer to each text (of images: the path, or the file's bytes), in the order given.

        A classifier's are probabilities, as floats that follow `labels`; other tasks say theirs in a dictionary.
        """
        self.unread = {}
        if not texts:
            return []
        began = time.perf_counter()
        rows = self._task.encode(texts, None)
        self.unread = self._task.unread(texts, rows)
        self.spent = {"preprocess": (time.perf_counter() - began) * 1e3}
        self._quicken(rows)
        return self._read(rows, progress)

    def answerable(self, texts: Sequence[Any], order: Sequence[int], count: int, tokens: int = 1) -> list[int]:
        """Return the first `count` places of `order` whose texts the model can answer: prompts may be too long for an
        answer of so many `tokens`.
        """
        found: list[int] = []
        for i in order:
            if len(found) >= count:
                break
            if self._task.fits([texts[i]], tokens)[0]:
                found.append(i)
        return found

    def _read(self, rows: Encoded, progress: Callable[[int, int], None] | None) -> list[Any]:
        """Read rows as quickly as the cores can: in lanes, with one thread, or with all."""
        if not self._many_threads:
            return scoring.score(self._task, rows, self.hardware, progress, reads_only=True)
        if self._shared_out(rows.lengths):
            try:
                return scoring.score(self._task, rows, self.hardware, progress, lanes=self._lanes, reads_only=True)
            finally:
                torch.set_num_threads(self.hardware.threads)
        tokens = sum(rows.lengths)
        little = tokens <= _FEW_TOKENS
        woken = self._waking.wake() if little else True
        torch.set_num_threads(self.hardware.threads if woken else 1)
        began = time.perf_counter()
        try:
            found = scoring.score(self._task, rows, self.hardware, progress, reads_only=True)
        finally:
            torch.set_num_threads(self.hardware.threads)
        if little:
            self._waking.took(woken, tokens, time.perf_counter() - began)
        return found

    def _shared_out(self, lengths: Sequence[int]) -> bool:
        """Say whether rows of these lengths are read in lanes, one beside the other."""
        return self._task.in_lanes and len(lengths) > 1 and max(lengths) <= _MOST_OF_ALL * sum(lengths)

    @property
    def _many_threads(self) -> bool:
        return self.hardware.device.type == "cpu" and self.hardware.threads > 1

    def stream(self, text: str, how: Sampling) -> Iterator[Piece]:
        """Answer a prompt, or a chat as JSON, piece by piece: for language models. Raises ModelProblem for others."""
        if not self._quick:  # nothing to fold: only what would be cast at every token
            self._quick = True
            if self.hardware.bf16:
                prepacked_model.settle(self._task.model, self.hardware.device)
        return self._task.stream(text, how, self.hardware)

    def report(
        self, texts: Sequence[str], targets: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> Report:
        """Measure the answers to labeled texts; `targets` are the cells of the task's own column."""
        rows = self._task.encode(texts, targets)
        self._quicken(rows)
        return self._task.report(rows, scoring.score(self._task, rows, self.hardware, progress, reads_only=True))

    def _quicken(self, rows: Encoded) -> None:
        """Prepare the model for reading alone, once, with the first row that it is to read."""
        if not self._quick:
            self._quick = True
            self._ways.enter_context(scoring.quickened(self._task, rows, self.hardware))
            if self.hardware.bf16:  # not before: what may be folded away is looked for in fp32
                prepacked_model.settle(self._task.model, self.hardware.device)
            self._task.model.eval()  # what was put into it learns by default

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(weight.numel() for weight in self._task.model.parameters())


def _share(threads: int, lanes: int) -> None:
    torch.set_num_threads(max(1, threads // lanes))  # a setting of each thread


def _card(folder: Path) -> tuple[str, list[str], dict[str, Any]]:
    """Return task, labels and preprocessing of a trained folder; raises ModelProblem."""
    try:
        card = json.loads((folder / "sft.json").read_text())
        return str(card["task"]), list(card["labels"]), dict(card["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.ModelProblem(
            f"{folder} holds no trained version ({error}).", "%sft_versions lists them."
        ) from error
