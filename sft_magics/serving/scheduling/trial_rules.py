"""When a candidate on trial is sent away."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """When a trial is ended, counted from `least` answers of the candidate on.

    `errors` is by how much the candidate's share of errors may exceed the live version's, `slower` how many times its
    95th percentile of latency may be theirs, `agreement` the share of a shadow's answers that have to be the same.
    """

    errors: float = 0.02
    slower: float = 3.0
    agreement: float = 0.5
    least: int = 50
