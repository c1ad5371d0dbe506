"""The audit log: every change of the registry, written in the same transaction as the change itself."""

import os
import time
from dataclasses import dataclass

from sft_magics.core import errors, provenance
from sft_magics.registry.tables import Tables

_LONGEST = 1_000_000


@dataclass(frozen=True)
class AuditEntry:
    """Who changed what: `subject` is the thing (`reviews@live`, `reviews:3`, `dataset films`), `at` seconds since the
    epoch, `before` and `after` what it said (None: nothing), `model` the model it belongs to, if one, `cell` the
    notebook cell it was typed in.
    """

    at: float
    who: str
    host: str
    pid: int
    action: str
    subject: str
    before: str | None
    after: str | None
    reason: str = ""
    model: str | None = None
    cell: str = ""

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        moved = f": {self.before or 'nothing'} -> {self.after or 'nothing'}"
        if self.action == "test":  # a look changes nothing: `after` says what was looked at
            moved = f": {self.after}"
        why = f" ({self.reason})" if self.reason else ""
        return f"{when} {self.who}@{self.host} {self.action} {self.subject}{moved}{why}"


class AuditLog(Tables):
    """Appends to the log; `Registry.history` reads it."""

    def _log(
        self,
        action: str,
        subject: str,
        before: str | None,
        after: str | None,
        *,
        reason: str = "",
        model: str | None = None,
    ) -> None:
        _check_text(reason, "reason")
        entry = AuditEntry(
            at=time.time(),
            who=provenance.user(),
            host=os.uname().nodename,
            pid=os.getpid(),
            action=action,
            subject=subject,
            before=before,
            after=after,
            reason=reason,
            model=model,
            cell=provenance.cell(),
        )
        self._put("audit", entry)


def _check_text(text: str, what: str) -> None:
    if len(text) > _LONGEST:
        raise errors.UsageProblem(
            f"The {what} has {len(text):,} characters; {_LONGEST:,} are the most.",
            "put the long text in a file and name it.",
        )
