"""Records as frames: what `to_pandas()` of a result returns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sft_magics.core.records import tabular
from sft_magics.core.records.tabular import Column

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(columns: Mapping[str, Column]) -> "DataFrame":
    """Return columns as a frame: text as string, whole numbers as int64 (Int64 with gaps), times as UTC timestamps."""
    import pandas as pd

    return pd.DataFrame({name: _series(column) for name, column in columns.items()})


def _series(column: Column) -> Any:
    import pandas as pd

    values, gaps = column.values, any(value is None for value in column.values)
    if column.kind == tabular.TIME:
        return pd.Series(pd.to_datetime(pd.Series(values, dtype="float64"), unit="s", utc=True, errors="coerce"))
    kinds = {
        tabular.TEXT: "string",
        tabular.WHOLE: "Int64" if gaps else "int64",
        tabular.NUMBER: "float64",
        tabular.SWITCH: "boolean" if gaps else "bool",
    }
    try:
        return pd.Series(values, dtype=kinds.get(column.kind, "object"))
    except OverflowError:  # a whole number beyond 64 bits
        return pd.Series(values, dtype="object")
