"""Kernels seen by their messages, and a run that a test plays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.fronts import Front, Writer, start_front


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    front, manager = start_front()
    yield front
    front.client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def bare_front() -> Iterator[Front]:
    """A kernel in which ipywidgets cannot be imported."""
    front, manager = start_front()
    front.run("import sys; sys.modules['ipywidgets'] = None")
    yield front
    front.client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)
