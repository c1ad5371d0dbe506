from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.end_all()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house for tests that ask one endpoint, `demo`, and leave it as it is."""
    made = House(tmp_path_factory.mktemp("shared"))
    made.start()
    yield made
    made.end_all()
