"""Places inside a workspace, written so that the workspace may be moved or copied.

A path below the workspace's root is kept as {"$workspace": "runs/run-7f3a/start"} and resolved against the root of
that moment when it is read. Paths outside stay absolute. A table of strings keeps "pictures/ab/abcd.png" instead.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAG = "$workspace"


def packed(value: Any, root: Path) -> Any:
    """Return plain data with every path below `root` made relative to it."""
    if isinstance(value, Mapping):
        return {key: packed(inner, root) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [packed(inner, root) for inner in value]
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and (value == str(root) or value.startswith(f"{root}{os.sep}")):
        return {_TAG: value[len(str(root)) + 1 :]}
    return value


def unpacked(value: Any, root: Path) -> Any:
    """Return what `packed` was given, with the paths below the present `root`."""
    if isinstance(value, Mapping):
        if set(value) == {_TAG}:
            return str(root / value[_TAG])
        return {key: unpacked(inner, root) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [unpacked(inner, root) for inner in value]
    return value


def relative(path: str, root: Path) -> str:
    """Return a path below `root` relative to it, any other path as it is."""
    return path[len(str(root)) + 1 :] if path.startswith(f"{root}{os.sep}") else path


def resolved(path: str, root: Path) -> str:
    """Return what `relative` was given, with a path below the present `root`; an empty one stays empty."""
    return str(root / path) if path else path
