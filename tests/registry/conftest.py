import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry
from sft_magics.registry.testing import MemoryStorage, a_model


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "sft").prepare()


@pytest.fixture(params=["file", "memory"])
def registry(request: pytest.FixtureRequest, workspace: Workspace) -> Registry:
    """A registry with the model `pets`, on the real storage and on the fake that is shipped for users' tests."""
    made = Registry(workspace, MemoryStorage() if request.param == "memory" else None)
    made.add_model(a_model("pets"))
    return made


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path] | None]:
    """Mount a small file system with the options given and return its folder; None where that is not allowed."""
    folder = tmp_path / "mount"
    folder.mkdir()
    probe = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "sft-test", str(folder)], capture_output=True, check=False
    )
    if probe.returncode:
        yield None
        return

    def remount(options: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
        return folder

    try:
        yield remount
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
