"""One grammar for naming things: `pets`, `pets:3`, `pets@live`, `run-7f3a`; and the weights of a run.

    reference  = run-id | name [":" number | "@" alias]
    dataset    = name [":" number]
    checkpoint = run-id ["/" (step | "best" | "newest")]

A name begins with a letter or digit and holds letters, digits, `_`, `-` and `.`, 100 characters at most. `run-` is kept
for runs. The type of a parameter decides what a reference means: `pets:3` is a version of the model where a model is
wanted, and a version of the dataset where a dataset is. A bare name means the newest version.
"""

import re
from dataclasses import dataclass

from sft_magics.core import errors

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_NUMBER = re.compile(r"0*[1-9][0-9]{0,8}")
_STEP = re.compile(r"[0-9]{1,12}")
_RUN = re.compile(r"run-[0-9a-f]{4,}")
RESERVED = ("run-", "job-")
RESERVED_DATASETS = ("sample", "hub", "feedback")  # sample:reviews, hub:owner/name, --data films+feedback


@dataclass(frozen=True)
class Reference:
    """A parsed reference; at most one of number, alias and run is set."""

    name: str = ""
    number: int | None = None
    alias: str | None = None
    run: str | None = None

    def __str__(self) -> str:
        if self.run:
            return self.run
        if self.number is not None:
            return f"{self.name}:{self.number}"
        return f"{self.name}@{self.alias}" if self.alias else self.name


def parse(text: str) -> Reference:
    """Parse `text`; raises UsageProblem."""
    text = str(text).strip()
    if _RUN.fullmatch(text):
        return Reference(run=text)
    if text.startswith("run-"):
        raise errors.UsageProblem(
            f"'{_short(text)}' is not a run: its id is run- and at least four of 0-9 and a-f.", "%sft_runs lists them."
        )
    if "@" in text:
        name, alias = text.split("@", 1)
        return Reference(check_name(name, "model"), alias=check_name(alias, "alias"))
    if ":" in text:
        name, number = text.split(":", 1)
        if not _NUMBER.fullmatch(number):
            shown = name if _NAME.fullmatch(name) else "NAME"
            raise errors.UsageProblem(
                f"'{_short(text)}' is not a reference: after the colon comes a version number.",
                f"write {shown}:1, {shown}@live, or {shown} for the newest version.",
            )
        return Reference(check_name(name, "model"), number=int(number))
    return Reference(check_name(text, "model"))


def dataset(text: str) -> Reference:
    """Parse the name of a dataset or of one of its versions (`pets`, `pets:2`); raises UsageProblem."""
    text = str(text).strip()
    name, colon, number = text.partition(":")
    check_name(name, "dataset")
    if not colon:
        return Reference(name)
    if not _NUMBER.fullmatch(number):
        raise errors.UsageProblem(
            f"'{_short(text)}' names no version of a dataset: after the colon comes its number.",
            f"write {name}:1, or {name} for the newest version.",
        )
    return Reference(name, number=int(number))


def checkpoint(text: str) -> tuple[str, str]:
    """Return the run and which of its weights are meant: a step's number, "best", "newest", or ""; UsageProblem."""
    run, stroke, which = str(text).strip().partition("/")
    run = parse(run).run or ""
    if not run or (stroke and which not in ("best", "newest") and not _STEP.fullmatch(which)):
        raise errors.UsageProblem(
            f"'{_short(text)}' names no weights of a run: after the stroke comes a step, best or newest.",
            f"write {run or 'run-7f3a'}, or {run or 'run-7f3a'}/120.",
        )
    return run, str(int(which)) if which.isdigit() else which


def check_name(name: str, kind: str) -> str:
    """Return `name` if it may name a `kind`; raises UsageProblem with a name that would do."""
    name = str(name)
    if kind == "dataset" and name in RESERVED_DATASETS:
        raise errors.UsageProblem(
            f"'{name}' cannot name a dataset: it is reserved, as in sample:reviews, hub:owner/name and "
            "--data films+feedback.",
            f"choose a name such as my-{name}.",
        )
    if _NAME.fullmatch(name) and not name.startswith(RESERVED):
        return name
    suggestion = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")[:40] or "my-" + kind
    if suggestion.startswith(RESERVED):
        suggestion = "my-" + suggestion
    raise errors.UsageProblem(
        f"'{_short(name)}' cannot name a {kind}: "
        "use letters, digits, '_', '-' and '.', 100 at most, not beginning with run-.",
        f"choose a name such as {suggestion}.",
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
