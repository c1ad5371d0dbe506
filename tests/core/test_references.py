import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_magics.core.errors import UsageProblem
from sft_magics.core.references import Reference, check_name, checkpoint, dataset, parse

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", fullmatch=True).filter(
    lambda n: not n.startswith(("run-", "job-"))
)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("pets", Reference("pets")),
        ("pets:3", Reference("pets", number=3)),
        ("pets:03", Reference("pets", number=3)),
        ("pets@live", Reference("pets", alias="live")),
        (" pets@live ", Reference("pets", alias="live")),
        ("run-7f3a", Reference(run="run-7f3a")),
        ("run-7f3a55", Reference(run="run-7f3a55")),
        ("3", Reference("3")),
        ("a.b_c-d:12", Reference("a.b_c-d", number=12)),
    ],
)
def test_the_grammar(text: str, reference: Reference) -> None:
    assert parse(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ":",
        "pets:",
        "pets:0",
        "pets:-1",
        "pets:1.5",
        "pets:one",
        "pets:٣",
        "pets:" + "9" * 5000,
        "pets@",
        "@live",
        ":3",
        "pets@live@old",
        "pets:3@live",
        "../pets",
        "a/b",
        "a b",
        ".pets",
        "pets\n",
        "a\nb",
        "run-7F3A",
        "run-x",
        "run-7f3a:1",
        "job-12",
        "x" * 101,
        "ünï",
        "a\0b",
    ],
)
def test_what_is_no_reference_gets_a_sentence_and_a_way_out(text: str) -> None:
    if text == "pets\n":
        assert parse(text) == Reference("pets")  # blanks around it are nobody's fault
        return
    with pytest.raises(UsageProblem) as caught:
        parse(text)
    assert len(str(caught.value)) < 600
    assert caught.value.next_step


@given(NAMES, st.one_of(st.none(), st.integers(1, 10**6), NAMES))
def test_a_reference_is_written_as_it_is_read(name: str, tail: int | str | None) -> None:
    text = name if tail is None else f"{name}:{tail}" if isinstance(tail, int) else f"{name}@{tail}"
    assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)


@given(st.text())
def test_any_text_is_a_reference_or_a_sentence(text: str) -> None:
    said = ""
    try:
        parse(text)
    except UsageProblem as problem:
        said = str(problem)
    assert len(said.splitlines()) in (0, 2)


@given(st.text())
def test_a_refused_name_comes_with_one_that_will_do(text: str) -> None:
    try:
        assert check_name(text, "dataset") == text
    except UsageProblem as problem:
        suggested = problem.next_step.removeprefix("choose a name such as ").removesuffix(".")
        assert check_name(suggested, "dataset") == suggested


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("run-7f3a", ("run-7f3a", "")), (" run-7f3a/120 ", ("run-7f3a", "120")), ("run-7f3a/0120", ("run-7f3a", "120")),
        ("run-7f3a/best", ("run-7f3a", "best")), ("run-7f3a/newest", ("run-7f3a", "newest")),
    ],
)  # fmt: skip
def test_the_weights_of_a_run_are_named(text: str, found: tuple[str, str]) -> None:
    assert checkpoint(text) == found


@pytest.mark.parametrize(
    "text", ["run-7f3a/", "run-7f3a/x", "run-7f3a/-1", "run-7f3a//3", "pets", "pets:3", "run-z/1", ""]
)
def test_what_names_no_weights_gets_a_sentence(text: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        checkpoint(text)
    assert caught.value.next_step


def test_what_looks_like_a_run_is_answered_as_a_run() -> None:
    with pytest.raises(UsageProblem, match="'run-zzz' is not a run") as caught:
        parse("run-zzz")
    assert "%sft_runs" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("pets", Reference("pets")),
        (" pets:2 ", Reference("pets", number=2)),
        ("a-feedback:12", Reference("a-feedback", number=12)),
    ],
)
def test_a_dataset_and_its_versions(text: str, reference: Reference) -> None:
    assert dataset(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "pets:",
        "pets:0",
        "pets:one",
        "pets@live",
        "run-7f3a",
        "sample",
        "hub",
        "feedback",
        "sample:reviews",
        "a/b",
    ],
)
def test_what_names_no_dataset(text: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        dataset(text)
    assert caught.value.next_step


def test_reserved_names_are_free_for_models() -> None:
    assert check_name("feedback", "model") == "feedback"
    with pytest.raises(UsageProblem, match="reserved") as caught:
        check_name("feedback", "dataset")
    assert "my-feedback" in caught.value.next_step
