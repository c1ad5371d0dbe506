"""The error tree.

    SftError                 what happened, and what to type next
    ├── UsageProblem         the line itself: unknown option, missing argument, bad value
    ├── NotFound             a name nobody knows here (with "did you mean")
    ├── DataProblem          files, columns, labels, encodings
    ├── ModelProblem         bases, weights, tasks, artifacts that do not fit or verify
    ├── RunProblem           a run failed, was interrupted or lost
    ├── EndpointProblem      an endpoint that is down, taken, or refuses
    ├── WorkspaceProblem     disk full, read-only, locked, damaged
    ├── Refused              a rule of the life cycle forbids it (and names who still needs the thing)
    │   └── CheckFailed      a gate or check that the user asked for does not hold
    └── Defect               sft_magics itself failed; the details lie in a file

    KeyboardInterrupt
    └── Interrupted          the user stopped it: no SftError, so that nothing that survives a failure goes on

Every error is one sentence and one next step. `%sft_verb` in a next step is the notebook's spelling; the headless
face rewrites it with `headless()`, and Python code sees calls (`in_python`). `code` is the exit code of the command
line.
"""

import difflib
import errno
import re
from collections.abc import Iterable
from typing import Any, ClassVar

from sft_magics.core.python_words import MAGIC, python_words

# Names that users type end up in errors; these characters would break a line or drive a terminal.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class TwoLines(BaseException):
    """What every error of ours has: what happened, and the next thing to type."""

    code: ClassVar[int] = 2
    in_python = False  # whether the caller is Python code: lines are shown as calls then

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what, next_step)
        self.what = _CONTROLS.sub(" ", what)
        self.next_step = _CONTROLS.sub(" ", next_step)

    def __str__(self) -> str:
        return "{}\nNext: {}".format(*self._shown())

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this before it formats a traceback: the cell is still a true error and stops Run All.
        what, next_step = self._shown()
        return [f"\x1b[31m{what}\x1b[0m", f"Next: {next_step}"]

    def _shown(self) -> tuple[str, str]:
        if self.in_python:
            return python_words(self.what), python_words(self.next_step)
        return self.what, self.next_step

    @property
    def lines(self) -> tuple[str, str]:
        """The two lines in their headless spelling."""
        return headless(self.what), "Next: " + headless(self.next_step)


class SftError(TwoLines, Exception):
    """A user's problem said in two lines: what happened, and the next thing to type."""


class Interrupted(TwoLines, KeyboardInterrupt):
    """The user interrupted the work. It passes every `except SftError`, as Python's own KeyboardInterrupt does."""

    code = 130


class UsageProblem(SftError):
    """The line was not understood."""


class NotFound(SftError):
    """A name that is not known here."""


class DataProblem(SftError):
    """Data that cannot be read or learned from."""


class ModelProblem(SftError):
    """A base, weights file or artifact that does not fit."""


class RunProblem(SftError):
    """A run that failed, was interrupted or is lost."""

    code = 1


class EndpointProblem(SftError):
    """An endpoint that is down, taken or refuses."""

    code = 1


class WorkspaceProblem(SftError):
    """The disk or the workspace folder does not let us work."""

    code = 1


class Refused(SftError):
    """A rule of the life cycle forbids it."""


class CheckFailed(Refused):
    """A gate or check that the user asked for does not hold; `result` is what was found, where there is a record."""

    code = 3

    def __init__(self, what: str, next_step: str, result: Any = None) -> None:
        super().__init__(what, next_step)
        self.result = result


class Defect(SftError):
    """A mistake of ours, not of the user."""

    code = 1


def headless(text: str) -> str:
    """Return `text` with `%sft_verb` spelled as the command line spells it, `sft verb`."""

    def spell(found: re.Match[str]) -> str:
        return f"sft {(found[1] or 'board').replace('_', '-')}{' --help' * bool(found[2])}"

    return MAGIC.sub(spell, text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `known`, else an empty string."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean '{by_lower[close[0]]}'?" if close else ""


def not_found(kind: str, name: str, known: Iterable[str], next_step: str) -> NotFound:
    """Build the NotFound for a `kind` ("dataset", "model", ...) called `name`, with the names there are."""
    names = sorted(known)
    hint = did_you_mean(name, names)
    if not hint and names:
        hint = " There are: " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else ".")
    return NotFound(f"There is no {kind} called '{name}'.{hint}", next_step)


def from_os_error(error: OSError, doing: str) -> WorkspaceProblem:
    """Translate a failed system call into a sentence; `doing` completes "while ..."."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkspaceProblem(
            f"The disk is full{where}: nothing was changed while {doing}.",
            "free some space (%sft shows what the workspace uses), then type the same line again.",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return WorkspaceProblem(
            f"The workspace cannot be written{where} while {doing}.",
            "choose a folder you may write: add --workspace DIR, or set SFT_HOME=DIR and restart.",
        )
    return WorkspaceProblem(
        f"The system refused{where} while {doing}: {error.strerror or error}.", "type %sft_doctor to see what is wrong."
    )
