"""The nouns of the life cycle, as frozen dataclasses that go to JSON and back (see `codec`).

Times are seconds since the epoch (UTC). Fractions are between 0 and 1. `SCHEMA` is stored beside them by the registry.
"""

from sft_magics.core.records.control import (
    AliasThen,
    Change,
    Collection,
    Diff,
    Exported,
    Flip,
    Garbage,
    GateResult,
    LayerChange,
    MetricChange,
    ModelCard,
    Moment,
    Promotion,
    Reproduction,
)
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
    "AliasThen",
    "Board",
    "Change",
    "Check",
    "Collection",
    "Comparison",
    "Dataset",
    "Diff",
    "Endpoint",
    "Evaluation",
    "EvaluationPair",
    "Example",
    "Exported",
    "Feedback",
    "Finding",
    "Flip",
    "Garbage",
    "GateResult",
    "LayerChange",
    "Metric",
    "MetricChange",
    "Model",
    "ModelCard",
    "Moment",
    "Prediction",
    "Predictions",
    "Promotion",
    "Report",
    "Reproduction",
    "Retirement",
    "Run",
    "Table",
    "Version",
]
