"""Python code is told calls to type next, not magics."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.python_words import PROSE

# What messages write behind a magic that is an argument, though in small letters.
_ARGUMENTS = {"all", "interrupted", "live", "minilm", "reviews"}

_CALLS: list[Callable[..., Any]] = [
    sft.finetune, sft.versions, sft.show, sft.evaluate, sft.deploy, sft.plan, sft.retrain, sft.lr, sft.errors_,
    sft.export, sft.stop, sft.resume, sft.monitor,
]  # fmt: skip


@pytest.mark.parametrize("verb", _CALLS, ids=lambda verb: verb.__name__)
def test_a_name_that_is_not_known_is_answered_with_a_call(verb: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(errors.SftError) as caught:
        verb("nobody", workspace=str(tmp_path))
    shown = str(caught.value) + "".join(caught.value._render_traceback_())
    assert "%sft" not in shown
    assert "sft." in shown or "sft" not in caught.value.next_step


def test_a_wrong_call_is_answered_with_a_call() -> None:
    with pytest.raises(errors.UsageProblem) as caught:
        sft.finetune("films", epochs="many")
    assert "%sft" not in str(caught.value)


def _texts(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "X9" for v in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
            found.append(node.value)
    return found


def test_every_word_with_which_a_message_goes_on_behind_a_line_is_known_as_prose() -> None:
    strange = set()
    for path in Path(sft.__file__).parent.rglob("*.py"):
        for text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
            for line in re.finditer(r"%sft(?:_\w+)?((?: [^\s%]+)*)", text):
                for word in line[1].split():
                    bare = word.rstrip(",;:.)")
                    if bare in PROSE or bare != word:
                        break
                    if re.fullmatch("[a-z]+", bare) and bare not in _ARGUMENTS:
                        strange.add((bare, text))
    assert not strange
