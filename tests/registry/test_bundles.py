"""Bundles come back as they went in; what is not harmless is refused by name, and nothing is written outside."""

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_magics.core import errors
from sft_magics.registry import bundles

Make = Callable[[zipfile.ZipFile], None]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "out"
    path.mkdir(parents=True)
    return path


def bundle(path: Path, make: Make) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        make(made)
    return path


def test_a_folder_comes_back_from_its_bundle(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    (source / "model.safetensors").write_bytes(os.urandom(3_000_000))
    (source / "sub" / "empty.txt").write_bytes(b"")
    size = bundles.pack(source, tmp_path / "a.zip")
    assert size == (tmp_path / "a.zip").stat().st_size > 3_000_000
    bundles.unpack(tmp_path / "a.zip", out)
    for name in ("model.safetensors", "sub/empty.txt"):
        assert (out / name).read_bytes() == (source / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "deep", "in"], "nothing else is left"


def linked(made: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    made.writestr(entry, "/etc/passwd")


def device(made: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("device")
    entry.external_attr = (stat.S_IFIFO | 0o666) << 16
    made.writestr(entry, "")


def twice(made: zipfile.ZipFile) -> None:
    made.writestr("a.txt", "1")
    made.writestr("A.txt", "2")


def bomb(made: zipfile.ZipFile) -> None:
    made.writestr("zeros", bytes(5 << 20), zipfile.ZIP_DEFLATED)


def many(made: zipfile.ZipFile) -> None:
    for number in range(10_001):
        made.writestr(f"{number}", "")


def named(name: str) -> Make:
    return lambda made: made.writestr(zipfile.ZipInfo(name), "x")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (named("../outside"), "could lie outside"),
        (named("/etc/passwd"), "could lie outside"),
        (named("a/../../b"), "could lie outside"),
        (named("a/./b"), "could lie outside"),
        (named("a//b"), "could lie outside"),
        (named("..\\outside"), "could lie outside"),
        (named("C:evil"), "could lie outside"),
        (named("line\nbreak"), "could lie outside"),
        (named("x" * 501), "could lie outside"),
        (linked, "no regular file"),
        (device, "no regular file"),
        (twice, "more than once"),
        (bomb, "grows to 5,242,880 bytes"),
        (many, "10,001 files"),
        (lambda made: made.writestr("a", b"x" * 100, zipfile.ZIP_BZIP2), "in a compression"),
    ],
)
def test_what_is_not_harmless_is_refused_by_name(tmp_path: Path, out: Path, make: Make, says: str) -> None:
    with pytest.raises(errors.ModelProblem, match=says) as problem:
        bundles.unpack(bundle(tmp_path / "evil.zip", make), out)
    assert "%sft_export" in problem.value.next_step
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "evil.zip"]


def test_a_size_that_is_a_lie_is_found(tmp_path: Path, out: Path) -> None:
    path = bundle(tmp_path / "a.zip", lambda made: made.writestr("a.txt", b"x" * 1000))
    for size in (10, 2000):
        data = bytearray(path.read_bytes())
        at = data.index(b"PK\x01\x02")
        data[at + 24 : at + 28] = struct.pack("<I", size)
        (tmp_path / "lie.zip").write_bytes(data)
        (out / "a.txt").unlink(missing_ok=True)
        with pytest.raises(errors.ModelProblem):
            bundles.unpack(tmp_path / "lie.zip", out)


def test_an_encrypted_file_is_refused(tmp_path: Path, out: Path) -> None:
    path = bundle(tmp_path / "a.zip", lambda made: made.writestr("a.txt", b"x"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(errors.ModelProblem, match="encrypted"):
        bundles.unpack(path, out)


def test_any_damage_is_refused_in_a_sentence(tmp_path: Path, out: Path) -> None:
    path = bundle(tmp_path / "a.zip", lambda made: made.writestr("a.txt", bytes(range(200)), zipfile.ZIP_DEFLATED))
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        (tmp_path / "cut.zip").write_bytes(whole[:cut])
        with pytest.raises(errors.ModelProblem):
            bundles.unpack(tmp_path / "cut.zip", out)
    for where in range(len(whole)):
        (out / "a.txt").unlink(missing_ok=True)
        (tmp_path / "flip.zip").write_bytes(whole[:where] + bytes([whole[where] ^ 16]) + whole[where + 1 :])
        try:
            bundles.unpack(tmp_path / "flip.zip", out)
        except errors.SftError:
            continue
        for found in (p for p in out.rglob("*") if p.is_file()):
            assert found.read_bytes() == bytes(range(200))
            found.unlink()


def test_more_than_the_disk_holds_is_refused(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle(tmp_path / "a.zip", lambda made: made.writestr("a.txt", b"x" * 5000))
    monkeypatch.setattr(bundles.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 4000}))
    with pytest.raises(errors.WorkspaceProblem, match="more than the disk has free"):
        bundles.unpack(path, out)
