"""The files of versions: each content once, named by its hash, verified at every load.

    blobs/ab/<sha256>       one content, read-only
    manifests/<id>.json     canonical JSON {"files": {name: {"sha256": ..., "size": ...}}}; its SHA-256 is the id
    views/<id>/             the files under their names: hard links to the blobs, made at the first checkout
    staging/                what is being written; emptied by the next writer
    store.lock              held by whoever saves, deletes or makes a view

Blobs are on the disk before the manifest that names them, so a manifest never points to nothing.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sft_magics.core import codec, errors
from sft_magics.core.workspace import locked, sync_folder

_ID = re.compile(r"[0-9a-f]{64}")
_NO_SUCH_CONTENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO)
_OTHER = "another version (%sft_versions lists them)"


@dataclass(frozen=True)
class Artifact:
    """A stored folder: `size` is the bytes of its files, `added` how many of them the store did not have yet."""

    id: str
    size: int
    added: int


@dataclass(frozen=True)
class Content:
    """One file of a manifest."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """Relative name -> content, for every file of an artifact."""

    files: dict[str, Content]


class Artifacts(ABC):
    """The seam of the artifact store: folders go in, ids come out, read-only folders come back verified."""

    @abstractmethod
    def save(self, folder: Path) -> Artifact:
        """Store the regular files under `folder`, durably; links and other special files raise ModelProblem."""

    @abstractmethod
    def checkout(self, artifact: str) -> Path:
        """Return a folder with the artifact's files, every byte verified now; raises ModelProblem.

        The folder serves every caller: copy from it, never write to it.
        """

    @abstractmethod
    def size(self, artifact: str) -> int:
        """Return the bytes of the artifact's files; raises ModelProblem when it is not there."""

    @abstractmethod
    def delete(self, artifact: str) -> int:
        """Remove an artifact and what no other one shares; return the bytes freed. Raises ModelProblem."""

    @abstractmethod
    def ids(self) -> list[str]:
        """Return the ids of all artifacts, sorted."""


class ArtifactStore(Artifacts):
    """Keeps artifacts as files under `root`, made when first needed. Raises WorkspaceProblem when the disk refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._manifests = root / "manifests"
        self._views = root / "views"
        self._staging = root / "staging"

    def save(self, folder: Path) -> Artifact:
        """See `Artifacts.save`; identical content is stored once, and a damaged copy of it is replaced."""
        files = dict(_regular_files(folder))
        with self._writing(f"saving {folder.name}"):
            added: list[Path] = []
            try:
                contents = {name: self._store(path, added) for name, path in sorted(files.items())}
                manifest = Manifest(contents)
                data = codec.dumps(manifest).encode()
                found = hashlib.sha256(data).hexdigest()
                fresh = sum(path.stat().st_size for path in added)
                # Also those of blobs that were there: who saved them may have been killed before this point.
                for parent in {self._blob(c.sha256).parent for c in contents.values()} | {self._blobs, self.root}:
                    sync_folder(parent)
                self._publish_manifest(found, data)
            except BaseException:
                for path in added:
                    path.unlink(missing_ok=True)
                raise
        return Artifact(found, _bytes(manifest), fresh)

    def checkout(self, artifact: str) -> Path:
        """See `Artifacts.checkout`; a view that does not verify is made anew from the blobs, once."""
        manifest = self._manifest(artifact)
        view = self._views / artifact
        doing = f"checking out the files of artifact {artifact[:12]}"
        with _in_words(doing):
            if _wrong(view, manifest) is None:
                return view
        with self._writing(doing):
            if _wrong(view, manifest) is None:  # another process made it while this one waited
                return view
            self._make_view(view, manifest)
            name = _wrong(view, manifest)
        if name is None:
            return view
        blob = self._blob(manifest.files[name].sha256)
        how = "damaged: its bytes are not those that were saved" if blob.exists() else "missing"
        raise errors.ModelProblem(
            f"The file {name} of artifact {artifact} is {how}.",
            f"use {_OTHER}, or bring back {blob.relative_to(self.root)} in {self.root} from a backup.",
        )

    def size(self, artifact: str) -> int:
        """See `Artifacts.size`."""
        return _bytes(self._manifest(artifact))

    def delete(self, artifact: str) -> int:
        """See `Artifacts.delete`; what a killed save or delete left behind goes too."""
        manifest = self._manifest_path(artifact)
        with self._writing(f"deleting artifact {artifact[:12]}"):
            if not manifest.exists():
                raise _absent(artifact)
            # All others are read before anything goes: one that cannot be read must not lose its blobs.
            others = [self._manifest(other) for other in self.ids() if other != artifact]
            needed = {content.sha256 for other in others for content in other.files.values()}
            manifest.unlink()
            sync_folder(self._manifests)
            for view in [v for v in self._views.iterdir() if not (self._manifests / f"{v.name}.json").exists()]:
                _remove_tree(view)
            freed = 0
            for blob in [b for b in self._blobs.glob("??/*") if b.name not in needed]:
                freed += blob.stat().st_size
                blob.unlink()
        return freed

    def ids(self) -> list[str]:
        """See `Artifacts.ids`."""
        return sorted(path.stem for path in self._manifests.glob("*.json"))

    @contextlib.contextmanager
    def _writing(self, doing: str) -> Iterator[None]:
        """Hold the store's lock with an empty staging folder; system errors inside become sentences."""
        with _in_words(doing):
            for folder in (self._blobs, self._manifests, self._views):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self.root / "store.lock"):
                _remove_tree(self._staging)
                self._staging.mkdir(mode=0o700)
                try:
                    yield
                finally:
                    _remove_tree(self._staging)

    def _blob(self, sha256: str) -> Path:
        return self._blobs / sha256[:2] / sha256

    def _store(self, source: Path, added: list[Path]) -> Content:
        """Put one file among the blobs, unless a good copy is there; `added` learns of a new blob."""
        with _open_regular(source) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            blob = self._blob(sha256)
            if _hash(blob) == sha256:
                return Content(sha256, blob.stat().st_size)
            staged = self._staging / secrets.token_hex(8)
            file.seek(0)
            with staged.open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
                copy.flush()
                os.fchmod(copy.fileno(), 0o400)
                os.fsync(copy.fileno())
        if _hash(staged) != sha256:
            raise errors.ModelProblem(
                f"{source} changed while it was being saved.", "type the same line again when nothing writes there."
            )
        if not blob.parent.exists():
            blob.parent.mkdir(mode=0o700)
        if not blob.exists():  # a damaged blob that is replaced serves others and is not taken back
            added.append(blob)
        staged.replace(blob)
        return Content(sha256, blob.stat().st_size)

    def _publish_manifest(self, artifact: str, data: bytes) -> None:
        path = self._manifest_path(artifact)
        if path.exists() and path.read_bytes() == data:
            sync_folder(self._manifests)
            return
        staged = self._staging / "manifest"
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
        try:
            sync_folder(self._manifests)
        except OSError:  # what is not surely on the disk is not published, and its blobs go
            path.unlink(missing_ok=True)
            raise

    def _manifest_path(self, artifact: str) -> Path:
        if not _ID.fullmatch(artifact):
            raise errors.ModelProblem(f"'{artifact[:80]}' is not the id of an artifact.", f"use {_OTHER}.")
        return self._manifests / f"{artifact}.json"

    def _manifest(self, artifact: str) -> Manifest:
        path = self._manifest_path(artifact)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise _absent(artifact) from None
        except OSError as error:
            raise errors.from_os_error(error, f"reading artifact {artifact[:12]}") from error
        if hashlib.sha256(data).hexdigest() != artifact:
            raise errors.ModelProblem(
                f"The manifest of artifact {artifact} is damaged.",
                f"use {_OTHER}, or bring back {path.relative_to(self.root)} in {self.root} from a backup.",
            )
        return codec.build(Manifest, json.loads(data))

    def _make_view(self, view: Path, manifest: Manifest) -> None:
        """Lay the blobs out under their names, beside, and rename the folder into place."""
        fresh = self._staging / "view"
        fresh.mkdir(mode=0o700)
        for name, content in manifest.files.items():
            target, blob = fresh / name, self._blob(content.sha256)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileNotFoundError):  # the check that follows names what is missing
                _link_or_copy(blob, target)
        _remove_tree(view)
        fresh.replace(view)


