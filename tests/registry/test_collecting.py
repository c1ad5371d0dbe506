"""Collecting removes what nobody needs and nothing else, and packs anew what is half empty, under readers."""

import os
import time
from pathlib import Path

import pytest
import torch

from sft_magics.core.runtime import weights as places
from sft_magics.engine.models import weight_loading
from sft_magics.registry import ArtifactStore
from sft_magics.registry.artifacts import layout
from tests.registry.house import disk, flip, folder, network, packs, same


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_collecting_keeps_what_is_needed_and_says_what_goes(store: ArtifactStore, tmp_path: Path) -> None:
    saved = [store.save(folder(tmp_path / str(head), network(head))) for head in range(4)]
    kept = [saved[1].id, saved[3].id]
    assert store.collect(kept).artifacts == (), "what was saved just now may be on its way into the registry"
    before = disk(store)
    planned = store.collect(kept, 0.0, dry_run=True)
    assert planned.artifacts == tuple(sorted((saved[0].id, saved[2].id)))
    assert disk(store) == before
    done = store.collect(kept, 0.0)
    assert done == planned
    assert store.ids() == sorted(kept)
    assert before - disk(store) >= done.bytes > 0
    for number in (1, 3):
        store.verify(saved[number].id)
        assert same(weight_loading.load(store.checkout(saved[number].id)), network(number))
    assert store.collect(kept, 0.0) == type(done)((), 0)
    assert store.collect([], 0.0).artifacts == tuple(sorted(kept))
    assert packs(store) == []
    assert not any(store.blobs.all())


def test_saving_again_begins_the_grace_anew(store: ArtifactStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "a", network())
    saved = store.save(source)
    long_ago = time.time() - 7200
    os.utime(store.root / "manifests" / f"{saved.id}.json", (long_ago, long_ago))
    assert store.collect([], dry_run=True).artifacts == (saved.id,)
    store.save(source)
    assert store.collect([]).artifacts == ()


def test_a_pack_that_is_mostly_waste_is_written_anew(store: ArtifactStore, tmp_path: Path) -> None:
    body = {f"t{n}": torch.full((1000,), float(n)) for n in range(10)}
    big = store.save(folder(tmp_path / "big", body))
    part = {"t2": body["t2"], "t7": body["t7"], "own": torch.ones(10)}
    small = store.save(folder(tmp_path / "small", part))
    view = store.checkout(small.id)
    held = weight_loading.load(view)
    (old,) = [p for p in packs(store) if p.stat().st_size > 30_000]
    planned = store.collect([small.id], 0.0, dry_run=True)
    done = store.collect([small.id], 0.0)
    assert done.artifacts == (big.id,)
    assert planned == done
    assert done.bytes > 30_000
    assert not old.exists()
    assert sum(p.stat().st_size for p in packs(store)) < 10_000
    assert same(held, part), "what was loaded before stands"
    assert same(weight_loading.load(view), part), "the folder that was checked out before leads to the new pack"
    assert store.checkout(small.id) == view
    assert old.name not in {p.name for p in (view / places.FOLDER).iterdir()}
    store.verify(small.id)


def test_a_half_empty_pack_with_a_damaged_tensor_stays(store: ArtifactStore, tmp_path: Path) -> None:
    body = {f"t{n}": torch.full((1000,), float(n)) for n in range(10)}
    store.save(folder(tmp_path / "big", body))
    small = store.save(folder(tmp_path / "small", {"t2": body["t2"]}))
    (pack,) = packs(store)
    read = layout.read(pack)
    assert read is not None
    flip(pack, read.tensors[2].start)
    store.collect([small.id], 0.0)
    assert pack.exists()
    flip(pack, read.tensors[2].start)
    store.verify(small.id)
    store.collect([small.id], 0.0)
    assert not pack.exists()
    store.verify(small.id)


def test_a_loader_that_read_the_index_before_a_collection_reads_it_again(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {f"t{n}": torch.full((1000,), float(n)) for n in range(10)}
    store.save(folder(tmp_path / "big", body))
    small = store.save(folder(tmp_path / "small", {"t2": body["t2"]}))
    view = store.checkout(small.id)
    read = places.read
    asked: list[int] = []

    def slowly(folder: Path) -> places.Index | None:
        found = read(folder)
        if not asked:
            store.collect([small.id], 0.0)
        asked.append(1)
        return found

    monkeypatch.setattr(places, "read", slowly)
    assert same(weight_loading.load(view), {"t2": body["t2"]})
    assert len(asked) == 2
