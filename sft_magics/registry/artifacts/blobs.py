"""Small content: whole files under their hashes, read-only."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from sft_magics.registry.artifacts import files


class Blobs:
    """The blobs below `folder`; whoever adds or removes holds the store's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Return where a blob is, or would be."""
        return self.folder / sha256[:2] / sha256

    def all(self) -> Iterator[Path]:
        """Yield every blob."""
        yield from self.folder.glob("??/*")

    def add(self, source: Path, staging: Path, added: list[Path]) -> tuple[str, int]:
        """Keep one file unless a good copy is there; return hash and bytes. `added` learns of a new blob."""
        with files.open_regular(source) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            blob = self.path(sha256)
            if files.hash_of(blob) == sha256:
                return sha256, blob.stat().st_size
            staged = staging / secrets.token_hex(8)
            file.seek(0)
            with staged.open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        if files.hash_of(staged) != sha256:
            raise files.changed(source)
        return sha256, self._keep(staged, blob, added)

    def add_bytes(self, data: bytes, staging: Path, added: list[Path]) -> str:
        """Keep these bytes unless a good copy is there; return their hash."""
        sha256 = hashlib.sha256(data).hexdigest()
        blob = self.path(sha256)
        if files.hash_of(blob) != sha256:
            staged = staging / secrets.token_hex(8)
            staged.write_bytes(data)
            self._keep(staged, blob, added)
        return sha256

    def _keep(self, staged: Path, blob: Path, added: list[Path]) -> int:
        with staged.open("rb") as file:
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())
        blob.parent.mkdir(mode=0o700, exist_ok=True)
        if not blob.exists():  # a damaged blob that is replaced serves others and is not taken back
            added.append(blob)
        staged.replace(blob)
        return blob.stat().st_size

    def read(self, sha256: str) -> bytes | None:
        """Return a blob's bytes; None when they are not there or not those that were saved."""
        try:
            with files.open_regular(self.path(sha256)) as file:
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None
