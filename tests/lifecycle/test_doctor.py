"""The doctor says what makes jobs slow to start, and what to type."""

import importlib.util
import sys
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core.records import Check


def _imports(tmp_path: Path) -> list[Check]:
    return [row for row in sft.doctor(workspace=str(tmp_path)).rows if row.name == "imports"]


def test_libraries_that_are_compiled_in_every_process_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(importlib.util, "cache_from_source", lambda _: str(tmp_path / "nowhere.pyc"))
    (found,) = _imports(tmp_path)
    assert found.state == "warning"
    assert "PYTHONDONTWRITEBYTECODE" in found.value
    library = Path(found.next_step.rpartition(" ")[2])
    assert found.next_step.endswith(f"-m compileall -q {library}")
    assert (library / "transformers" / "__init__.py").is_file()


def test_where_they_are_compiled_or_may_be_kept_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.pyc").touch()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(importlib.util, "cache_from_source", lambda _: str(tmp_path / "there.pyc"))
    assert _imports(tmp_path) == []
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(importlib.util, "cache_from_source", lambda _: str(tmp_path / "nowhere.pyc"))
    assert _imports(tmp_path) == []
