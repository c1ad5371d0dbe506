"""How many of the rows that a version is measured on it was trained on: what is left out of a figure, or let in."""

from dataclasses import dataclass, field

from sft_magics.core.records.finding import Finding
from sft_magics.core.records.tabular import Tabular

FEW = 20  # rows; figures of fewer say little


@dataclass(frozen=True)
class Overlap(Tabular):
    """Of `rows` rows asked for, `seen` were trained on by a version or one that it comes from.

    `by` counts them by version, where several are compared. `near` of the other rows are near-duplicates of rows that
    were trained on: texts that differ in case, spaces or punctuation only, and `pictures` that another file shows too.
    Seen rows are left out of every figure unless
    `included`. `unknown` names the versions of which it is not known, or not wholly, what they were trained on.
    """

    rows: int = 0
    seen: int = 0
    by: dict[str, int] = field(default_factory=dict)
    near: int = 0
    included: bool = False
    unknown: tuple[str, ...] = ()
    pictures: bool = False

    @property
    def measured(self) -> int:
        """How many rows the figures are of."""
        return self.rows if self.included else self.rows - self.seen

    @property
    def who(self) -> str:
        """The versions that were trained on the seen rows, with their counts where there are several."""
        known = {name: n for name, n in self.by.items() if n}
        if len(known) < 2:
            return "".join(known)
        return " or ".join(f"{name} ({n:,})" for name, n in known.items())

    @property
    def remarks(self) -> tuple[Finding, ...]:
        """What a reader of the figures must know, the weightiest first; nothing where no row was seen."""
        found = [self._included(), *self._left_out(), self._near(), self._unknown()]
        return tuple(finding for finding in found if finding is not None)

    @property
    def lines(self) -> list[str]:
        """The remarks as lines of text."""
        return [f"  {finding.level}: {finding.message}" for finding in self.remarks]

    @property
    def brief(self) -> str:
        """The count in half a sentence, empty where no row was seen."""
        if not self.seen:
            return ""
        by = f" by {self.who}" if self.who else ""
        return f"{self.seen:,} of {_rows(self.rows)} {_were(self.seen)} trained on{by}"

    def _included(self) -> Finding | None:
        if not (self.included and self.seen):
            return None
        message = f"This includes rows that were trained on: {self.brief}. The figures flatter."
        return Finding("error", "seen_rows_included", message)

    def _left_out(self) -> list[Finding]:
        if self.included or not self.seen:
            return []
        found = [Finding("info", "seen_rows", f"{self.brief} and {_are(self.seen)} left out.")]
        if self.measured < FEW:
            left = f"Only {_rows(self.measured)} {_are(self.measured)} left" if self.measured else "No rows are left"
            found.insert(0, Finding("warning", "few_rows_left", f"{left}: too few to judge by."))
        return found

    def _near(self) -> Finding | None:
        if not self.near:
            return None
        more = "more " if self.seen and not self.included else f"of {_rows(self.measured)} "
        are = "is a near-duplicate of a row" if self.near == 1 else "are near-duplicates of rows"
        how = "another file of the same pixels" if self.pictures else "but for case, spaces, punctuation"
        message = f"{self.near:,} {more}{are} that {_were(self.near)} trained on ({how})."
        return Finding("info", "near_duplicates", message)

    def _unknown(self) -> Finding | None:
        if not self.unknown:
            return None
        names = " and ".join(self.unknown)
        return Finding(
            "warning",
            "trained_rows_unknown",
            f"Not all rows that {names} {'was' if len(self.unknown) == 1 else 'were'} trained on are known here.",
        )


NOTHING_SEEN = Overlap()


def _rows(n: int) -> str:
    return f"{n:,} row{'' if n == 1 else 's'}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _were(n: int) -> str:
    return "was" if n == 1 else "were"
