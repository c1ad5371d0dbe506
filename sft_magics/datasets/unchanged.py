"""Pictures lie where they were found, and may change after a data set was made of them: their hashes are compared."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors
from sft_magics.datasets.annotations import masks
from sft_magics.datasets.naming import counted

if TYPE_CHECKING:
    from pandas import DataFrame

_THREADS = 4
_NAMED = 5


def check(rows: "DataFrame", name: str) -> None:
    """Raise DataProblem that names pictures and masks which are not what the data set `name` was made of.

    `rows` are those of its file; of texts there is nothing to compare. Files that have gone are named by whoever reads
    them.
    """
    if "sha256" not in rows.columns:
        return
    marks = list(rows["mask"]) if "mask" in rows.columns else [""] * len(rows)
    with ThreadPoolExecutor(_THREADS) as pool:
        same = list(pool.map(_is_same, rows["text"], marks, rows["sha256"]))
    changed = [Path(path).name for path, good in zip(rows["text"], same, strict=True) if not good]
    if changed:
        raise errors.DataProblem(
            f"{counted(len(changed), 'picture', 'pictures')} of dataset {name} changed after it was made"
            f"{' (or their masks did)' if any(marks) else ''}: {_listed(changed)}.",
            f"put the old files back, or make it anew: %sft_data {name} SOURCE.",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def _is_same(path: str, mask: str, sha256: str) -> bool:
    try:
        found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        if mask:
            numbers = hashlib.sha256(masks.read(mask).tobytes()).hexdigest()
            found = hashlib.sha256(f"{found} {numbers}".encode()).hexdigest()
    except FileNotFoundError:
        return True
    except (OSError, ValueError, SyntaxError):  # it cannot be decoded any more
        return False
    return found == sha256
