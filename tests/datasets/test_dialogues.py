"""Instructions and answers: which tables are read so, chats, what is left out, what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, dialogues, load, rows

PAIRS = pd.DataFrame({"instruction": [f"Say {n}." for n in range(40)], "output": [f"It is {n}." for n in range(40)]})


def test_prompts_and_answers_are_recognized_by_their_names() -> None:
    for prompt, answer in (("prompt", "response"), ("instruction", "output"), ("Question", "Answer")):
        found = load(PAIRS.set_axis([prompt, answer], axis=1))
        assert found.task == "causal-lm"
        assert (found.texts[3], found.labels[3]) == ("Say 3.", "It is 3.")
    assert load(PAIRS.assign(input=["of old"] * 40)).texts[0] == "Say 0.\n\nof old"


def test_a_few_answers_that_repeat_are_classes_unless_said_otherwise() -> None:
    table = PAIRS.assign(output=["yes", "no"] * 20)
    assert load(table, text="instruction", label="output").task == "text-classification"
    assert load(table, task="causal-lm").task == "causal-lm"


def test_chats_are_read_up_to_their_last_answer(tmp_path: Path) -> None:
    turns = [("user", "Hi"), ("assistant", "Hello."), ("user", "And now?"), ("assistant", "Bye.")]
    chats = [
        {"messages": [{"role": r, "content": c} for r, c in turns]},
        {"messages": [{"role": r, "content": c} for r, c in turns[:2]]},
        {"messages": [{"role": r, "content": c} for r, c in turns[:3]]},
        {"messages": [{"role": "user", "content": "alone"}]},
    ]
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join(json.dumps(c) for c in chats))
    found = load(str(file))
    assert found.task == "causal-lm"
    assert found.labels == ["Bye.", "Hello.", "Hello."]
    assert dialogues.messages(found.texts[0]) == chats[0]["messages"][:-1]
    assert found.texts[1] == "Hi"
    assert dialogues.shown(found.texts[0]) == "user: Hi\nassistant: Hello.\nuser: And now?"
    assert "1 rows without a prompt or an answer" in found.findings[0].message
    sharegpt = pd.DataFrame({"conversations": [[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]]})
    assert load(sharegpt).labels == ["b"]


def test_they_are_split_and_written_like_any_other(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "sft").prepare()
    dataset = build("says", PAIRS, workspace=ws)
    assert (dataset.task, dataset.labels, sum(dataset.counts.values())) == ("causal-lm", (), 40)
    frame = rows(ws, dataset)
    assert list(frame.columns) == ["id", "text", "label", "split"]
    assert set(zip(frame["text"], frame["label"], strict=True)) == set(PAIRS.itertuples(index=False, name=None))


def test_the_sample_asks_what_python_does(tmp_path: Path) -> None:
    dataset = build("docs", "sample:docstrings", workspace=Workspace(tmp_path / "sft").prepare())
    assert dataset.task == "causal-lm"
    assert dataset.license == "PSF-2.0"
    assert sum(dataset.counts.values()) > 2_500
    assert all(e.text.startswith("What does ") for e in dataset.examples)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("no json", "Row 1 of DataFrame is no chat"),
        ('[{"who": "user", "content": "a"}]', "is no chat"),
        ('[{"role": "user", "content": "a"}]', "No row of DataFrame has both"),
    ],
)
def test_what_is_no_chat_is_refused(cell: str, said: str) -> None:
    with pytest.raises(errors.DataProblem, match=said):
        load(pd.DataFrame({"messages": [cell]}))


def test_a_table_without_answers_says_which_column_is_lacking() -> None:
    with pytest.raises(errors.DataProblem, match="has no column 'response'"):
        load(pd.DataFrame({"prompt": ["a"], "other": ["b"]}), task="causal-lm")


def test_chats_that_a_parquet_file_gave_are_arrays_and_read_all_the_same() -> None:
    chat = np.array([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], dtype=object)
    assert load(pd.DataFrame({"messages": [chat, chat]})).labels == ["b", "b"]
