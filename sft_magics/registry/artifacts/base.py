"""The seam of the artifact store, and how it says what is wrong."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sft_magics.core import errors

OTHER = "another version (%sft_versions lists them)"


@dataclass(frozen=True)
class Artifact:
    """A stored folder: `size` is the bytes of its files, `added` how many the store took up for it."""

    id: str
    size: int
    added: int


@dataclass(frozen=True)
class Collected:
    """What a collection removed, or would remove: ids of artifacts, and bytes of the disk."""

    artifacts: tuple[str, ...]
    bytes: int


class Artifacts(ABC):
    """The seam of the artifact store: folders go in, ids come out, read-only folders come back."""

    @abstractmethod
    def save(self, folder: Path, without: Collection[str] = ()) -> Artifact:
        """Store the regular files under `folder`, durably, but those named in `without`.

        Links and other special files raise ModelProblem.
        """

    @abstractmethod
    def checkout(self, artifact: str) -> Path:
        """Return a folder to load from: files verified now, tensors by whoever loads them; raises ModelProblem.

        Tensors are not in the folder's files but in packs, as `core.runtime.weights` says. The folder serves every
        caller: never write to it.
        """

    @abstractmethod
    def export(self, artifact: str, folder: Path) -> None:
        """Write the artifact's files into `folder`, byte for byte as they were saved; raises ModelProblem."""

    @abstractmethod
    def verify(self, artifact: str) -> None:
        """Read every byte of the artifact; raises ModelProblem, naming the file, when one is not as it was saved."""

    @abstractmethod
    def size(self, artifact: str) -> int:
        """Return the bytes of the artifact's files; raises ModelProblem when it is not there."""

    @abstractmethod
    def delete(self, artifact: str) -> int:
        """Remove an artifact and what no other one shares; return the bytes freed. Raises ModelProblem."""

    @abstractmethod
    def collect(self, keep: Collection[str], grace: float = 3600.0, *, dry_run: bool = False) -> Collected:
        """Remove all artifacts but `keep` and those saved within `grace` seconds, and pack anew what is half empty.

        The grace is for who has saved and not yet committed. With `dry_run` nothing changes.
        """

    @abstractmethod
    def ids(self) -> list[str]:
        """Return the ids of all artifacts, sorted."""


def absent(artifact: str) -> errors.ModelProblem:
    """Return the refusal for an artifact that is not there."""
    return errors.ModelProblem(
        f"The files of artifact {artifact} are no longer here: they go when the last version that has them is retired.",
        f"use {OTHER}.",
    )


def damaged(what: str, artifact: str, path: Path, root: Path, *, missing: bool = False) -> errors.ModelProblem:
    """Return the refusal for content that is not as it was saved."""
    how = "missing" if missing else "damaged: its bytes are not those that were saved"
    return errors.ModelProblem(
        f"The {what} of artifact {artifact} is {how}.",
        f"use {OTHER}, or bring back {path.relative_to(root)} in {root} from a backup.",
    )


@contextlib.contextmanager
def in_words(doing: str) -> Iterator[None]:
    """Let the operating system's errors inside become sentences."""
    try:
        yield
    except OSError as error:
        raise errors.from_os_error(error, doing) from error
