"""What a table asks of a version: its texts, its files of images, its prompts and chats, and the truths beside them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from sft_magics.core import errors
from sft_magics.datasets import texts_of


def test_prompts_of_a_table() -> None:
    table = pd.DataFrame({"who": ["a", "b", "c"], "prompt": ["Say 7.", "Say 9.", None]})
    assert texts_of(table, task="causal-lm") == (["Say 7.", "Say 9.", ""], [None] * 3)
    assert texts_of(table, text="who", task="causal-lm")[0] == ["a", "b", "c"]
    told = pd.DataFrame({"instruction": ["Add.", "Name it."], "input": ["1 2", None], "output": ["3", "x"]})
    assert texts_of(told, task="causal-lm")[0] == ["Add.\n\n1 2", "Name it."]


def test_chats_of_a_table_are_asked_up_to_their_last_answer() -> None:
    question = {"role": "user", "content": "Say 7."}
    answer = {"role": "assistant", "content": "7"}
    table = pd.DataFrame(
        {"messages": [[question], [question, answer], [question, answer, question], json.dumps([]), None]}
    )
    texts, truths = texts_of(table, task="causal-lm")
    assert texts == ["Say 7.", "Say 7.", json.dumps([question, answer, question]), "", ""]
    assert truths == [None] * 5
    with pytest.raises(errors.DataProblem, match="Row 1 of DataFrame is no chat"):
        texts_of(pd.DataFrame({"messages": ["nonsense"]}), task="causal-lm")


def test_names_of_images_begin_where_the_table_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    elsewhere = tmp_path / "elsewhere.png"
    table = pd.DataFrame(
        {"caption": ["a long caption of one", "a long caption of two"], "file": ["1.png", str(elsewhere)], "n": [1, 2]}
    )
    table.to_csv(tmp_path / "there" / "pictures.csv", index=False)
    for task in ("image-classification", "object-detection", "semantic-segmentation"):
        texts, _ = texts_of(str(tmp_path / "there" / "pictures.csv"), task=task)
        assert texts == [str(tmp_path / "there" / "1.png"), str(elsewhere)]
    monkeypatch.chdir(tmp_path)
    assert texts_of(table, text="file", task="image-classification")[0][0] == str(tmp_path / "1.png")
    assert texts_of(table, text="caption")[0][0] == "a long caption of one"
    with pytest.raises(errors.SftError, match="no column"):
        texts_of(table, text="nope", task="image-classification")