@contextlib.contextmanager
def _in_words(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.from_os_error(error, doing) from error


def _link_or_copy(blob: Path, target: Path) -> None:
    try:
        target.hardlink_to(blob)
    except FileNotFoundError:
        raise
    except OSError:  # no hard links here, or too many of this file
        shutil.copyfile(blob, target)
        target.chmod(0o400)


def _regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of every file; raises ModelProblem for anything but files and folders, and for nothing."""
    count = 0
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        _check_regular(path, path.lstat().st_mode)
        if name != name.encode("utf-8", "replace").decode():
            raise errors.ModelProblem(f"The file name {name!r} is not UTF-8.", "rename the file.")
        count += 1
        yield name, path
    if not count:
        raise errors.ModelProblem(f"There are no files in {folder} to save.", "give the folder that holds the weights.")


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything under `folder` that is not a folder itself; links are yielded, never followed."""

    def refuse(error: OSError) -> None:
        raise errors.from_os_error(error, f"reading {folder}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        yield from (Path(parent) / name for name in files)
        yield from (Path(parent) / name for name in folders if (Path(parent) / name).is_symlink())


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
        raise errors.ModelProblem(
            f"{path} is {kind}, and only regular files are stored.", "copy the file itself there."
        )


@contextlib.contextmanager
def _open_regular(path: Path) -> Iterator[io.BufferedReader]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        _check_regular(path, os.fstat(fd).st_mode)
        yield file


def _hash(path: Path) -> str | None:
    """Return the SHA-256 of a regular file, None when there is none or it cannot be read to its end."""
    try:
        with _open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except errors.ModelProblem:
        return None
    except OSError as error:
        if error.errno in _NO_SUCH_CONTENT:
            return None
        raise


def _wrong(view: Path, manifest: Manifest) -> str | None:
    """Return the name of a file in `view` that is not as `manifest` says, or is too many; None when all is well."""
    for name, content in manifest.files.items():
        path = view / _safe(name)
        if _hash(path) != content.sha256:
            return name
    strangers = {path.relative_to(view).as_posix() for path in _walk(view)} - manifest.files.keys()
    return min(strangers, default=None)


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise errors.ModelProblem(f"The artifact names a file {name!r}, which lies outside of it.", f"use {_OTHER}.")
    return name


def _bytes(manifest: Manifest) -> int:
    return sum(content.size for content in manifest.files.values())


def _absent(artifact: str) -> errors.ModelProblem:
    return errors.ModelProblem(
        f"The files of artifact {artifact} are no longer here: they go when the last version that has them is retired.",
        f"use {_OTHER}.",
    )


def _remove_tree(folder: Path) -> None:
    if folder.is_symlink() or folder.exists():
        shutil.rmtree(folder)
