"""What several rooms' tests share: the real model, a few hundred real sentences, and a trained workspace.

Models and sentences are fetched once into the cache; training them takes seconds because there are few rows.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core.workspace import Workspace

# The first deploy by another engine exports the version, half a minute in each workspace; tests of engines ask for it.
os.environ.setdefault("SFT_ENGINE", "torch")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two parts that `make test` runs one after the other."""
    parser.addoption("--together", action="store_true", help="only tests that may run beside others")
    parser.addoption("--alone", action="store_true", help="only tests that may not")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the other part."""
    together, alone = config.getoption("--together"), config.getoption("--alone")
    if together == alone:
        return
    chosen = [item for item in items if (item.get_closest_marker("alone") is not None) == alone]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


@pytest.fixture(scope="session")
def film_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 film sentences with the columns text and label, a real CSV file."""
    from sft_magics.datasets.sources import load

    frame = load("sample:reviews").frame
    path = tmp_path_factory.mktemp("films") / "films.csv"
    frame[["text", "label"]].sample(600, random_state=0).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory, film_csv: Path) -> Path:
    """A workspace with the dataset films, the model films and its version 1; made once, never changed."""
    root = tmp_path_factory.mktemp("trained") / "workspace"
    sft.data("films", str(film_csv), workspace=root)
    sft.create("films", data="films", workspace=root)
    sft.finetune("films", epochs=1, workspace=root)
    return root


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of the trained workspace that a test may change; its endpoints are stopped at the end."""
    root = tmp_path / "workspace"
    # What was checked out are hard links into the packs, which a copy would turn into files of their own.
    shutil.copytree(trained_once, root, ignore=shutil.ignore_patterns("views"))
    yield Workspace(root)
    stop_endpoints(root)


def stop_endpoints(root: Path) -> None:
    """End every endpoint of a workspace."""
    from sft_magics.serving.client import lifecycle

    ws = Workspace(root)
    for endpoint in lifecycle.endpoints(ws):
        if endpoint.state in ("starting", "ready", "draining"):
            lifecycle.stop(ws, endpoint.name)
