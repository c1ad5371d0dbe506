"""Tensors are stored once, come back to the byte, are found damaged, mended, collected and packed anew."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sft_magics.core import errors
from sft_magics.core.runtime import weights as places
from sft_magics.engine.models import weight_loading
from sft_magics.registry import ArtifactStore
from sft_magics.registry.artifacts import layout
from sft_magics.registry.artifacts import packs as stored_packs
from tests.registry.house import disk, flip, folder, make_writable, network, packs, same

TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_a_checked_out_folder_is_loaded_from_packs(store: ArtifactStore, tmp_path: Path) -> None:
    saved = store.save(folder(tmp_path / "a", network()))
    view = store.checkout(saved.id)
    assert sorted(p.name for p in view.iterdir()) == [".weights", "config.json"]
    assert same(weight_loading.load(view), network())
    assert places.read(tmp_path / "a") is None, "a plain folder"
    assert same(weight_loading.load(tmp_path / "a"), network())
    assert store.checkout(saved.id) == view
    assert store.size(saved.id) == saved.size == sum(p.stat().st_size for p in (tmp_path / "a").iterdir())


def test_packs_are_safetensors_files_named_by_their_headers(store: ArtifactStore, tmp_path: Path) -> None:
    store.save(folder(tmp_path / "a", network()))
    (pack,) = packs(store)
    assert not pack.stat().st_mode & 0o222
    tensors = load_file(pack)
    wanted = {t.numpy().tobytes() for t in network().values()}
    assert {t.numpy().tobytes() for t in tensors.values()} == wanted
    with safe_open(pack, "pt") as opened:
        assert set(opened.metadata()) == {name for name in tensors if "#" not in name}


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_and_shape_comes_back(store: ArtifactStore, tmp_path: Path, dtype: torch.dtype) -> None:
    wanted = {
        "odd": torch.arange(7).to(torch.bool if dtype is torch.bool else dtype),
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.empty(0, 4).to(dtype),
        "last": torch.arange(60).reshape(3, 4, 5).to(dtype),
    }
    got = weight_loading.load(store.checkout(store.save(folder(tmp_path / "a", wanted)).id))
    assert got is not None
    for name, tensor in wanted.items():
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape)
        assert got[name].view(torch.uint8).tolist() == tensor.view(torch.uint8).tolist() if tensor.dim() else True
    got["last"].zero_()  # what is loaded may be written to, and the store does not notice
    assert same_bytes(weight_loading.load(store.checkout(store.ids()[0])), wanted)


def same_bytes(found: dict[str, torch.Tensor] | None, wanted: dict[str, torch.Tensor]) -> bool:
    assert found is not None
    return all(found[k].flatten().view(torch.uint8).equal(t.flatten().view(torch.uint8)) for k, t in wanted.items())


def test_ten_heads_on_one_body_take_the_room_of_one(store: ArtifactStore, tmp_path: Path) -> None:
    first = store.save(folder(tmp_path / "0", network()))
    once = disk(store)
    for head in range(1, 10):
        saved = store.save(folder(tmp_path / str(head), network(head)))
        assert saved.added < 0.02 * first.added
        assert same(weight_loading.load(store.checkout(saved.id)), network(head))
    assert disk(store) < 1.1 * once
    assert len(packs(store)) == 10


def test_a_head_whose_size_is_the_body_s_is_found_too(store: ArtifactStore, tmp_path: Path) -> None:
    """The first tensor of some size is known, the rest is not: the copy made ahead is not taken, nor is it needed."""
    one = {f"t{n}": torch.full((100,), float(n)) for n in range(10)}
    store.save(folder(tmp_path / "a", one))
    other = {**{f"t{n}": torch.full((100,), float(n + 50)) for n in range(9)}, "t9": torch.full((101,), 3.0)}
    mixed = {**other, "t0": one["t0"]}
    for number, tensors in enumerate((other, mixed)):
        saved = store.save(folder(tmp_path / str(number), tensors))
        assert same(weight_loading.load(store.checkout(saved.id)), tensors)
    assert len(packs(store)) == 2


def test_export_gives_the_files_back_byte_for_byte(store: ArtifactStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "a", network(), vocab="words")
    save_file({"extra": torch.ones(3)}, source / "adapter.safetensors")
    (source / "broken.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0{}")
    store.save(folder(tmp_path / "before", network(7)))
    saved = store.save(source)
    target = tmp_path / "out"
    target.mkdir()
    store.export(saved.id, target)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}
    assert same(load_file(target / "model.safetensors"), network())
    again = ArtifactStore(tmp_path / "elsewhere").save(target)
    assert again.id == saved.id, "the id is that of the content, on every machine"


def test_a_file_that_only_looks_like_safetensors_is_kept_whole(store: ArtifactStore, tmp_path: Path) -> None:
    def file(entries: object, data: bytes) -> bytes:
        text = json.dumps(entries).encode()
        return len(text).to_bytes(8, "little") + text + data

    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    strange = {
        "gap": file({"a": entry, "b": {**entry, "data_offsets": [12, 20]}}, bytes(20)),
        "overlap": file({"a": entry, "b": {**entry, "data_offsets": [4, 12]}}, bytes(12)),
        "tail": file({"a": entry}, bytes(9)),
        "short": file({"a": entry}, bytes(7)),
        "shape": file({"a": {**entry, "shape": [3]}}, bytes(8)),
        "type": file({"a": {**entry, "dtype": "F33"}}, bytes(8)),
        "negative": file({"a": {**entry, "shape": [-2]}}, bytes(8)),
        "list": file([entry], bytes(8)),
        "nothing": file({}, b""),
        "long": (1 << 60).to_bytes(8, "little") + b"{}",
        "empty": b"",
    }
    source = tmp_path / "a"
    source.mkdir()
    for name, data in strange.items():
        (source / f"{name}.safetensors").write_bytes(data)
    saved = store.save(source)
    assert packs(store) == []
    store.verify(saved.id)
    view = store.checkout(saved.id)
    assert {p.stem: p.read_bytes() for p in view.iterdir()} == strange


@pytest.mark.parametrize("use", ["load", "verify", "export"])
def test_a_flipped_bit_in_a_tensor_is_found_by_name(store: ArtifactStore, tmp_path: Path, use: str) -> None:
    saved = store.save(folder(tmp_path / "a", network()))
    view = store.checkout(saved.id)
    (pack,) = packs(store)
    for tensor in (t for t in layout.read(pack).tensors if "#" not in t.name):  # type: ignore[union-attr]
        for where in (tensor.start, tensor.start + tensor.size - 1):
            flip(pack, where)
            with pytest.raises(errors.ModelProblem, match="is damaged: its bytes are not those") as caught:
                {"load": lambda: weight_loading.load(view), "verify": lambda: store.verify(saved.id)}.get(
                    use, lambda: store.export(saved.id, fresh(tmp_path / "out"))
                )()
            assert "tensor body." in caught.value.what or "tensor head." in caught.value.what
            flip(pack, where)
    store.verify(saved.id)


def fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def test_a_flipped_bit_anywhere_in_a_pack_s_header_is_found(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder(tmp_path / "a", network())
    saved = store.save(source)
    (pack,) = packs(store)
    header = len(layout.read(pack).header)  # type: ignore[union-attr]
    for where in range(0, header, 97):
        flip(pack, where)
        with pytest.raises(errors.ModelProblem, match=r"is damaged|is missing"):
            store.verify(saved.id)
        monkeypatch.setattr(stored_packs, "_headers", {})  # as a new process
        with pytest.raises(errors.ModelProblem, match="is missing"):
            store.checkout(saved.id)
        flip(pack, where)
    store.verify(saved.id)
    flip(pack, 50)
    monkeypatch.setattr(stored_packs, "_headers", {})
    assert store.save(source).id == saved.id  # the same files, saved again, put it right
    store.verify(saved.id)


def test_saving_the_same_tensors_again_heals_a_damaged_pack(store: ArtifactStore, tmp_path: Path) -> None:
    saved = store.save(folder(tmp_path / "a", network()))
    view = store.checkout(saved.id)
    (pack,) = packs(store)
    tensors = [t for t in layout.read(pack).tensors if t.size]  # type: ignore[union-attr]
    flip(pack, tensors[3].start + 5)
    store.save(folder(tmp_path / "b", network(5)))
    store.verify(saved.id)
    assert same(weight_loading.load(view), network())
    assert not pack.stat().st_mode & 0o222
    os.truncate(make_writable(pack), tensors[-1].start)
    store.save(tmp_path / "a")
    store.verify(saved.id)


def test_lost_hints_are_found_again(store: ArtifactStore, tmp_path: Path) -> None:
    saved = [store.save(folder(tmp_path / str(head), network(head))) for head in range(3)]
    for wrong in (None, b"", b"[1]", b'["../../x"]', b"{}", b'["' + b"0" * 64 + b'"]'):
        shutil.rmtree(store.root / "places")
        shutil.rmtree(store.root / "views", ignore_errors=True)
        (store.root / "places").mkdir()
        for number, one in enumerate(saved):
            if wrong is not None:
                (store.root / "places" / f"{one.id}.json").write_bytes(wrong)
            assert same(weight_loading.load(store.checkout(one.id)), network(number))


def test_a_missing_pack_is_said_in_words(store: ArtifactStore, tmp_path: Path) -> None:
    saved = store.save(folder(tmp_path / "a", network()))
    view = store.checkout(saved.id)
    packs(store)[0].unlink()
    with pytest.raises(
        errors.ModelProblem, match=r"tensor body\.\d\.(weight|count) in model.safetensors|head.* is missing"
    ):
        store.checkout(saved.id)
    assert same(weight_loading.load(view), network()), "who has the folder keeps what it needs"
    (view / places.pack(packs_in(view)[0])).unlink()
    with pytest.raises(errors.ModelProblem, match="no longer there"):
        weight_loading.load(view)


def packs_in(view: Path) -> tuple[str, ...]:
    index = places.read(view)
    assert index is not None
    return index.packs


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"packs": [], "files": {"a": {"b": [1]}}}'])
def test_a_damaged_index_is_made_anew(store: ArtifactStore, tmp_path: Path, data: bytes) -> None:
    saved = store.save(folder(tmp_path / "a", network()))
    view = store.checkout(saved.id)
    index = make_writable(view / places.INDEX)
    index.write_bytes(data)
    with pytest.raises(errors.ModelProblem, match="index of the weights"):
        weight_loading.load(view)
    assert same(weight_loading.load(store.checkout(saved.id)), network())


def test_a_type_that_torch_lacks_is_named(store: ArtifactStore, tmp_path: Path) -> None:
    entries = {"strange": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [0, 2]}}
    text = json.dumps(entries).encode()
    source = tmp_path / "a"
    source.mkdir()
    (source / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"ab")
    with pytest.raises(errors.ModelProblem, match="tensor strange has the type F8_E8M0"):
        weight_loading.load(store.checkout(store.save(source).id))


def test_a_file_that_changes_while_it_is_saved_is_refused(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_magics.registry.artifacts import hashing

    source = folder(tmp_path / "a", network())
    hashed = hashing.sums

    def meddle(path: Path, parts: list[tuple[int, int]], *, crc: bool = True) -> list[hashing.Sums]:
        found = hashed(path, parts, crc=crc)
        if len(parts) > 1:
            with (source / "model.safetensors").open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"x")
        return found

    monkeypatch.setattr(hashing, "sums", meddle)
    with pytest.raises(errors.ModelProblem, match=r"model\.safetensors changed while it was being saved"):
        store.save(source)
    assert store.ids() == []
    assert packs(store) == []


def no_kernel_copy(*_: object, **__: object) -> int:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_where_the_kernel_cannot_copy_we_do(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", no_kernel_copy, raising=False)
    saved = store.save(folder(tmp_path / "a", network()))
    other = store.save(folder(tmp_path / "b", network(2)))
    for number, one in ((0, saved), (2, other)):
        assert same(weight_loading.load(store.checkout(one.id)), network(number))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_half_way_leaves_nothing(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    first = store.save(folder(tmp_path / "a", network()))
    before = sorted(p for p in store.root.rglob("*") if p.is_file())

    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    for head, calls in ((1, ("copy_file_range",)), (2, ("fsync",)), (3, ("fchmod",))):
        with monkeypatch.context() as patched:
            for call in calls:
                patched.setattr(os, call, refuse, raising=False)
            with pytest.raises(errors.WorkspaceProblem):
                store.save(folder(tmp_path / str(head), network(head)))
        assert sorted(p for p in store.root.rglob("*") if p.is_file()) == before
    store.verify(first.id)


def test_a_folder_of_the_store_is_not_saved_again(store: ArtifactStore, tmp_path: Path) -> None:
    view = store.checkout(store.save(folder(tmp_path / "a", network())).id)
    with pytest.raises(errors.ModelProblem, match=r"has a \.weights in it") as caught:
        store.save(view)
    assert "%sft_export" in caught.value.next_step


def test_folders_are_private(store: ArtifactStore, tmp_path: Path) -> None:
    saved = store.save(folder(tmp_path / "a", network()))
    store.checkout(saved.id)
    for path in store.root.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & (0o077 if path.is_dir() else 0o022), path


Tamper = Callable[[Path], None]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda view: (view / places.FOLDER / "extra").write_text("x"),
        lambda view: (view / places.INDEX).unlink(),
        lambda view: next(view.glob(".weights/*.safetensors")).unlink(),
        lambda view: shutil.rmtree(view / places.FOLDER),
    ],
)
def test_a_view_whose_index_or_packs_were_tampered_with_is_made_anew(
    store: ArtifactStore, tmp_path: Path, tamper: Tamper
) -> None:
    saved = store.save(folder(tmp_path / "a", network()))
    tamper(store.checkout(saved.id))
    assert same(weight_loading.load(store.checkout(saved.id)), network())
