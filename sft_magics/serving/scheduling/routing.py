"""Which version answers a request: the live one, and beside it perhaps a candidate on trial.

A candidate gets a share of the requests, or as a shadow reads what the live one has answered, while nobody waits, and
nobody sees its answers. A trial that goes wrong by its rules is ended at once, and the live version answers alone.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

from sft_magics.core.records import Prediction
from sft_magics.serving.scheduling.loading import LoadedVersion
from sft_magics.serving.scheduling.trial_rules import Rules

_KEPT = 1024
_CLASSES = 50


@dataclass
class Side:
    """What is known of one side of a trial: answers, errors, milliseconds of compute for one input."""

    version: str
    answered: int = 0
    failed: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def count(self, inputs: int, seconds: float) -> None:
        """Count the inputs of one batch that took so long."""
        self.answered += inputs
        self.latencies.append(seconds * 1e3 / max(1, inputs))

    @property
    def errors(self) -> float:
        """The share of inputs that had no answer."""
        return self.failed / max(1, self.answered + self.failed)

    @property
    def p95(self) -> float:
        """The 95th percentile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)] if ordered else 0.0


@dataclass
class Trial:
    """A candidate beside the live version; `share` of the requests is its own, 0 for a shadow."""

    candidate: LoadedVersion
    share: float
    rules: Rules
    live: Side
    other: Side
    agreement: Counter[tuple[str, str]] = field(default_factory=Counter)
    skipped: int = 0  # batches that a shadow did not read, because others waited
    _requests: int = 0
    _taken: int = 0

    @property
    def shadow(self) -> bool:
        """Whether nobody sees the candidate's answers."""
        return self.share <= 0

    def takes(self) -> bool:
        """Say whether the next request is the candidate's: evenly, not by lot."""
        self._requests += 1
        due = int(self._requests * self.share + 1e-9)
        taken, self._taken = due > self._taken, due
        return taken

    def compare(self, live: list[Prediction], other: list[Prediction]) -> None:
        """Count how the two versions answer the same inputs."""
        for one, another in zip(live, other, strict=True):
            pair = (one.label[:80], another.label[:80])
            if pair in self.agreement or len(self.agreement) < _CLASSES**2:
                self.agreement[pair] += 1

    @property
    def agreed(self) -> float:
        """The share of inputs that both answer alike; 1 before the first."""
        total = sum(self.agreement.values())
        return sum(n for (a, b), n in self.agreement.items() if a == b) / total if total else 1.0

    def wrong(self) -> str:
        """Return why the trial has to end, or nothing."""
        rules, mine, other = self.rules, self.live, self.other
        if other.answered + other.failed < rules.least:
            return ""
        if other.errors > mine.errors + rules.errors:
            return f"{other.errors:.1%} of its answers were errors, and {mine.errors:.1%} of {mine.version}'s"
        if mine.p95 and other.p95 > rules.slower * mine.p95:
            return (
                f"its 95th percentile of compute is {other.p95:.1f} ms an input, and {mine.p95:.1f} of {mine.version}"
            )
        if self.shadow and self.agreed < rules.agreement:
            return f"it agrees with {mine.version} in {self.agreed:.0%} of the answers"
        return ""

    def shown(self) -> dict[str, object]:
        """Return the trial as plain JSON."""
        sides = {
            side.version: {"answered": side.answered, "errors": side.failed, "p95_ms": side.p95}
            for side in (self.live, self.other)
        }
        pairs = [[a, b, n] for (a, b), n in sorted(self.agreement.items())]
        return {
            "version": self.candidate.version, "ref": self.candidate.ref, "share": self.share, "shadow": self.shadow,
            "sides": sides, "agreement": pairs, "agreed": self.agreed, "skipped": self.skipped,
        }  # fmt: skip


class Routing:
    """The live version, a trial beside it, and how the newest trial ended."""

    def __init__(self) -> None:
        self.live: LoadedVersion | None = None
        self.trial: Trial | None = None
        self.ended = ""

    def pick(self) -> LoadedVersion | None:
        """Return the version that answers the next request."""
        if self.live is not None and self.trial is not None and self.trial.takes():
            return self.trial.candidate
        return self.live

    def switch(self, live: LoadedVersion) -> None:
        """Let another version answer; a trial ends with it."""
        self.end(f"{live.version} is live now")
        self.live = live

    def try_out(self, candidate: LoadedVersion, share: float, rules: Rules) -> None:
        """Begin a trial, in the place of one that runs."""
        assert self.live is not None
        self.ended = ""
        self.trial = Trial(candidate, share, rules, Side(self.live.version), Side(candidate.version))

    def end(self, why: str) -> None:
        """End a trial, if there is one."""
        if self.trial is not None:
            self.ended = f"The trial of {self.trial.candidate.version} ended: {why}."
            self.trial = None

    def side(self, live: LoadedVersion) -> Side | None:
        """Return what is counted of a version, while there is a trial."""
        if self.trial is None:
            return None
        return self.trial.other if live is self.trial.candidate else self.trial.live

    def judge(self) -> str:
        """End a trial that went wrong, and return how it ended; nothing while all is well."""
        if self.trial is None or not (why := self.trial.wrong()):
            return ""
        self.end(why)
        return self.ended
