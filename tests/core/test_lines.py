from pathlib import Path

import pytest

from sft_magics.core.errors import UsageProblem
from sft_magics.core.lines import Text, from_shell, split


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x “a moving film”", ["x", "a moving film"]),
        ("x ”a moving film”", ["x", "a moving film"]),
        ("x „a moving film“ y", ["x", "a moving film", "y"]),
        ("x «a moving film»", ["x", "a moving film"]),
        ("x »a moving film«", ["x", "a moving film"]),
        ("x ‹a film›", ["x", "a film"]),
        ("x ‘it’s a film’", ["x", "it’s a film"]),
        ("x 「映画 です」", ["x", "映画 です"]),
        ("x “she said “no” to it” y", ["x", "she said “no” to it", "y"]),
        ("--gate=“f1 >= 0.9”", ["--gate=f1 >= 0.9"]),
        ('x "a “film” here"', ["x", "a “film” here"]),
        ("it’s a “film”", ["it’s", "a", "film"]),
        ("–epochs 3", ["--epochs", "3"]),
        ("–-epochs 3", ["--epochs", "3"]),
        ("—epochs=3", ["--epochs=3"]),
        ("–o answers", ["-o", "answers"]),
        ("films — great", ["films", "—", "great"]),
        ("films:1\u00a0--epochs\u00a03", ["films:1", "--epochs", "3"]),
        ("\u200bfilms\u200b --epochs\ufeff 3", ["films", "--epochs", "3"]),
        ("films --epochs 3 # a remark", ["films", "--epochs", "3"]),
        ('"–epochs"', ["–epochs"]),
    ],
)
def test_what_a_word_processor_makes_of_a_line_is_read_as_it_was_meant(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_a_text_in_typographic_quotes_is_a_text() -> None:
    assert [type(word) for word in split("x “--epochs” «a»")] == [str, Text, Text]


@pytest.mark.parametrize("line", ["x “a film", 'x “a film"', "x «a", "x ‘tis so"])
def test_a_typographic_quote_that_is_never_closed_is_named(line: str) -> None:
    with pytest.raises(UsageProblem, match="never closed") as caught:
        split(line)
    assert "straight quotes" in caught.value.next_step


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["x", "“my", "parcel”", "y"], ["x", "my parcel", "y"]),
        (["x", "“my parcel”"], ["x", "“my parcel”"]),
        (["x", "“word”"], ["x", "word"]),
        (["x", "“open", "y"], ["x", "“open", "y"]),
        (["x", "–epochs", "3"], ["x", "--epochs", "3"]),
        (["x", "--", "–epochs", "“a"], ["x", "--", "–epochs", "“a"]),
        (["x", "a – b"], ["x", "a – b"]),
    ],
)
def test_a_shell_knows_neither_typographic_quotes_nor_dashes(words: list[str], read: list[str]) -> None:
    assert from_shell(words) == read


def test_a_windows_path_passes_through(tmp_path: Path) -> None:
    assert split(r"x C:\films\new.csv --to \\host\share\a.csv") == [
        "x",
        r"C:\films\new.csv",
        "--to",
        r"\\host\share\a.csv",
    ]
