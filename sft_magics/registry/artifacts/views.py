"""Views: folders to load from, made of hard links to blobs and packs, and an index of the tensors."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from sft_magics.core.runtime import weights
from sft_magics.registry.artifacts import files
from sft_magics.registry.artifacts.base import OTHER
from sft_magics.registry.artifacts.blobs import Blobs
from sft_magics.registry.artifacts.manifests import Manifest
from sft_magics.registry.artifacts.packs import Packs


@dataclass(frozen=True)
class View:
    """One artifact's folder: its manifest, the index of its tensors and the packs that hold them."""

    path: Path
    manifest: Manifest
    index: bytes
    packs: frozenset[str]


class Views:
    """The views below `folder`."""

    def __init__(self, folder: Path, blobs: Blobs, packs: Packs) -> None:
        self.folder = folder
        self._blobs = blobs
        self._packs = packs

    def wrong(self, view: View) -> str | None:
        """Return the name of a file in the view that is not as it must be, or is too many; None when all is well."""
        for name, content in view.manifest.files.items():
            if files.hash_of(view.path / files.safe(name, OTHER)) != content.sha256:
                return name
        if view.packs and not self._index_stands(view):
            return weights.INDEX
        expected = set(view.manifest.files) | ({weights.INDEX} if view.packs else set())
        expected |= {weights.pack(name) for name in view.packs}
        strangers = {path.relative_to(view.path).as_posix() for path in files.walk(view.path)} - expected
        return min(strangers, default=None)

    def _index_stands(self, view: View) -> bool:
        try:
            with files.open_regular(view.path / weights.INDEX) as file:
                if file.read() != view.index:
                    return False
        except OSError:
            return False
        return all(files.same(view.path / weights.pack(name), self._packs.path(name)) for name in view.packs)

    def make(self, view: View, staging: Path) -> None:
        """Lay everything out beside, and rename the folder into place."""
        fresh = staging / "view"
        fresh.mkdir(mode=0o700)
        links = {name: self._blobs.path(content.sha256) for name, content in view.manifest.files.items()}
        links |= {weights.pack(name): self._packs.path(name) for name in view.packs}
        for name, stored in links.items():
            target = fresh / files.safe(name, OTHER)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileNotFoundError):  # the check that follows names what is missing
                files.link_or_copy(stored, target)
        if view.packs:
            (fresh / weights.INDEX).write_bytes(view.index)
            (fresh / weights.INDEX).chmod(0o400)
        files.remove_tree(view.path)
        fresh.replace(view.path)

    def renew_index(self, view: View, staging: Path) -> None:
        """Point a view that others may be reading to other packs: the new ones, the index at once, then the old."""
        held = view.path / weights.FOLDER
        if not held.is_dir():
            return
        for name in view.packs:
            if not files.same(view.path / weights.pack(name), self._packs.path(name)):
                files.link_or_copy(self._packs.path(name), view.path / weights.pack(name))
        fresh = staging / "index"
        fresh.write_bytes(view.index)
        fresh.chmod(0o400)
        fresh.replace(view.path / weights.INDEX)
        kept = {Path(weights.pack(name)).name for name in view.packs} | {Path(weights.INDEX).name}
        for path in held.iterdir():
            if path.name not in kept:
                path.unlink()
