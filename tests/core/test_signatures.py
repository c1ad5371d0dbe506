import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_magics.core import signatures
from sft_magics.core.arguments import parse
from sft_magics.core.errors import UsageProblem
from sft_magics.core.lines import split
from sft_magics.core.signatures import FromNamespace, Names, Sentence, Signature, read
from sft_magics.core.values import convert


def train(
    model: Annotated[str, "the model to train", Names("model")],
    *,
    data: Annotated[str, "the dataset", Names("dataset")] = "own",
    epochs: Annotated[float, "passes over the data"] = 1.0,
    batch: Annotated[int, "rows a step"] = 32,
    seed: Annotated[int, "order of rows"] = 0,
    threads: Annotated[int | Literal["auto"], "CPU threads"] = "auto",
    precision: Annotated[Literal["auto", "bf16", "fp32"], "number format"] = "auto",
    hours: Annotated[float | None, "only so many hours"] = None,
    dropout: Annotated[bool, "the base's own dropout"] = True,
    background: Annotated[bool, "return at once"] = False,
    from_: Annotated[str | None, "a version to start from", Names("version")] = None,
    workspace: Annotated[str | Path | None, "the folder"] = None,
) -> None:
    """Train a model on
    its data.

    The details are here.
    """


def ask(
    version: Annotated[str, "a version"],
    *texts: Annotated[Any, "texts", FromNamespace(), Sentence()],
    data: Annotated[Any, "a table", FromNamespace()] = None,
    endpoint: Annotated[bool, "ask the endpoint"] = False,
) -> None:
    """Ask a version."""


def make(name: Annotated[str, "the name"], *, data: Annotated[str, "the dataset it is for"]) -> None:
    """Make a model."""


TRAIN, ASK, MAKE = read("train", train), read("ask", ask), read("make", make)


def option(name: str, signature: Signature = TRAIN) -> signatures.Option:
    return next(o for o in signature.options if o.parameter == name)


def options_of(line: str, signature: Signature = TRAIN, **more: Any) -> dict[str, Any]:
    return parse(signature, split(line), **more)


def problem_of(line: str, signature: Signature = TRAIN, **more: Any) -> UsageProblem:
    with pytest.raises(UsageProblem) as caught:
        options_of(line, signature, **more)
    return caught.value


