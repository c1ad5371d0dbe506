import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_magics.core.errors import UsageProblem
from sft_magics.lifecycle.evaluation.metric_rules import PER_CLASS, WHOLE, Rule, parse

LABELS = ("negative", "positive", "a]b", "mixed feelings", "<b>")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("recall[negative] < 0.8", Rule("recall", "negative", "<", 0.8)),
        ("recall[negative]<.8", Rule("recall", "negative", "<", 0.8)),
        ("  accuracy   <=  1 ", Rule("accuracy", None, "<=", 1.0)),
        ("recall < 0.5", Rule("recall", None, "<", 0.5)),
        ("p95_ms > 1e3", Rule("p95_ms", None, ">", 1000.0)),
        ("drift>=-0.1", Rule("drift", None, ">=", -0.1)),
        ("share[a]b] > 0.5", Rule("share", "a]b", ">", 0.5)),
        ("f1[mixed feelings] < 0.5", Rule("f1", "mixed feelings", "<", 0.5)),
        ("precision[<b>] < 0.5", Rule("precision", "<b>", "<", 0.5)),
    ],
)
def test_the_grammar(text: str, rule: Rule) -> None:
    assert parse(text, LABELS) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a rule"),
        ("accuracy", "is not a rule"),
        ("accuracy = 0.8", "is not a rule"),
        ("accuracy < high", "is not a rule"),
        ("accuracy < 0.8; import os", "is not a rule"),
        ("__import__('os') < 1", "is not a rule"),
        ("accuracy < 0.8 < 0.9", "is not a rule"),
        ("acuracy < 0.8", "Did you mean 'accuracy'?"),
        ("Recall[negative] < 0.8", "Did you mean 'recall'?"),
        ("recall[negativ] < 0.8", "Did you mean 'negative'?"),
        ("recall[] < 0.8", "is not a rule"),
        ("accuracy[negative] < 0.8", "one number for all classes"),
        ("share > 0.5", "share is of a class"),
        ("accuracy < 1.2.3", "'1.2.3'"),
        ("accuracy < --1", "'--1'"),
        ("accuracy < 1e999", "'1e999'"),
        ("accuracy < nan", "is not a rule"),
    ],
)
def test_what_is_no_rule_gets_a_sentence(text: str, words: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse(text, LABELS)
    assert words in caught.value.what
    assert caught.value.next_step


def test_share_without_any_class_is_still_a_sentence() -> None:
    with pytest.raises(UsageProblem, match="share is of a class"):
        parse("share > 0.5", ())


@given(
    st.one_of(
        st.tuples(st.sampled_from(PER_CLASS), st.sampled_from(LABELS)),
        st.tuples(st.sampled_from(WHOLE), st.none()),
    ),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_rule_is_kept_as_text_and_read_again_unchanged(
    of: tuple[str, str | None], comparison: str, threshold: float
) -> None:
    rule = Rule(*of, comparison, threshold)
    assert parse(str(rule), LABELS) == rule


def test_a_rule_is_written_as_a_person_would() -> None:
    assert str(parse("recall[negative]<.8", LABELS)) == "recall[negative] < 0.8"
    assert str(parse("p95_ms > 1234567", LABELS)) == "p95_ms > 1234567"
    assert str(parse("requests > 100", LABELS)) == "requests > 100"


@pytest.mark.parametrize(
    ("text", "value", "state"),
    [
        ("accuracy < 0.8", 0.79, "firing"),
        ("accuracy < 0.8", 0.8, "ok"),
        ("accuracy <= 0.8", 0.8, "firing"),
        ("accuracy > 0.8", 0.8, "ok"),
        ("accuracy >= 0.8", 0.8, "firing"),
    ],
)
def test_a_rule_fires_when_it_is_true(text: str, value: float, state: str) -> None:
    assert parse(text, LABELS).state({"accuracy": value, "recall": 0.0}) == (state, value)


@pytest.mark.parametrize("numbers", [{}, {"accuracy": 0.1}, {"recall[negative]": math.nan}])
def test_without_a_number_there_is_no_data(numbers: dict[str, float]) -> None:
    assert parse("recall[negative] < 0.8", LABELS).state(numbers) == ("no data", None)
