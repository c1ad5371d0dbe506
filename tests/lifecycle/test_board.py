"""What the board says to type next can be typed."""

import sft_magics as sft
from sft_magics.core.workspace import Workspace


def test_the_next_step_is_never_about_a_retired_version(trained: Workspace) -> None:
    assert sft.board(workspace=trained.root).next_step == "%sft_alias films:1 live"
    sft.retire("films:1", reason="old", workspace=trained.root)
    assert sft.board(workspace=trained.root).next_step == "%sft_finetune films"
