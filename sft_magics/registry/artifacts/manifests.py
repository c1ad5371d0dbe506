"""Manifests: what the files of an artifact are, by hash and nothing else, so that the same content has the same id."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sft_magics.core import codec, errors
from sft_magics.core.workspace import sync_folder
from sft_magics.registry.artifacts.base import OTHER, absent

_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Content:
    """A file that is kept whole."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Tensors:
    """A safetensors file: the hashes of its header and of its tensors, these in the order of their bytes."""

    header: str
    tensors: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Manifest:
    """Relative name -> content, for every file of an artifact."""

    files: dict[str, Content] = field(default_factory=dict)
    weights: dict[str, Tensors] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """The names of all files."""
        return {*self.files, *self.weights}

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(c.size for c in self.files.values()) + sum(w.size for w in self.weights.values())

    def blobs(self) -> Iterator[str]:
        """Yield the hash of every blob it needs."""
        yield from (content.sha256 for content in self.files.values())
        yield from (stored.header for stored in self.weights.values())

    def tensors(self) -> set[str]:
        """Return the hash of every tensor it needs."""
        return {sha256 for stored in self.weights.values() for sha256 in stored.tensors}


class Manifests:
    """The manifests below `root`, and the hints where their tensors are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "manifests"
        self.places = root / "places"

    def path(self, artifact: str) -> Path:
        """Return where a manifest is, or would be; raises ModelProblem for what is no id."""
        if not _ID.fullmatch(artifact):
            raise errors.ModelProblem(f"'{artifact[:80]}' is not the id of an artifact.", f"use {OTHER}.")
        return self.folder / f"{artifact}.json"

    def ids(self) -> list[str]:
        """Return all ids, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def read(self, artifact: str) -> Manifest:
        """Return a manifest; raises ModelProblem when it is not there or damaged."""
        path = self.path(artifact)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise absent(artifact) from None
        except OSError as error:
            raise errors.from_os_error(error, f"reading artifact {artifact[:12]}") from error
        if hashlib.sha256(data).hexdigest() != artifact:
            raise errors.ModelProblem(
                f"The manifest of artifact {artifact} is damaged.",
                f"use {OTHER}, or bring back {path.relative_to(self.root)} in {self.root} from a backup.",
            )
        return codec.build(Manifest, json.loads(data))

    def publish(self, manifest: Manifest, packs: Iterable[str], staging: Path) -> str:
        """Put a manifest on the disk, after the hint where its tensors are, and return its id."""
        data = codec.dumps(manifest).encode()
        artifact = hashlib.sha256(data).hexdigest()
        self.place(artifact, packs, staging)
        path = self.path(artifact)
        if path.exists() and path.read_bytes() == data:
            os.utime(path)  # the grace of a collection begins anew
            sync_folder(self.folder)
            return artifact
        staged = staging / "manifest"
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
        try:
            sync_folder(self.folder)
        except OSError:  # what is not surely on the disk is not published, and its blobs go
            path.unlink(missing_ok=True)
            raise
        return artifact

    def place(self, artifact: str, packs: Iterable[str], staging: Path) -> None:
        """Note the packs that hold an artifact's tensors; not synced, for it can be found again."""
        staged = staging / "place"
        staged.write_text(json.dumps(sorted(packs)))
        staged.replace(self.places / f"{artifact}.json")

    def placed(self, artifact: str) -> list[str]:
        """Return the packs that were noted for an artifact; none when the note is lost."""
        try:
            found = json.loads((self.places / f"{artifact}.json").read_bytes())
        except (OSError, ValueError):
            return []
        named = isinstance(found, list) and all(isinstance(name, str) and _ID.fullmatch(name) for name in found)
        return found if named else []

    def remove(self, artifact: str) -> None:
        """Remove a manifest durably, then its hint."""
        self.path(artifact).unlink()
        sync_folder(self.folder)
        (self.places / f"{artifact}.json").unlink(missing_ok=True)