# ---- the words of a line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   \t ", []),
        ("reviews --epochs 3", ["reviews", "--epochs", "3"]),
        ('reviews:1 "a moving, funny film"', ["reviews:1", "a moving, funny film"]),
        ("reviews:1 'a \"great\" film'", ["reviews:1", 'a "great" film']),
        ('"she said \\"no\\""', ['she said "no"']),
        (r"--data C:\films\new.csv", ["--data", r"C:\films\new.csv"]),
        (r'"C:\my films\new.csv"', [r"C:\my films\new.csv"]),
        (r'"C:\my films\\" next', ["C:\\my films\\", "next"]),
        ("it's fine", ["it's", "fine"]),
        ("5\" o'clock", ['5"', "o'clock"]),
        ("{run.id} {{x}} $HOME", ["{run.id}", "{{x}}", "$HOME"]),
        ("--lr=3e-5", ["--lr=3e-5"]),
        ('--data="my films.csv"', ["--data=my films.csv"]),
        ("--reason='it''s'", ["--reason=it's'"]),
        ("reviews # the rest is said to the reader", ["reviews"]),
        ("# nothing but words", []),
        ("a#b --x=#3", ["a#b", "--x=#3"]),
        ('"#1 film"', ["#1 film"]),
        ('"" x', ["", "x"]),
        ("-1 -5e-5", ["-1", "-5e-5"]),
        ("größe 映画 🎬", ["größe", "映画", "🎬"]),
        ("a\u00a0b\nc", ["a", "b", "c"]),
    ],
)
def test_a_line_is_split_into_the_words_a_person_sees(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("line", ['reviews "a film', "'tis great", '--data="x', r'"C:\films\"'])
def test_a_quote_that_is_never_closed_is_named_with_its_place(line: str) -> None:
    with pytest.raises(UsageProblem, match="never closed") as caught:
        split(line)
    assert line[max(line.find('"'), line.find("'")) :][:5] in caught.value.what or "films" in caught.value.what


def test_a_backslash_before_the_last_quote_is_explained() -> None:
    with pytest.raises(UsageProblem) as caught:
        split(r'"C:\films\"')
    assert r"\\" in caught.value.next_step


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def quote(text: str, mark: str) -> str:
    """Write a text as the reader's rule says: backslashes that stand before a quote are doubled."""
    written, run = "", 0
    for character in text:
        if character == mark:
            written += "\\" * (run + 1)
        written += character
        run = run + 1 if character == "\\" else 0
    return mark + written + "\\" * run + mark


@given(st.lists(TEXTS, max_size=5), st.sampled_from("\"'"))
def test_every_text_can_be_written_in_quotes_and_comes_back(texts: list[str], mark: str) -> None:
    assert split("  ".join(quote(t, mark) for t in texts)) == texts


TYPOGRAPHIC = "“”„‟〝〞‘’‚‛«»‹›「」『』‐‑‒–—―−﹣－\u200b\u2060\ufeff"


@given(
    st.text(
        st.characters(exclude_categories=["Cs", "Z", "Cc"], exclude_characters="\"'#" + TYPOGRAPHIC),
        min_size=1,
        max_size=20,
    )
)
def test_a_word_without_quotes_is_itself(word: str) -> None:
    assert split(f" {word} ") == [word]


@given(TEXTS)
def test_no_line_does_worse_than_a_sentence(line: str) -> None:
    said = "never closed"
    try:
        split(line)
    except UsageProblem as problem:
        said = problem.what
    assert "never closed" in said


@given(TEXTS)
def test_a_quoted_text_is_the_text_whatever_it_begins_with(text: str) -> None:
    assert options_of("reviews:1 " + quote(text, '"'), ASK)["texts"] == (text,)


@given(TEXTS)
def test_a_quoted_value_of_an_option_is_taken_as_it_is(text: str) -> None:
    assert options_of("films --from " + quote(text, "'"))["from_"] == text
    assert options_of("films --from=" + quote(text, "'"))["from_"] == text


# ---- words to keyword arguments


def test_words_flags_switches_and_underscores() -> None:
    found = options_of("films --epochs 3 --batch=8 --background --no-dropout --from films:2 --threads 2")
    assert found == {
        "model": "films",
        "epochs": 3.0,
        "batch": 8,
        "background": True,
        "dropout": False,
        "from_": "films:2",
        "threads": 2,
    }
    assert type(found["epochs"]) is float
    assert type(found["batch"]) is int


def test_a_negative_number_is_a_value() -> None:
    assert options_of("films --seed -1 --hours -2.5") == {"model": "films", "seed": -1, "hours": -2.5}
    for text in ("-1", "-5e-5", "-.5"):
        assert options_of(f"reviews:1 {text}", ASK)["texts"] == (text,)


@pytest.mark.parametrize("text", ["--great", "--x=y", "-o", "-x", "--", "#1", "a=b", "--endpoint", "--data=x"])
def test_a_quoted_word_is_text_even_where_it_looks_like_an_option(text: str) -> None:
    assert options_of(f'reviews:1 "{text}"', ASK, extra={"-o": "into"}) == {"version": "reviews:1", "texts": (text,)}


def test_a_plain_word_with_an_equals_sign_is_a_word() -> None:
    assert options_of("reviews:1 a=b -o=answers", ASK, extra={"-o": "into"}) == {
        "version": "reviews:1",
        "texts": ("a=b",),
        "into": "answers",
    }


def test_two_dashes_end_the_options() -> None:
    assert options_of("reviews:1 --endpoint -- --great -o", ASK, extra={"-o": "into"}) == {
        "version": "reviews:1",
        "endpoint": True,
        "texts": ("--great", "-o"),
    }


def test_an_unquoted_dash_word_is_not_silently_predicted_as_a_text() -> None:
    problem = problem_of("reviews:1 -O answers", ASK, extra={"-o": "into"})
    assert "no option -O" in problem.what
    assert "quotes" in problem.next_step


def test_a_sentence_that_a_shell_unquoted_is_still_a_text() -> None:
    # A shell takes the quotes away before we see the words; blanks before any "=" show that there were some.
    assert parse(ASK, ["reviews:1", "--great film, it = fun"])["texts"] == ("--great film, it = fun",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("films --epoch 3", ["no option --epoch", "'--epochs'"]),
        ("films --no-epochs", ["no option --no-epochs"]),
        ("films --no-backgroun", ["no option --no-backgroun", "--background"]),
        ("films --background=yes", ["--background is a switch"]),
        ("films --epochs", ["--epochs needs a value"]),
        ("films other", ["does not know what to do with 'other'"]),
        ("", ["needs MODEL", "the model to train"]),
        ("films --precision bf15", ["--precision", "'bf15'", "auto or bf16 or fp32", "Did you mean 'bf16'?"]),
        ("films --batch many", ["--batch", "'many'", "a whole number"]),
        ("films --batch 1.5", ["--batch", "'1.5'", "a whole number"]),
        ("films --threads some", ["--threads", "auto or a whole number"]),
        ("films --epochs ''", ["--epochs", "''", "a number"]),
        ("films --epochs nan", ["--epochs", "'nan'", "a number"]),
        ("films --epochs 1e400", ["--epochs", "'1e400'", "a number"]),
        ("films --epochs -inf", ["--epochs", "'-inf'", "a number"]),
        ("films --batch 1e400", ["--batch", "'1e400'", "a whole number"]),
        ("films --batch " + "9" * 5000, ["--batch", "a whole number"]),
    ],
)
def test_a_wrong_line_gets_a_sentence(line: str, words: list[str]) -> None:
    problem = problem_of(line)
    assert [w for w in words if w not in problem.what] == []
    assert problem.next_step


