"""The artifact store: saves, checks out, verifies, exports, deletes."""

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from sft_magics.core.runtime import weights
from sft_magics.core.workspace import locked, sync_folder
from sft_magics.registry.artifacts import collecting, files, hashing, layout, saving
from sft_magics.registry.artifacts.base import OTHER, Artifact, Artifacts, Collected, absent, damaged, in_words
from sft_magics.registry.artifacts.blobs import Blobs
from sft_magics.registry.artifacts.layout import Layout
from sft_magics.registry.artifacts.manifests import Content, Manifest, Manifests, Tensors
from sft_magics.registry.artifacts.packs import Packs, Slot
from sft_magics.registry.artifacts.views import View, Views


class ArtifactStore(Artifacts):
    """Keeps artifacts as files under `root`, made when first needed. Raises WorkspaceProblem when the disk refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = Blobs(root / "blobs")
        self.packs = Packs(root / "packs")
        self.manifests = Manifests(root)
        self.views = Views(root / "views", self.blobs, self.packs)
        self._staging = root / "staging"

    def save(self, folder: Path, without: Collection[str] = ()) -> Artifact:
        """See `Artifacts.save`; identical content is stored once, and a damaged copy of it is put right."""
        found = {name: path for name, path in files.regular_files(folder).items() if name not in without}
        with self.writing(f"saving {folder.name}") as staging:
            added: list[Path] = []
            try:
                manifest, packs = self._store(found, staging, added)
                fresh = sum(path.stat().st_size for path in added)
                # Also those of blobs that were there: who saved them may have been killed before this point.
                for parent in {self.blobs.path(sha256).parent for sha256 in manifest.blobs()}:
                    sync_folder(parent)
                for parent in (self.blobs.folder, self.packs.folder, self.root):
                    sync_folder(parent)
                artifact = self.manifests.publish(manifest, packs, staging)
            except BaseException:
                for path in added:
                    path.unlink(missing_ok=True)
                raise
        return Artifact(artifact, manifest.size, fresh)

    def checkout(self, artifact: str) -> Path:
        """See `Artifacts.checkout`; a view that is not as it must be is made anew, once."""
        manifest = self.manifests.read(artifact)
        doing = f"checking out the files of artifact {artifact[:12]}"
        with in_words(doing):
            view = self.view(artifact, manifest)
            if self.views.wrong(view) is None:
                return view.path
        with self.writing(doing) as staging:
            view = self.view(artifact, self.manifests.read(artifact))
            if self.views.wrong(view) is None:  # another process made it while this one waited
                return view.path
            self.views.make(view, staging)
            name = self.views.wrong(view)
        if name is not None:
            blob = self.blobs.path(manifest.files[name].sha256)
            raise damaged(f"file {name}", artifact, blob, self.root, missing=not blob.exists())
        return view.path

    def export(self, artifact: str, folder: Path) -> None:
        """See `Artifacts.export`; what is damaged is found while it is copied, and the folder is then not whole."""
        manifest = self.manifests.read(artifact)
        with in_words(f"writing the files of artifact {artifact[:12]} to {folder}"):
            for name, content in manifest.files.items():
                data = self.blobs.read(content.sha256)
                if data is None:
                    blob = self.blobs.path(content.sha256)
                    raise damaged(f"file {name}", artifact, blob, self.root, missing=not blob.exists())
                _target(folder, name).write_bytes(data)
            slots = self._slots(artifact, manifest)
            for name, stored in manifest.weights.items():
                self._rebuild(artifact, name, stored, slots, _target(folder, name))

    def verify(self, artifact: str) -> None:
        """See `Artifacts.verify`; reads in the order of the packs, on two threads."""
        manifest = self.manifests.read(artifact)
        with in_words(f"verifying artifact {artifact[:12]}"):
            for name, content in manifest.files.items():
                blob = self.blobs.path(content.sha256)
                if files.hash_of(blob) != content.sha256:
                    raise damaged(f"file {name}", artifact, blob, self.root, missing=not blob.exists())
            slots = self._slots(artifact, manifest)
            for pack in sorted({slot.pack for slot in slots.values()}):
                here = {sha256: slot for sha256, slot in slots.items() if slot.pack == pack}
                path = self.packs.path(pack)
                if not self.packs.stands(pack):
                    raise damaged(f"pack {pack[:12]}", artifact, path, self.root)
                real = hashing.sums(path, [(slot.start, slot.size) for slot in here.values()], crc=False)
                for sha256, found in zip(here, real, strict=True):
                    if sha256 != found.sha256:
                        raise damaged(self._name_of(manifest, sha256), artifact, path, self.root)

    def size(self, artifact: str) -> int:
        """See `Artifacts.size`."""
        return self.manifests.read(artifact).size

    def delete(self, artifact: str) -> int:
        """See `Artifacts.delete`; what a killed save or delete left behind goes too."""
        path = self.manifests.path(artifact)
        with self.writing(f"deleting artifact {artifact[:12]}") as staging:
            if not path.exists():
                raise absent(artifact)
            return collecting.remove(self, [artifact], staging)

    def collect(self, keep: Collection[str], grace: float = 3600.0, *, dry_run: bool = False) -> Collected:
        """See `Artifacts.collect`."""
        with self.writing("collecting what no version needs") as staging:
            doomed = collecting.doomed(self, keep, grace)
            if dry_run:
                return Collected(tuple(doomed), collecting.would_free(self, doomed))
            return Collected(tuple(doomed), collecting.remove(self, doomed, staging))

    def ids(self) -> list[str]:
        """See `Artifacts.ids`."""
        return self.manifests.ids()

    @contextlib.contextmanager
    def writing(self, doing: str) -> Iterator[Path]:
        """Hold the store's lock with an empty staging folder; system errors inside become sentences."""
        with in_words(doing):
            folders = (self.blobs.folder, self.packs.folder, self.manifests.folder, self.manifests.places)
            for folder in (*folders, self.views.folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self.root / "store.lock"):
                files.remove_tree(self._staging)
                self._staging.mkdir(mode=0o700)
                try:
                    yield self._staging
                finally:
                    files.remove_tree(self._staging)

    def view(self, artifact: str, manifest: Manifest) -> View:
        """Return the view an artifact must have; raises ModelProblem when a header or a tensor is missing."""
        slots = self._slots(artifact, manifest)
        packs = sorted({slot.pack for slot in slots.values()})
        numbers = {pack: number for number, pack in enumerate(packs)}
        found: dict[str, dict[str, weights.Stored]] = {}
        for name, stored in manifest.weights.items():
            pairs = zip(
                self._layout(artifact, name, stored).tensors, [slots[sha256] for sha256 in stored.tensors], strict=True
            )
            found[name] = {
                t.name: weights.Stored(numbers[s.pack], s.start, t.size, t.dtype, t.shape, s.crc32) for t, s in pairs
            }
        index = weights.written(weights.Index(tuple(packs), found)) if packs else b""
        return View(self.views.folder / artifact, manifest, index, frozenset(packs))

    def _store(self, found: dict[str, Path], staging: Path, added: list[Path]) -> tuple[Manifest, set[str]]:
        """Put all content into the store; return the manifest, and the packs that hold its tensors."""
        manifest = Manifest()
        packs: set[str] = set()
        for name, path in found.items():
            read = layout.read(path) if name.endswith(".safetensors") else None
            if read is None or not read.tensors:
                manifest.files[name] = Content(*self.blobs.add(path, staging, added))
                continue
            before = files.settle(path)
            stored = saving.tensors(self.packs, path, read, staging, added)
            if files.stamp(path) != before:  # what was copied may not be what was hashed
                raise files.changed(path)
            packs |= stored.packs
            header = self.blobs.add_bytes(read.header, staging, added)
            manifest.weights[name] = Tensors(header, stored.sha256s, before[1])
        return manifest, packs

    def _slots(self, artifact: str, manifest: Manifest) -> dict[str, Slot]:
        needed = manifest.tensors()
        found = self.packs.find(needed, self.manifests.placed(artifact))
        if gone := needed - found.keys():
            what = self._name_of(manifest, min(gone))
            raise damaged(what, artifact, self.packs.folder, self.root, missing=True)
        return found

    def _layout(self, artifact: str, name: str, stored: Tensors) -> Layout:
        header = self.blobs.read(stored.header)
        read = layout.parse(header) if header is not None else None
        if read is None:
            blob = self.blobs.path(stored.header)
            raise damaged(f"file {name}", artifact, blob, self.root, missing=not blob.exists())
        return read

    def _name_of(self, manifest: Manifest, sha256: str) -> str:
        """Say which tensor has this hash, as far as the header of its file can be read."""
        for name, stored in manifest.weights.items():
            if sha256 in stored.tensors:
                read = layout.parse(self.blobs.read(stored.header) or b"")
                at = stored.tensors.index(sha256)
                return f"tensor {read.tensors[at].name} in {name}" if read else f"file {name}"
        return "a tensor"

    def _rebuild(self, artifact: str, name: str, stored: Tensors, slots: dict[str, Slot], target: Path) -> None:
        """Write a safetensors file as it was: its header, then its tensors in their order."""
        read = self._layout(artifact, name, stored)
        with target.open("wb") as file:
            file.write(read.header)
            for sha256 in stored.tensors:
                slot = slots[sha256]
                found = hashlib.sha256()
                fd = os.open(self.packs.path(slot.pack), os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    for data in hashing.chunks(fd, slot.start, slot.size):
                        found.update(data)
                        file.write(data)
                finally:
                    os.close(fd)
                if found.hexdigest() != sha256:
                    raise damaged(
                        self._name_of(Manifest({}, {name: stored}), sha256),
                        artifact,
                        self.packs.path(slot.pack),
                        self.root,
                    )


def _target(folder: Path, name: str) -> Path:
    target = folder / files.safe(name, OTHER)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
