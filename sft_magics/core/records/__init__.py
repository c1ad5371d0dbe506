"""The nouns of the life cycle, as frozen dataclasses that go to JSON and back (see `codec`).

Times are seconds since the epoch (UTC). Fractions are between 0 and 1. `SCHEMA` is stored beside them by the registry.
"""

from sft_magics.core.records.benched import Bench, BenchRatio, BenchRow, BenchSubject
from sft_magics.core.records.board import Board
from sft_magics.core.records.control import (
    AliasAt,
    Change,
    ChangedPrediction,
    CollectableItem,
    Collection,
    Diff,
    Exported,
    HistoryEntry,
    LayerChange,
    MetricChange,
    ModelCard,
    Promotion,
    Reproduction,
)
from sft_magics.core.records.dataset_diff import DatasetDiff, DatasetEvent, RowChange
from sft_magics.core.records.finding import Finding
from sft_magics.core.records.monitored import Feedback, Report
from sft_magics.core.records.overlap import Overlap
from sft_magics.core.records.previewed import BatchPreview, Piece, Seen
from sft_magics.core.records.rehearsed import Candidate, Choice, LrRangeTest, RunPlan
from sft_magics.core.records.results import (
    Check,
    Comparison,
    ErrorGallery,
    Evaluation,
    EvaluationPair,
    GateResult,
    Mistake,
    Prediction,
    Predictions,
    Retirement,
    Table,
)
from sft_magics.core.records.served import AgreementCell, ServedVersion, Traffic
from sft_magics.core.records.stored import (
    Alert,
    Dataset,
    Endpoint,
    Example,
    Metric,
    Model,
    Run,
    Version,
)

SCHEMA = 3

__all__ = [
    "SCHEMA",
    "AgreementCell",
    "Alert",
    "AliasAt",
    "BatchPreview",
    "Bench",
    "BenchRatio",
    "BenchRow",
    "BenchSubject",
    "Board",
    "Candidate",
    "Change",
    "ChangedPrediction",
    "Check",
    "Choice",
    "CollectableItem",
    "Collection",
    "Comparison",
    "Dataset",
    "DatasetDiff",
    "DatasetEvent",
    "Diff",
    "Endpoint",
    "ErrorGallery",
    "Evaluation",
    "EvaluationPair",
    "Example",
    "Exported",
    "Feedback",
    "Finding",
    "GateResult",
    "HistoryEntry",
    "LayerChange",
    "LrRangeTest",
    "Metric",
    "MetricChange",
    "Mistake",
    "Model",
    "ModelCard",
    "Overlap",
    "Piece",
    "Prediction",
    "Predictions",
    "Promotion",
    "Report",
    "Reproduction",
    "Retirement",
    "RowChange",
    "Run",
    "RunPlan",
    "Seen",
    "ServedVersion",
    "Table",
    "Traffic",
    "Version",
]
