import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from sft_magics.core import records
from sft_magics.core.arguments import check_call, parse
from sft_magics.core.errors import UsageProblem
from sft_magics.core.lines import split
from sft_magics.core.signatures import FromNamespace, Names, Sentence, read
from tests.notebook import panel_samples


def train(
    model: Annotated[str, "the model to train"],
    *,
    epochs: Annotated[float, "passes over the data"] = 1.0,
    batch: Annotated[int, "rows a step"] = 32,
    threads: Annotated[int | Literal["auto"], "CPU threads"] = "auto",
    max_length: Annotated[int | None, "tokens of a row"] = None,
    method: Annotated[Literal["full", "head"] | None, "which weights"] = None,
    data: Annotated[str | None, "the dataset"] = None,
    background: Annotated[bool, "return at once"] = False,
) -> None:
    """Train a model."""


def ask(
    version: Annotated[str, "a version"],
    *texts: Annotated[Any, "texts", FromNamespace(), Sentence()],
    endpoint: Annotated[bool, "ask the endpoint"] = False,
) -> None:
    """Ask a version."""


def tag(
    version: Annotated[str, "a version"],
    *tags: Annotated[str, "name=value"],
    reason: Annotated[str, "why"] = "",
) -> None:
    """Tag a version."""


TRAIN, ASK, TAG = read("train", train), read("ask", ask), read("tag", tag)


def texts_of(line: str, **namespace: Any) -> tuple[tuple[Any, ...], list[str]]:
    notes: list[str] = []
    return parse(ASK, split(line), namespace, say=notes.append)["texts"], notes


def refused(line: str, signature: Any = TRAIN, namespace: Any = None) -> UsageProblem:
    with pytest.raises(UsageProblem) as caught:
        parse(signature, split(line), namespace)
    return caught.value


# ---- several words, one text


def test_words_without_quotes_are_one_text_and_that_is_said() -> None:
    texts, notes = texts_of("m:3 my parcel is late")
    assert texts == ("my parcel is late",)
    (note,) = notes
    assert "'my parcel is late'" in note
    assert "4 texts" in note


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ('m:3 "my parcel" "is late"', ("my parcel", "is late")),
        ('m:3 "good" "bad"', ("good", "bad")),
        ("m:3 -- good bad", ("good", "bad")),
        ("m:3 good", ("good",)),
        ("m:3 a.png b.jpg", ("a.png", "b.jpg")),
    ],
)
def test_what_is_apart_stays_apart_and_nothing_is_said(line: str, texts: tuple[str, ...]) -> None:
    assert texts_of(line) == (texts, [])


def test_words_around_a_quoted_text_are_texts_of_their_own() -> None:
    texts, notes = texts_of('m:3 it is late "a good film" so bad --endpoint')
    assert texts == ("it is late", "a good film", "so bad")
    assert len(notes) == 2


def test_variables_and_files_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
    one, two = ["a"], ["b"]
    assert texts_of("m:3 one two", one=one, two=two)[0] == (one, two)
    assert texts_of("m:3 cats dogs")[0] == ("cats", "dogs")


@pytest.mark.parametrize("line", ["m:3 my data is late", "m:3 a.png b"])
def test_what_may_be_a_text_or_things_is_not_guessed(line: str) -> None:
    problem = refused(line, ASK, {"data": ["a table"]})
    assert "may be one text" in problem.what
    assert "quotes" in problem.next_step


# ---- options written otherwise


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("films epochs=1", "--epochs 1"),
        ("films max_length=64", "--max-length 64"),
        ("films max-length=64", "--max-length 64"),
        ("epochs=1", "--epochs 1"),
        ("films epochs = 1", "--epochs 1"),
        ("films epochs =1", "--epochs 1"),
        ("films epochs 1", "--epochs 1"),
        ("films epochs: 1", "--epochs 1"),
        ("films epochs:1", "--epochs 1"),
        ("films -- epochs 1", "--epochs 1"),
        ("films background", "--background"),
        ("films background=True", "--background"),
    ],
)
def test_an_option_without_its_dashes_is_answered_with_them(line: str, step: str) -> None:
    problem = refused(line)
    assert "two dashes" in problem.what
    assert problem.next_step == f"write {step}"


def test_an_option_without_its_dashes_is_no_text_either() -> None:
    assert refused("m:3 endpoint=True", ASK).next_step == "write --endpoint"
    assert texts_of('m:3 "endpoint=True"')[0] == ("endpoint=True",)
    assert parse(TAG, split("m:3 reason=good owner=ann"))["tags"] == ("reason=good", "owner=ann")


