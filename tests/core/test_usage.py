"""The bytes a workspace takes are counted when work ends, and read from there."""

from pathlib import Path

import pytest

from sft_magics.core.records import Board
from sft_magics.core.runtime import usage
from sft_magics.core.workspace import Workspace


def test_the_number_is_kept_until_someone_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = Workspace(tmp_path / "ws").prepare()
    first = usage.known(ws)
    (ws.root / "big").write_bytes(bytes(50_000))
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "disk_bytes", lambda _: pytest.fail("it walks the workspace"))
        assert usage.known(ws) == first
    assert usage.measure(ws).bytes >= first.bytes + 50_000
    assert usage.known(ws).bytes >= first.bytes + 50_000


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bytes": "x", "at": 1}', '{"at": 1}'])
def test_a_damaged_number_is_counted_anew(tmp_path: Path, text: str) -> None:
    ws = Workspace(tmp_path / "ws").prepare()
    (ws.root / "usage.json").write_text(text)
    assert usage.known(ws).bytes > 0


def test_the_board_says_from_when_the_number_is() -> None:
    board = Board("ws", (), (), (), (), (), (), 4_000_000, 10**10, "%sft", 1_700_000_000.0)
    assert "4 MB used (as of 2023-11-1" in str(board)
