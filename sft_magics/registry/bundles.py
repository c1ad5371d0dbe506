"""Bundles: a folder as one zip file, and back. What comes from elsewhere is read with suspicion.

Taken are regular files only, under names that stay inside, each once, stored or deflated, as large as they say and no
larger than the disk and an honest compression allow. Anything else is refused by name and nothing is kept.
"""

import os
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sft_magics.core import errors
from sft_magics.core.workspace import sync_folder

_MOST_FILES = 10_000
_LONGEST_NAME = 500
_RATIO = 200  # deflate reaches 1,000 on zeros; weights and vocabularies never come near
_SMALL = 1 << 20  # a file this small may be as compressible as it likes
_CHUNK = 1 << 20
_DRIVE = re.compile(r"[A-Za-z]:")
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_STEP = "ask for the file again, made by %sft_export."


def pack(folder: Path, target: Path) -> int:
    """Write all files of a folder into the zip file `target`, durably and at once; return its bytes."""
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with zipfile.ZipFile(staged, "x", zipfile.ZIP_STORED, allowZip64=True) as bundle:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                bundle.write(path, path.relative_to(folder).as_posix())
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.replace(target)
    except OSError as error:
        raise errors.from_os_error(error, f"writing {target}") from error
    finally:
        staged.unlink(missing_ok=True)
    sync_folder(target.parent)
    return target.stat().st_size


def unpack(source: Path, folder: Path) -> None:
    """Write the files of a zip file into an empty folder; raises ModelProblem for anything that is not harmless."""
    try:
        with zipfile.ZipFile(source) as bundle:
            entries = list(_checked(bundle.infolist(), source, folder))
            for entry in entries:
                _extract(bundle, entry, folder, source)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise errors.ModelProblem(f"{source.name} is no whole bundle ({error}).", _STEP) from error
    except OSError as error:
        raise errors.from_os_error(error, f"reading {source}") from error


def _checked(entries: list[zipfile.ZipInfo], source: Path, folder: Path) -> Iterator[zipfile.ZipInfo]:
    if len(entries) > _MOST_FILES:
        raise _refused(source, f"{len(entries):,} files in it; {_MOST_FILES:,} are the most")
    if sum(entry.compress_size for entry in entries) > source.stat().st_size:
        raise _refused(source, "files that overlap")
    whole = sum(entry.file_size for entry in entries)
    if whole > shutil.disk_usage(folder).free:
        raise errors.WorkspaceProblem(
            f"{source.name} holds {whole / 1e9:,.1f} GB, more than the disk has free.",
            "free some space, then type it again.",
        )
    seen: set[str] = set()
    for entry in entries:
        if entry.is_dir():
            _check_name(entry.filename.rstrip("/") or "/", source)
            continue
        _check_name(entry.filename, source)
        _check_kind(entry, source)
        if entry.filename.casefold() in seen:
            raise _refused(source, f"{entry.filename!r} more than once")
        seen.add(entry.filename.casefold())
        yield entry


def _check_name(name: str, source: Path) -> None:
    path = PurePosixPath(name)
    odd = "\\" in name or not name.isprintable() or len(name) > _LONGEST_NAME or _DRIVE.match(name)
    if odd or path.is_absolute() or not path.parts or ".." in path.parts or path.as_posix() != name:
        raise _refused(source, f"a file named {name[:80]!r}, which could lie outside of it")


def _check_kind(entry: zipfile.ZipInfo, source: Path) -> None:
    mode = stat.S_IFMT(entry.external_attr >> 16)
    if mode not in (0, stat.S_IFREG):
        raise _refused(source, f"{entry.filename!r}, which is no regular file")
    if entry.flag_bits & 1:
        raise _refused(source, f"{entry.filename!r}, which is encrypted")
    if entry.compress_type not in _KINDS:
        raise _refused(source, f"{entry.filename!r} in a compression that is not read here")
    if entry.file_size > max(_SMALL, _RATIO * entry.compress_size):
        raise _refused(
            source, f"{entry.filename!r}, which grows to {entry.file_size:,} bytes from {entry.compress_size:,}"
        )


def _extract(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, source: Path) -> None:
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    left = entry.file_size
    with bundle.open(entry) as packed, target.open("xb") as file:
        while data := packed.read(_CHUNK):
            left -= len(data)
            if left < 0:
                break
            file.write(data)
    if left:
        raise _refused(source, f"{entry.filename!r}, which is not as long as it says")


def _refused(source: Path, what: str) -> errors.ModelProblem:
    return errors.ModelProblem(f"{source.name} was not taken in: it has {what}.", _STEP)
