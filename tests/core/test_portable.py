"""Paths inside a workspace survive a move; everything else comes back as it was."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_magics.core import portable
from sft_magics.core.jobs import JobFolder

HERE, THERE = Path("/a/ws"), Path("/b/moved")


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("/a/ws", "/b/moved"),
        ("/a/ws/pictures/ab/x.png", "/b/moved/pictures/ab/x.png"),
        (Path("/a/ws/runs"), "/b/moved/runs"),
        ({"start": {"kind": "folder", "path": "/a/ws/v"}}, {"start": {"kind": "folder", "path": "/b/moved/v"}}),
        (["/a/ws/x", "/elsewhere/x"], ["/b/moved/x", "/elsewhere/x"]),
        ("/a/wsx/y", "/a/wsx/y"),
        ("a text", "a text"),
        ("pictures/x.png", "pictures/x.png"),
        ("", ""),
        (None, None),
        (3, 3),
    ],
)
def test_what_lies_inside_moves_along(value: object, moved: object) -> None:
    assert portable.unpacked(portable.packed(value, HERE), THERE) == moved


@given(st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_anything_else_comes_back_as_it_was(value: object) -> None:
    assert portable.unpacked(portable.packed(value, HERE), HERE) == value


def test_a_column_of_paths() -> None:
    for path in ("/a/ws/pictures/x.png", "/elsewhere/x.png", ""):
        kept = portable.relative(path, HERE)
        assert portable.resolved(kept, HERE) == path
    assert portable.resolved(portable.relative("/a/ws/pictures/x.png", HERE), THERE) == "/b/moved/pictures/x.png"


def test_the_order_of_a_job_is_read_where_its_folder_lies(tmp_path: Path) -> None:
    spec = {"workspace": str(tmp_path / "ws"), "data_file": str(tmp_path / "ws" / "datasets" / "a.parquet")}
    job = JobFolder(tmp_path / "ws" / "runs" / "run-0a0a").create(spec)
    assert job.spec() == spec
    (tmp_path / "ws").rename(tmp_path / "moved")
    moved = JobFolder(tmp_path / "moved" / "runs" / "run-0a0a").spec()
    assert moved == {key: value.replace("/ws", "/moved") for key, value in spec.items()}
