"""What an endpoint's versions do beside one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_magics.core.records.tabular import Tabular


@dataclass(frozen=True)
class ServedVersion(Tabular):
    """One version behind an endpoint, since the trial began; `p95_ms` is of compute for one input."""

    version: str
    share: float
    answered: int
    errors: int
    p95_ms: float


@dataclass(frozen=True)
class AgreementCell(Tabular):
    """How many inputs the live version and the candidate answered so."""

    live: str
    candidate: str
    n: int


@dataclass(frozen=True)
class Traffic(Tabular):
    """Who answers at an endpoint: one version, or a live one and a candidate on trial.

    `agreement` counts inputs by the live version's answer and the candidate's, where a shadow has read both; `ended`
    says how the newest trial ended, if none runs.
    """

    endpoint: str
    live: str
    sides: tuple[ServedVersion, ...] = ()
    shadow: bool = False
    agreed: float = 1.0
    agreement: tuple[AgreementCell, ...] = ()
    skipped: int = 0
    ended: str = ""
    next_step: str = ""

    def _rows(self) -> Sequence[Any]:
        return self.sides

    def _row_type(self) -> type | None:
        return ServedVersion

    @property
    def compared(self) -> int:
        """How many inputs both have answered."""
        return sum(pair.n for pair in self.agreement)

    def __str__(self) -> str:
        if not self.sides:
            said = f"endpoint {self.endpoint}: {self.live} answers alone"
            return "\n".join(line for line in (said, self.ended, f"Next: {self.next_step}") if line)
        lines = [f"endpoint {self.endpoint}: {'a shadow' if self.shadow else 'a trial'} beside {self.live}"]
        lines += [
            f"  {s.version}: {s.share:.0%}, {s.answered:,} answered, {s.errors:,} errors, p95 {s.p95_ms:.1f} ms"
            for s in self.sides
        ]
        if self.compared:
            lines.append(f"  they agree in {self.agreed:.1%} of {self.compared:,} answers")
        return "\n".join([*lines, f"Next: {self.next_step}"])
