"""Turns one word of a line, or one value of a cell body or of Python code, into the type that an option declares."""

import math
import re
from collections.abc import Mapping
from typing import Any

from sft_magics.core import errors
from sft_magics.core.lines import Text
from sft_magics.core.signatures import Option

_LONGEST_SHOWN = 60
_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "yes or no"}
_NUMBERS = frozenset({int, float})
_MINUS = re.compile(r"[‐‑‒–—−﹣－](?=\.?\d)")


def convert(option: Option, word: Any, namespace: Mapping[str, Any] | None = None) -> Any:
    """Turn one word (or a TOML value) into the option's type; raises UsageProblem naming what is expected."""
    text = str(word).lower() if isinstance(word, bool) else str(word)
    if option.namespace and namespace is not None and not isinstance(word, Text) and text in namespace:
        return namespace[text]
    if text in option.choices:
        return text
    for kind in () if isinstance(word, list | dict) else option.types:
        try:
            return _as(kind, _MINUS.sub("-", text) if kind in _NUMBERS else text)
        except ValueError:
            continue
    label = option.parameter.rstrip("_") if option.positional else option.flag
    expected = " or ".join([*option.choices, *(_WORDS[k] for k in option.types if k in _WORDS)]) or "one text"
    shown = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
    meant = _meant(option, text)
    raise errors.UsageProblem(
        f"{label} cannot be '{shown}': it takes {expected}.{errors.did_you_mean(text, option.choices)}",
        f"write {meant}." if meant else f"change the value of {label}.",
    )


def checked(option: Option, value: Any) -> Any:
    """Return a value that Python code gave for a number, a switch or a choice, in its type; others as they are.

    Raises UsageProblem for a value of another kind, as a line would.
    """
    typed = option.types or option.choices
    known = all(kind in _WORDS for kind in option.types)
    if option.many or not typed or not known or (value is None and option.default is None):
        return value
    if type(value) in option.types:  # whether it can work is the verb's own rule
        return value
    return convert(option, value)


def _as(kind: Any, word: str) -> Any:
    if kind is bool:
        if word.lower() in ("true", "yes", "false", "no"):
            return word.lower() in ("true", "yes")
        raise ValueError(word)
    if kind is int:
        return _whole(word)
    if kind is float:
        if not math.isfinite(float(word)):
            raise ValueError(word)
        return float(word)
    return word


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        # TOML and pandas like to say 32.0; what is no whole number is not rounded in silence.
        if float(word).is_integer():
            return int(float(word))
        raise


def _meant(option: Option, text: str) -> str:
    """Return how a number that people write otherwise is written here, or nothing where it could mean two things."""
    if not _NUMBERS & set(option.types):
        return ""
    written = f"{option.flag} " if not option.positional else ""
    if found := re.fullmatch(r"(-?\d+(?:[.,]\d+)?)\s*%", text):
        return f"{written}{float(found[1].replace(',', '.')) / 100:g}"
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+", text):
        whole, point = text.replace(",", ""), text.replace(",", ".", 1)
        return f"{written}{whole}, or {written}{point}" if text.count(",") == 1 else f"{written}{whole}"
    if re.fullmatch(r"-?\d+,\d*", text):
        return f"{written}{text.rstrip(',').replace(',', '.')}"
    return ""
