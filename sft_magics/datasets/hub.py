"""Data sets of the Hugging Face `datasets` library: objects in the notebook, folders it saved, `hub:owner/name`.

The library is an extra, and only a name on the hub needs it: an object brings it along, a folder is plain Arrow.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.datasets import columns
from sft_magics.datasets.tables import arrow
from sft_magics.datasets.tables.table import Columns

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "hub:"
SPLIT = "split"
_PATIENCE = 10.0  # seconds to reach the hub


def reads(source: Any) -> bool:
    """Say whether a source is one of these."""
    if isinstance(source, str) and source.startswith(PREFIX):
        return True
    if isinstance(source, str | Path):
        return arrow.is_saved(Path(source).expanduser())
    return type(source).__module__.partition(".")[0] == "datasets"


def read(source: Any) -> tuple[Columns, tuple[Finding, ...]]:
    """Return the rows of all splits as one table, its column `split` from theirs, and what was left out.

    Splits that are not for training, validation or test are left out if there are others. Raises DataProblem.
    """
    if isinstance(source, str) and source.startswith(PREFIX):
        return _joined(_tables(_downloaded(source.removeprefix(PREFIX)), source), source)
    if isinstance(source, str | Path):
        return _joined(arrow.read_saved(Path(source).expanduser(), str(source)), str(source))
    kind = type(source).__name__
    return _joined(_tables(source, kind), kind)


def _tables(found: Any, where: str) -> dict[str, "pa.Table"]:
    if isinstance(found, Mapping):
        return {str(name): _tables(part, where)[""] for name, part in found.items()}
    if not hasattr(found, "with_format") or not hasattr(found, "__len__"):
        raise errors.DataProblem(
            f"{where} is a stream without an end that is known: it cannot be split by content.",
            "load it without streaming=True, or take rows of it: datasets.Dataset.from_list(list(stream.take(1000))).",
        )
    return {"": found.with_format("arrow")[:]}


def _joined(tables: dict[str, "pa.Table"], where: str) -> tuple[Columns, tuple[Finding, ...]]:
    import pyarrow as pa

    known = {name: part for name in tables if (part := columns.SPLITS.get(name.lower())) is not None}
    chosen = known or dict.fromkeys(tables)
    left = [f"{name} ({tables[name].num_rows:,} rows)" for name in tables if name not in chosen]
    parts = [tables[name] for name in chosen]
    try:
        pa.unify_schemas([part.schema for part in parts], promote_options="default")
    except pa.ArrowException as error:
        raise errors.DataProblem(
            f"The splits of {where} do not have the same columns: {str(error).splitlines()[0][:160]}",
            "give one of them: data['train'].",
        ) from error
    found = _below_one_another([arrow.columns_of(part, where) for part in parts], where)
    if not len(found):
        raise errors.DataProblem(f"{where} has no rows.", "give one that has rows.")
    if known:
        found.values[SPLIT] = [part for name, part in known.items() for _ in range(tables[name].num_rows)]
    said = f"Splits that are neither for training nor for measuring were left out: {', '.join(left)}."
    return found, (Finding("info", "other_splits", said),) if left else ()


def _below_one_another(parts: Sequence[Columns], where: str) -> Columns:
    """Join the rows of splits, each read by its own schema: two may number the same classes differently."""
    names = list(dict.fromkeys(name for part in parts for name in part.values))
    values = {n: [v for part in parts for v in part.values.get(n, [None] * len(part))] for n in names}
    declared = {
        n: list(dict.fromkeys(v for part in parts for v in part.declared.get(n, ())))
        for n in names
        if any(n in part.declared for part in parts)
    }
    return Columns(where, values, declared)


def _downloaded(name: str) -> Any:
    """Return a data set of the hub, `owner/name` or `owner/name:configuration`; raises DataProblem in one sentence."""
    try:
        import datasets
    except ImportError as error:
        raise errors.DataProblem(
            f"{PREFIX}{name} needs the datasets library, which is not installed.", "pip install 'sft_magics[hf]'"
        ) from error
    path, _, configuration = name.partition(":")
    if not os.environ.get("HF_HUB_OFFLINE"):
        _check_there(path, name)
    try:
        return datasets.load_dataset(path, configuration or None)
    except Exception as error:  # a loader of any kind, from any place, fails in any way
        said = " ".join(str(error).split())[:240] or type(error).__name__
        step = f"write {PREFIX}{path}:NAME with one of these." if "onfig" in said else "look at its page on the hub."
        raise errors.DataProblem(f"{PREFIX}{name} cannot be loaded: {said}", step) from error


def _check_there(path: str, name: str) -> None:
    """Ask the hub once: the library itself would try for half a minute to reach one that is not there."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().dataset_info(path, timeout=_PATIENCE)
    except HFValidationError as error:
        raise errors.DataProblem(f"'{path}' is no name on the hub.", f"write {PREFIX}owner/name.") from error
    except HfHubHTTPError as error:
        said = " ".join(str(error).split())[:200]
        raise errors.DataProblem(
            f"The hub has no data set '{path}' for you: {said}",
            "look at its spelling; a private one needs hf auth login.",
        ) from error
    except Exception as error:  # no name server, no route, a proxy: each client has errors of its own
        raise errors.DataProblem(
            f"The hub cannot be reached from here ({type(error).__name__}), so {PREFIX}{name} cannot be loaded.",
            "connect, or give a file, a folder of save_to_disk or sample:reviews; HF_HUB_OFFLINE=1 uses its cache.",
        ) from error
