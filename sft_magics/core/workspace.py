"""Where things lie on disk.

A workspace is a folder: `SFT_HOME` if set, else the nearest `.sft/` upward from the working folder, else a new `.sft/`
here. It is passed to every function that needs it and never kept as a global. Downloaded models and samples are shared
between workspaces in a cache folder: `SFT_CACHE`, else `~/.cache/sft_magics`.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sft_magics.core import errors

_FOLDERS = ("registry", "artifacts", "datasets", "runs", "jobs", "endpoints", "exports")
_TRIES, _BETWEEN_TRIES = 25, 0.002


@dataclass(frozen=True)
class Workspace:
    """The folder that holds registry, artifacts, datasets, runs, jobs, endpoints and exports."""

    root: Path

    @property
    def registry(self) -> Path:
        """The folder of the metadata database."""
        return self.root / "registry"

    @property
    def artifacts(self) -> Path:
        """The folder of the artifact store."""
        return self.root / "artifacts"

    @property
    def datasets(self) -> Path:
        """The folder of split and fingerprinted tables."""
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        """One folder a fine-tuning run."""
        return self.root / "runs"

    @property
    def jobs(self) -> Path:
        """One folder a short job: an evaluation, a prediction."""
        return self.root / "jobs"

    @property
    def endpoints(self) -> Path:
        """One folder an endpoint: its token, log and prediction log."""
        return self.root / "endpoints"

    @property
    def exports(self) -> Path:
        """One folder an exported version, for engines without torch (see `core.runtime.exports`)."""
        return self.root / "exports"

    def prepare(self) -> "Workspace":
        """Create the folders (mode 0700) where they are missing; raises WorkspaceProblem."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in _FOLDERS:
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
            ignore = self.root / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise errors.from_os_error(error, f"opening the workspace {self.root}") from error
        return self

    def disk_bytes(self) -> int:
        """Return how many bytes the workspace takes on disk."""
        total, seen = 0, set()
        for folder, _, files in os.walk(self.root):
            for name in files:
                with contextlib.suppress(OSError):
                    found = (Path(folder) / name).lstat()
                    # Stored files appear under several names; the disk holds them once.
                    total += 0 if found.st_ino in seen else found.st_size
                    seen.add(found.st_ino)
        return total

    def free_bytes(self) -> int:
        """Return how many bytes are free on the workspace's disk."""
        return shutil.disk_usage(self.root).free


def find(given: "Workspace | str | Path | None" = None) -> Workspace:
    """Return the workspace that is meant, with its folders made; raises WorkspaceProblem, and UsageProblem for ""."""
    return locate(given).prepare()


def locate(given: "Workspace | str | Path | None" = None) -> Workspace:
    """Return the workspace that is meant, whether it is there or not; raises UsageProblem for ""."""
    if isinstance(given, Workspace):
        return given
    if given is not None:
        if not str(given).strip():  # what an unset shell variable leaves; Path("") would be the working folder
            raise errors.UsageProblem("The name of the workspace folder is empty.", "write --workspace DIR.")
        return Workspace(Path(given).expanduser().resolve())
    if home := os.environ.get("SFT_HOME"):
        return Workspace(Path(home).expanduser().resolve())
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".sft").is_dir():
            return Workspace(folder / ".sft")
    return Workspace(here / ".sft")


def cache() -> Path:
    """Return the folder of downloaded models and samples, made if missing."""
    given = os.environ.get("SFT_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = Path(given).expanduser() if given else base / "sft_magics"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.from_os_error(error, f"opening the cache {folder}") from error
    return folder


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a crash leaves the old or the new content, and it is on disk on return."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames within `folder` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def new_id(prefix: str, taken: Path) -> str:
    """Return a short id such as `run-7f3a` that names no folder in `taken` yet."""
    for length in (2, 2, 2, 3, 4, 8):
        name = f"{prefix}-{os.urandom(length).hex()}"
        if not (taken / name).exists():
            return name
    raise errors.WorkspaceProblem(f"No free id is left in {taken}.", "remove old folders there.")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold the exclusive OS lock on `path`, waiting in the kernel's queue; released even if the process dies.

    The block gets the descriptor of the file.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def try_lock(path: Path) -> int | None:
    """Take the lock on `path` for the life of this process and return its descriptor, or None if another holds it.

    The descriptor is never that of a standard stream, even where one is closed: it can be handed to a child.
    """
    opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fd = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(opened)
    for _ in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Someone may only be looking: `is_locked` holds a shared lock for a moment.
            time.sleep(_BETWEEN_TRIES)
        else:
            return fd
    os.close(fd)
    return None


def is_locked(path: Path) -> bool:
    """Say whether a living process holds the lock on `path`."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