def test_a_required_option_that_is_missing_is_asked_for() -> None:
    problem = problem_of("films", MAKE)
    assert "%sft_make needs --data: the dataset it is for" in problem.what
    assert "%sft_make NAME --data" in problem.next_step


def test_what_a_cell_body_gave_is_not_asked_for_again() -> None:
    assert parse(MAKE, [], given={"name": "films", "data": "x"}) == {}
    assert parse(MAKE, ["films"], given={"data": "x"}) == {"name": "films"}


def test_a_word_names_a_variable_only_without_quotes_and_only_where_allowed() -> None:
    frame, namespace = object(), {"answers": 1, "films": 2}
    namespace["answers"] = frame  # type: ignore[assignment]
    assert options_of("films answers --data answers", ASK, namespace=namespace) == {
        "version": "films",
        "texts": (frame,),
        "data": frame,
    }
    assert options_of('films "answers" --data "answers"', ASK, namespace=namespace) == {
        "version": "films",
        "texts": ("answers",),
        "data": "answers",
    }
    assert options_of("answers", ASK, namespace=namespace)["version"] == "answers"


def test_the_face_takes_its_own_flags() -> None:
    extra = {"-o": "into", "--output": "into"}
    assert options_of("films -o first", extra=extra) == {"model": "films", "into": "first"}
    assert options_of("films --output=first", extra=extra) == {"model": "films", "into": "first"}
    assert "-o needs a value" in problem_of("films -o", extra=extra).what


# ---- values


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("batch", "8", 8),
        ("batch", "8.0", 8),
        ("batch", 8.0, 8),
        ("batch", 8, 8),
        ("epochs", 3, 3.0),
        ("epochs", "3e-5", 3e-5),
        ("threads", "auto", "auto"),
        ("threads", 4, 4),
        ("precision", "fp32", "fp32"),
        ("background", True, True),
        ("background", False, False),
        ("background", "yes", True),
        ("background", "No", False),
        ("hours", "1.5", 1.5),
        ("model", 3, "3"),
        ("model", "", ""),
    ],
)
def test_a_value_is_turned_into_the_type_that_is_declared(name: str, word: Any, value: Any) -> None:
    got = convert(option(name), word)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("batch", True),
        ("batch", 1.5),
        ("epochs", True),
        ("epochs", math.nan),
        ("epochs", math.inf),
        ("epochs", "infinity"),
        ("background", "perhaps"),
        ("background", 2),
        ("precision", True),
        ("hours", "none"),
        ("model", ["a", "b"]),
        ("model", {"a": 1}),
    ],
)
def test_a_value_of_another_kind_is_refused_with_a_sentence(name: str, word: Any) -> None:
    with pytest.raises(UsageProblem, match="cannot be"):
        convert(option(name), word)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_survives_the_line(number: float) -> None:
    assert options_of(f"films --hours {number!r}")["hours"] == number


@given(st.integers())
def test_every_whole_number_survives_the_line(number: int) -> None:
    assert options_of(f"films --seed {number}")["seed"] == number


# ---- what a signature says of itself


def test_summary_usage_and_help() -> None:
    assert TRAIN.summary == "Train a model on its data."
    assert TRAIN.details == "The details are here."
    usage = TRAIN.usage()
    for part in ("%sft_train MODEL", "[--epochs X]", "[--batch N]", "[--threads auto|N]", "[--from VERSION]"):
        assert part in usage
    assert "[--no-dropout]" in usage
    assert ASK.usage() == "%sft_ask VERSION [TEXTS...] [--data VALUE] [--endpoint]"
    assert MAKE.usage() == "%sft_make NAME --data VALUE"
    text = TRAIN.help()
    assert "passes over the data (default 1.0)" in text
    assert "order of rows (default 0)" in text
    assert "(default None)" not in text
    assert "(default False)" not in text
    assert "--no-dropout" in text
    assert text.endswith("The details are here.")


def test_the_board_is_the_plain_magic() -> None:
    assert signatures.magic_name("board") == "%sft"
    assert signatures.magic_name("finetune") == "%sft_finetune"
