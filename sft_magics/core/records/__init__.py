"""The nouns of the life cycle, as frozen dataclasses that go to JSON and back (see `codec`).

Times are seconds since the epoch (UTC). Fractions are between 0 and 1. `SCHEMA` is stored beside them by the registry.
"""

from sft_magics.core.records.results import (
    Board,
    Check,
    Comparison,
    Evaluation,
    EvaluationPair,
    Feedback,
    Prediction,
    Predictions,
    Report,
    Retirement,
    Table,
)
from sft_magics.core.records.stored import Alert, Dataset, Endpoint, Example, Finding, Metric, Model, Run, Version

SCHEMA = 1

__all__ = [
    "SCHEMA",
    "Alert",
    "Board",
    "Check",
    "Comparison",
    "Dataset",
    "Endpoint",
    "Evaluation",
    "EvaluationPair",
    "Example",
    "Feedback",
    "Finding",
    "Metric",
    "Model",
    "Prediction",
    "Predictions",
    "Report",
    "Retirement",
    "Run",
    "Table",
    "Version",
]
