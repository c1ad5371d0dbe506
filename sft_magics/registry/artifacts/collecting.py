"""Garbage collection: what no manifest needs any more goes, and a pack that is mostly that is written anew.

Whoever calls holds the store's lock, so nothing is being saved meanwhile. Readers need no lock: a view holds its files
by links of its own.
"""

import contextlib
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors
from sft_magics.core.workspace import sync_folder
from sft_magics.registry.artifacts import files, hashing, layout, packs
from sft_magics.registry.artifacts.manifests import Manifest
from sft_magics.registry.artifacts.packs import Source

if TYPE_CHECKING:
    from sft_magics.registry.artifacts.store import ArtifactStore

_SHARE = 0.5  # share of a pack's bytes that nobody needs, from which on it is written anew


def doomed(store: "ArtifactStore", keep: Collection[str], grace: float) -> list[str]:
    """Return the artifacts that nobody keeps and that were saved more than `grace` seconds ago."""
    kept, before = set(keep), time.time() - grace
    return [a for a in store.ids() if a not in kept and store.manifests.path(a).stat().st_mtime < before]


def would_free(store: "ArtifactStore", gone: Collection[str]) -> int:
    """Return the bytes that removing these artifacts would free."""
    kept = _others(store, gone)
    tensors = _tensors(kept.values())
    freed = sum(blob.stat().st_size for blob in _unneeded_blobs(store, kept.values()))
    return freed + sum(_plan(store, pack, tensors, kept).freed for pack in store.packs.names())


def remove(store: "ArtifactStore", gone: Collection[str], staging: Path) -> int:
    """Remove these artifacts and all content that no other one needs; return the bytes freed."""
    kept = _others(store, gone)  # all are read before anything goes: one that cannot be read must not lose its content
    for artifact in gone:
        store.manifests.remove(artifact)
    for view in [v for v in store.views.folder.iterdir() if v.name not in kept]:
        files.remove_tree(view)
    for place in [p for p in store.manifests.places.iterdir() if p.stem not in kept]:
        place.unlink()
    freed = 0
    for blob in _unneeded_blobs(store, kept.values()):
        freed += blob.stat().st_size
        blob.unlink()
    tensors = _tensors(kept.values())
    for pack in store.packs.names():
        freed += _thin_out(store, pack, tensors, kept, staging)
    return freed


def _others(store: "ArtifactStore", gone: Collection[str]) -> dict[str, Manifest]:
    leaving = set(gone)
    return {artifact: store.manifests.read(artifact) for artifact in store.ids() if artifact not in leaving}


def _tensors(manifests: Iterable[Manifest]) -> set[str]:
    found: set[str] = set()
    for manifest in manifests:
        found |= manifest.tensors()
    return found


def _unneeded_blobs(store: "ArtifactStore", manifests: Iterable[Manifest]) -> list[Path]:
    needed = {sha256 for manifest in manifests for sha256 in manifest.blobs()}
    return [blob for blob in store.blobs.all() if blob.name not in needed]


@dataclass(frozen=True)
class _Plan:
    """What becomes of a pack: the tensors to write anew, if any, and the bytes that its going frees; 0 if it stays."""

    rest: list[Source]
    freed: int


def _plan(store: "ArtifactStore", pack: str, tensors: set[str], kept: Collection[str]) -> _Plan:
    path, slots = store.packs.path(pack), store.packs.slots(pack)
    if not slots and kept:
        return _Plan([], 0)  # its header is damaged: it may be mended from a backup
    needed = {sha256: slot for sha256, slot in slots.items() if sha256 in tensors}
    whole = path.stat().st_size
    if not needed:
        return _Plan([], whole)
    data = whole - min(slot.start for slot in slots.values())
    if data - sum(slot.size for slot in needed.values()) < _SHARE * data:
        return _Plan([], 0)
    parts = [(slot.start, slot.size) for slot in needed.values()]
    if {sums.sha256 for sums in hashing.sums(path, parts, crc=False)} != needed.keys():
        return _Plan([], 0)  # with a damaged tensor in it, it stays as it is
    read = layout.read(path)
    entries = {t.name: t for t in read.tensors} if read else {}
    rest = [Source(s, n.crc32, entries[s].dtype, entries[s].shape, path, n.start, n.size) for s, n in needed.items()]
    return _Plan(rest, whole - packs.size_of(rest))


def _thin_out(store: "ArtifactStore", pack: str, tensors: set[str], kept: dict[str, Manifest], staging: Path) -> int:
    """Remove a pack that nobody needs, or write anew what is needed of one that is mostly not."""
    plan = _plan(store, pack, tensors, kept)
    if plan.freed and plan.rest:
        smaller = store.packs.write(plan.rest, staging, [])
        sync_folder(store.packs.folder)
        _move(store, pack, smaller, {source.sha256 for source in plan.rest}, kept, staging)
    elif plan.freed:
        store.packs.path(pack).unlink()
    return plan.freed


def _move(
    store: "ArtifactStore", old: str, new: str, tensors: set[str], kept: dict[str, Manifest], staging: Path
) -> None:
    """Let everyone who needs these tensors find them in the new pack, then remove the old one."""
    users = {a: m for a, m in kept.items() if old in store.manifests.placed(a) or m.tensors() & tensors}
    for artifact in users:
        store.manifests.place(artifact, {new, *store.manifests.placed(artifact)} - {old}, staging)
    aside = store.packs.path(old).rename(staging / "old")
    for artifact, manifest in users.items():
        with contextlib.suppress(errors.ModelProblem):  # it lacks something else; whoever loads it is told
            store.views.renew_index(store.view(artifact, manifest), staging)
    aside.unlink()
