"""Which column holds the text, the label and the split: as the user says, else by its name, else by its content.

A guess that could go two ways is not made: the error names the candidates and the flags to add.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_magics.core import errors
from sft_magics.datasets.tables.table import Columns

TEXT_NAMES = (
    "text", "sentence", "review", "content", "body", "comment", "message", "document", "tweet", "snippet", "utterance",
    "description", "headline", "phrase", "post", "question", "query", "title", "summary", "sms", "email", "input",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "sentiment", "class", "target", "category", "y", "stars", "rating", "polarity", "intent",
    "topic", "emotion", "verdict", "tag", "score", "answer", "output",
)  # fmt: skip
SPLIT_NAMES = ("split", "partition", "subset", "fold", "set")
SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "eval": "validation", "test": "test", "testing": "test",
}  # fmt: skip
NO_SPLIT = "none"
_LONG_TEXT = 15
_SAMPLE = 2000
_MOST_CLASSES = 50


@dataclass(frozen=True)
class Roles:
    """The names of the columns that are used; `split` is None where there is none."""

    text: str
    label: str
    split: str | None

    def as_dict(self) -> dict[str, str]:
        """Return role -> column name."""
        pairs = {"text": self.text, "label": self.label, "split": self.split}
        return {role: name for role, name in pairs.items() if name is not None}


def assign(table: Columns, text: str | None, label: str | None, split: str | None) -> Roles:
    """Find the three columns, `text`, `label` and `split` being what the user said; raises DataProblem."""
    for flag, name in (("text", text), ("label", label), ("split", split)):
        check_exists(table, flag, None if (flag, name) == ("split", NO_SPLIT) else name)
    if text is None and label is None:
        _check_header(table)
    split_found = split_column(table, split)
    taken = {name for name in (text, label, split_found) if name is not None}
    text_found = text or find_text(table, taken, label)
    label_found = label or find_label(table, taken | {text_found}, text)
    if text_found == label_found:
        raise errors.DataProblem(
            f"The text and the label cannot both be the column '{text_found}'.", "name two columns: --text A --label B."
        )
    return Roles(text_found, label_found, split_found)


def check_exists(table: Columns, flag: str, name: str | None, next_step: str = "") -> None:
    """Refuse a column that was named (to the option `flag`) and is not there."""
    if name is not None and name not in table.values:
        hint = errors.did_you_mean(name, table.values)
        raise errors.DataProblem(
            f"{table.where} has no column '{name}'.{hint} It has: {_listed(list(table.values))}.",
            next_step or f"give one of these to --{flag}.",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else f'"{name}"'


def _check_header(table: Columns) -> None:
    """Refuse a file whose first line is a row: none of its names is usual, and one is a value of its own column."""
    usual = {*TEXT_NAMES, *LABEL_NAMES, *SPLIT_NAMES, "id"}
    if not table.headed or any(name.lower() in usual for name in table.values):
        return
    if any(name in (str(v).strip() for v in values[:_SAMPLE]) for name, values in table.values.items()):
        raise errors.DataProblem(
            f"The first line of {table.where} looks like data, not column names: {', '.join(table.values)[:80]}.",
            "put a line such as text,label on top of the file, then type the line again.",
        )


# Which columns look the part


def _named(table: Columns, names: Sequence[str], taken: set[str]) -> list[str]:
    """Return the columns whose name is one of `names`; the first of `names`, if it is there, settles it."""
    found = [name for name in table.values if name not in taken and name.lower() in names]
    first = [name for name in found if name.lower() == names[0]]
    return first or found


def _sample(values: list[Any]) -> list[Any]:
    return [v for v in values[:_SAMPLE] if v is not None]


def _is_long_text(values: list[Any]) -> bool:
    known = _sample(values)
    if not known or not all(isinstance(v, str) for v in known):
        return False
    long = sum(map(len, known)) / len(known) >= _LONG_TEXT
    return long and len(set(known)) > len(known) / 2


def _is_classes(values: list[Any]) -> bool:
    known = [str(v) for v in values if v is not None]
    return 2 <= len(set(known)) <= max(2, min(_MOST_CLASSES, len(known) // 5))


def find_text(table: Columns, taken: set[str], label: str | None = None) -> str:
    """Return the column of texts; raises DataProblem when there is none or more than one that could be it."""
    found = _named(table, TEXT_NAMES, taken)
    long = [name for name in found if _is_long_text(table.values[name])]
    found = long or found
    if not found:
        free = [name for name in table.values if name not in taken]
        found = [name for name in free if _is_long_text(table.values[name])]
        if not found and len(free) == 1 and all(isinstance(v, str) for v in _sample(table.values[free[0]])):
            found = free
    return _only(table, found, "text", f" --label {_quoted(label)}" if label else "")


def find_label(table: Columns, taken: set[str], text: str | None = None) -> str:
    """Return the column of labels; raises DataProblem when there is none or more than one that could be it."""
    found = _named(table, LABEL_NAMES, taken)
    if not found:
        found = [name for name, values in table.values.items() if name not in taken and _is_classes(values)]
    return _only(table, found, "label", f" --text {_quoted(text)}" if text else "")


def _only(table: Columns, found: list[str], role: str, also: str) -> str:
    if len(found) == 1:
        return found[0]
    if found:
        others = " (or " + ", ".join(f"--{role} {_quoted(name)}" for name in found[1:6]) + ")"
        raise errors.DataProblem(
            f"{table.where} has several columns that could be the {role}: {_listed(found)}.",
            f"add{also} --{role} {_quoted(found[0])}{others}.",
        )
    raise errors.DataProblem(
        f"{table.where} has no column that looks like the {role}; it has: {_listed(list(table.values))}.",
        f"name it: add{also} --{role} COLUMN.",
    )


# Splits


def split_column(table: Columns, split: str | None) -> str | None:
    """Return the split column; one that was not asked for counts only if it holds nothing but names of splits."""
    if split == NO_SPLIT:
        return None
    if split is None:
        for name in _named(table, SPLIT_NAMES, set()):
            if _unknown_split(table.values[name]) is None and any(v is not None for v in table.values[name]):
                return name
        return None
    unknown = _unknown_split(table.values[split])
    if unknown is not None:
        raise errors.DataProblem(
            f"The split column '{split}' of {table.where} holds '{unknown}', which is not train, validation or test.",
            "rename its values to train, validation and test, or leave --split out for a split of ours.",
        )
    return split


def _unknown_split(values: list[Any]) -> Any:
    for value in dict.fromkeys(str(v) for v in values if v is not None):
        if value.strip().lower() not in SPLITS:
            return value
    return None