def test_a_misspelled_one_gets_a_hint_and_not_forty_options() -> None:
    problem = refused("films epoch=1")
    assert "Did you mean 'epochs'?" in problem.what
    assert len(problem.next_step) < 130


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("films --epochs 1 --epochs 3", "--epochs is given twice"),
        ("films --background --no-background", "given twice"),
        ("films --data --epochs 3", "--data needs a value, and --epochs follows it"),
        ("films --epochs 0,5", "cannot be '0,5'"),
        ("films --epochs", "needs a value and the line ends"),
    ],
)
def test_a_line_that_contradicts_itself_is_refused(line: str, words: str) -> None:
    assert words in refused(line).what


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("--epochs 0,5", "write --epochs 0.5."),
        ("--epochs 3,", "write --epochs 3."),
        ("--batch 1,000", "write --batch 1000, or --batch 1.000."),
        ("--batch 1,000,000", "write --batch 1000000."),
        ("--epochs 50%", "write --epochs 0.5."),
        ("--epochs many", "change the value of --epochs."),
    ],
)
def test_a_number_that_is_written_otherwise_is_answered_with_its_form_here(line: str, step: str) -> None:
    assert refused(f"films {line}").next_step == step


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--batch 1_000", "batch", 1000),
        ("--batch 1e3", "batch", 1000),
        ("--epochs 3e−1", "epochs", 0.3),
        ("--batch −1", "batch", -1),
        ("--epochs=3", "epochs", 3.0),
        ("–epochs 3", "epochs", 3.0),
    ],
)
def test_a_number_has_several_forms_that_mean_one_thing(line: str, name: str, value: Any) -> None:
    assert parse(TRAIN, split(f"films {line}"))[name] == value


# ---- braces


def test_a_variable_that_is_not_there_is_named() -> None:
    problem = refused("{model} --epochs 1", namespace={})
    assert "there is no variable 'model'" in problem.what
    assert "'run'" in refused("films --data {run.data}", namespace={"films": 1}).what
    assert "could not" in refused("{run.nothing}", namespace={"run": 1}).what


def test_braces_in_a_quoted_text_are_told_and_stay() -> None:
    texts, notes = texts_of('m:3 "Dear {name}, {"')
    assert texts == ("Dear {name}, {",)
    assert "'name'" in notes[0]
    assert texts_of("m:3 '{\"a\": 1}'", a=1) == (('{"a": 1}',), [])


def test_the_command_line_has_no_variables_and_leaves_braces_alone() -> None:
    assert parse(TRAIN, ["{model}"])["model"] == "{model}"


# ---- Python


def called(*words: Any, **options: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return check_call(TRAIN, inspect.signature(train), words, options)


@pytest.mark.parametrize(
    ("words", "options", "what"),
    [
        (("films",), {"epoch": 1}, "sft.train has no option epoch. Did you mean 'epochs'?"),
        ((), {}, "missing a required argument: 'model'"),
        (("films", "more"), {}, "too many positional arguments"),
        (("films",), {"model": "x"}, "multiple values"),
        (("films",), {"epochs": "many"}, "--epochs cannot be 'many'"),
        (("films",), {"batch": 1.5}, "--batch cannot be '1.5'"),
        (("films",), {"method": "heda"}, "Did you mean 'head'?"),
        (("films",), {"background": "perhaps"}, "--background cannot be"),
        (("films",), {"epochs": None}, "--epochs cannot be 'None'"),
        (("films",), {"epochs": [1]}, "--epochs cannot be"),
    ],
)
def test_a_wrong_call_is_a_sentence(words: tuple[Any, ...], options: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        called(*words, **options)
    assert what in caught.value.what
    assert caught.value.next_step


def test_a_record_in_the_place_of_a_name_means_its_thing() -> None:
    def look(
        version: Annotated[str, "a version", Names("version")],
        *,
        data: Annotated[Any, "a dataset", Names("dataset"), FromNamespace()] = None,
        endpoint: Annotated[str | None, "an endpoint", Names("endpoint")] = None,
        note: Annotated[Any, "anything"] = None,
    ) -> None:
        """Look."""

    samples = {type(one): one for one in panel_samples.everything()}
    version, dataset, served = (samples[kind] for kind in (records.Version, records.Dataset, records.Endpoint))
    given = {"data": dataset, "endpoint": served, "note": version}
    words, options = check_call(read("look", look), inspect.signature(look), (version,), given)
    assert words == (version.ref,)
    assert options == {"data": dataset.ref, "endpoint": served.name, "note": version}
    frame = object()
    assert check_call(read("look", look), inspect.signature(look), ("a:1",), {"data": frame})[1]["data"] is frame


def test_a_right_call_gets_its_values_in_their_types() -> None:
    import numpy as np

    words, options = called("films", epochs=1, batch=np.int64(8), threads="auto", method=None, max_length=64.0)
    assert words == ("films",)
    assert options == {"epochs": 1.0, "batch": 8, "threads": "auto", "method": None, "max_length": 64}
    assert [type(options[name]) for name in ("epochs", "batch", "max_length")] == [float, int, int]
