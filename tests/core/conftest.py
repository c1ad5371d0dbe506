import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder, and a call that makes it read-only: a mount where that is allowed (no mode stops root), else a mode."""
    folder = tmp_path / "shut"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "sft-test", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def close() -> None:
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        else:
            folder.chmod(0o500)

    try:
        yield folder, close
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.chmod(0o700)
