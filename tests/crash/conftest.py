"""Crash tests run a small count under `make test` and the full one under `make crash`."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_magics.core.workspace import Workspace
from sft_magics.registry import journal


@pytest.fixture
def count() -> Callable[[int, int], int]:
    """Return the count of rounds: the first as a rule, the second under SFT_CRASH=full."""
    full = os.environ.get("SFT_CRASH") == "full"
    return lambda ci, all_of_them: all_of_them if full else ci


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "sft").prepare()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact after every few transactions."""
    monkeypatch.setattr(journal, "_SMALLEST", 1500)
    monkeypatch.setattr(journal, "_SHARE", 10**9)
