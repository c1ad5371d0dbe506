"""Instructions and answers: which tables are read so, chats, what is left out, what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, load, rows, texts_of
from sft_magics.datasets.chats import chat_tables

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
    assert chat_tables.messages(found.texts[0]) == chats[0]["messages"][:-1]
    assert found.texts[1] == "Hi"
    assert chat_tables.shown(found.texts[0]) == "user: Hi\nassistant: Hello.\nuser: And now?"
    assert "1 rows without a prompt or an answer" in found.findings[0].message
    assert found.findings[1].message == "4 answers of 3 chats are learned."
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


def turn(role: str, content: object, **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


ASKED, SAID = turn("user", "What is up?"), turn("assistant", "The sky.")


def chat(*said: dict[str, object], **columns: object) -> dict[str, object]:
    return {"messages": list(said), **columns}


def test_a_null_content_is_no_text_to_learn() -> None:
    found = load([chat(ASKED, SAID), chat(ASKED, turn("assistant", None)), chat(turn("user", None), SAID)])
    assert (found.texts, found.labels) == (["What is up?"], ["The sky."])
    assert [f.message for f in found.findings] == ["2 rows without a prompt or an answer were left out."]


def test_chats_that_call_tools_are_left_out_and_counted() -> None:
    call = [{"type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    table = [
        chat(ASKED, SAID), chat(ASKED, turn("assistant", None, tool_calls=call), turn("tool", "sunny"), SAID),
        chat(ASKED, turn("assistant", None, function_call={"name": "f"}), SAID),
        chat(turn("human", "a"), {"from": "function_call", "value": "{}"}, {"from": "gpt", "value": "b"}),
        chat(ASKED, turn("assistant", "kept", tool_calls=[])),
        chat(ASKED, turn("assistant", "kept", tool_calls=None)),
    ]  # fmt: skip
    found = load(table)
    assert found.labels == ["The sky.", "kept", "kept"]
    assert [f.message for f in found.findings] == ["3 chats that call tools were left out."]


def test_definitions_of_tools_are_named_as_not_shown() -> None:
    tools = '[{"type": "function", "function": {"name": "weather"}}]'
    codes = [[f.code for f in load([chat(ASKED, SAID, tools=v)] * 2).findings] for v in (tools, "[]", None)]
    assert codes == [["tools", "unread_columns"], ["unread_columns"], []]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "What is "}, {"type": "text", "text": "up?"}], "What is up?"),
        ([{"text": "What is up?"}], "What is up?"),
        (["What is up?"], "What is up?"),
        (np.array([{"type": "text", "text": "What is up?"}], dtype=object), "What is up?"),
        (42, "42"),
    ],
)
def test_a_content_in_parts_is_the_text_of_its_parts(content: object, text: str) -> None:
    found = load([chat(turn("user", content), SAID)])
    assert (found.texts, found.labels) == ([text], ["The sky."])


def test_chats_with_pictures_are_left_out_and_counted() -> None:
    shown = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "What is it?"}]
    found = load([chat(turn("user", shown), SAID), chat(ASKED, SAID)])
    assert (found.labels, [f.message for f in found.findings]) == (
        ["The sky."], ["1 chats that hold pictures or sound were left out."],
    )  # fmt: skip


@pytest.mark.parametrize(
    "cell", [[turn("user", {"a": 1}), SAID], [turn("narrator", "a"), SAID], [turn("user", True), SAID]]
)
def test_a_content_or_a_role_of_another_kind_is_refused(cell: object) -> None:
    with pytest.raises(errors.DataProblem, match=r"Row 1 of .* is no chat"):
        load([{"messages": cell}])


def test_every_answer_of_a_chat_is_learned_but_those_of_weight_0() -> None:
    again = turn("user", "And now?")
    found = load([chat(ASKED, SAID, again, turn("assistant", "Bye."), turn("user", "Hm"))])
    assert [m.get("weight") for m in chat_tables.messages(found.texts[0])] == [None, None, None]
    assert found.labels == ["Bye."]
    for key, off in (("weight", 0), ("weight", 0.0), ("train", False)):
        found = load([chat(ASKED, {**SAID, key: off}, again, turn("assistant", "Bye."))])
        assert [m.get("weight") for m in chat_tables.messages(found.texts[0])] == [None, 0, None]
        assert found.findings[0].message == (
            "1 answers of 1 chats are learned; 1 with weight 0 or without a text are read as context."
        )
        found = load([chat(ASKED, SAID, again, turn("assistant", "Bye.", **{key: off}))])
        assert (found.texts, found.labels) == (["What is up?"], ["The sky."])


def test_sharegpt_chats_of_several_turns_are_learned_as_a_whole() -> None:
    said = [("system", "Be brief."), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]
    found = load([{"conversations": [{"from": who, "value": what} for who, what in said]}])
    assert [m["role"] for m in chat_tables.messages(found.texts[0])] == ["system", "user", "assistant", "user"]
    assert found.findings[0].message == "2 answers of 1 chats are learned."


def test_what_stands_beside_prompt_and_answer_is_used_or_named() -> None:
    row = {"instruction": "Sum up.", "context": "A long story.", "response": "Short."}
    assert load([row]).texts == ["Sum up.\n\nA long story."]
    assert load([{**row, "instruction": ""}]).texts == ["A long story."]
    assert load([{"instruction": None, "input": "Go on", "output": "Yes"}]).texts == ["Go on"]
    full = load([{**row, "system": "Be brief.", "history": [["Hi", "Hello."]], "rating": 5}])
    assert [(m["role"], m["content"]) for m in chat_tables.messages(full.texts[0])] == [
        ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Sum up.\n\nA long story."),
    ]  # fmt: skip
    assert full.columns == {
        "prompt": "instruction", "response": "response", "below": "context", "system": "system", "history": "history",
    }  # fmt: skip
    assert [f.message for f in full.findings] == ["2 answers of 1 chats are learned.", "Columns not read: rating."]
    assert chat_tables.messages(load([chat(ASKED, SAID, system="Be brief.")]).texts[0])[0]["content"] == "Be brief."


def test_rows_of_weight_0_are_left_out_and_other_weights_named() -> None:
    row, other = {"prompt": "a", "response": "b"}, {"prompt": "c", "response": "d"}
    found = load([{**row, "weight": 1}, {**other, "weight": 0}])
    assert (len(found), [f.message for f in found.findings]) == (1, ["1 rows with weight 0 were left out."])
    found = load([{**row, "weight": 0.5}, {**other, "weight": 0}])
    assert (len(found), [f.message for f in found.findings]) == (2, ["Columns not read: weight."])


@pytest.mark.parametrize("cell", [{"text": ["b"]}, ["b", "c"], [1, 2]])
def test_an_answer_that_is_a_list_or_a_dict_is_refused(cell: object) -> None:
    with pytest.raises(errors.DataProblem, match=r"the column 'answer' of .* holds a (list|dict), and no text"):
        load([{"question": "a", "answer": cell}], task="causal-lm")


def test_prompts_and_answers_may_be_messages_each() -> None:
    for answer in ([SAID], "The sky.", np.array([SAID], dtype=object)):
        found = load([{"prompt": [turn("system", "Be brief."), ASKED], "completion": answer}])
        assert [m["role"] for m in chat_tables.messages(found.texts[0])] == ["system", "user"]
        assert found.labels == ["The sky."]


def test_what_is_asked_has_the_same_fields_as_what_was_learned() -> None:
    row = {"instruction": "Sum up.", "input": "A story.", "system": "Be brief."}
    learned = load([{**row, "output": "Short."}]).texts
    assert texts_of([row], task="causal-lm")[0] == learned
    assert texts_of([chat(ASKED, SAID)], task="causal-lm")[0] == ["What is up?"]
    with pytest.raises(errors.DataProblem, match="do not answer chats that call tools"):
        texts_of([chat(ASKED, turn("tool", "sunny"))], task="causal-lm")
