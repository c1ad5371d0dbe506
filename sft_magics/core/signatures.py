"""A verb's typed signature is its interface: options, help and parsing for all three faces are read off it.

Positional parameters are positional words; keyword-only ones are `--flags`; `*words` takes the rest. A trailing
underscore is dropped (`from_` is `--from`). `Annotated` carries the rest:

    def finetune(model: Annotated[str, "the model to train", Names("model")], *,
                 epochs: Annotated[float, "passes over the data"] = 1.0) -> Version
"""

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sft_magics.core import errors


@dataclass(frozen=True)
class Names:
    """Marks a parameter whose value names a thing, for completion: dataset, model, version, run, endpoint, file."""

    kind: str


@dataclass(frozen=True)
class FromNamespace:
    """Marks a parameter that may be given as the name of a notebook variable (a DataFrame, a list)."""


class Text(str):
    """A word that stood in quotes: it is text, never an option, a comment or the name of a variable."""

    __slots__ = ()


@dataclass(frozen=True)
class Option:
    """One parameter as a face sees it."""

    parameter: str
    flag: str
    types: tuple[Any, ...]
    default: Any
    required: bool
    positional: bool
    many: bool
    help: str
    choices: tuple[str, ...]
    names: str
    namespace: bool

    @property
    def boolean(self) -> bool:
        """Whether it is a switch that takes no value."""
        return bool in self.types and str not in self.types

    def usage(self) -> str:
        """How it is written in a usage line."""
        if self.positional:
            word = self.parameter.rstrip("_").upper() + ("..." if self.many else "")
            return word if self.required and not self.many else f"[{word}]"
        written = self.switch if self.boolean else f"{self.flag} {self.value_word()}"
        return written if self.required else f"[{written}]"

    @property
    def switch(self) -> str:
        """How a switch is moved out of its default: `--flag`, or `--no-flag` where it is on."""
        return f"--no-{self.flag[2:]}" if self.default is True else self.flag

    def value_word(self) -> str:
        """What its value looks like: choices, or a word for its type."""
        numbers = [{int: "N", float: "X"}[t] for t in self.types if t in (int, float)]
        return "|".join([*self.choices, *numbers]) or (self.names or "value").upper()


@dataclass(frozen=True)
class Signature:
    """All options of one verb, with its summary and long help."""

    verb: str
    summary: str
    details: str
    options: tuple[Option, ...]

    @property
    def positional(self) -> tuple[Option, ...]:
        """The positional words, in order."""
        return tuple(o for o in self.options if o.positional)

    @property
    def flags(self) -> dict[str, Option]:
        """The keyword options by flag."""
        return {o.flag: o for o in self.options if not o.positional}

    def usage(self) -> str:
        """The usage line in the notebook's spelling."""
        return " ".join([magic_name(self.verb), *(o.usage() for o in self.options)])

    def help(self) -> str:
        """The whole help text: summary, usage, options with defaults, details."""
        lines = [self.summary, "", self.usage(), ""]
        for option in self.options:
            name = option.parameter.rstrip("_").upper() if option.positional else option.flag
            if not option.positional and not option.boolean:
                name += " " + option.value_word()
            lines.append(f"  {name:<28} {option.help}{_default(option)}")
        return "\n".join([*lines, *(["", self.details] if self.details else [])])


def _default(option: Option) -> str:
    if option.default is True:
        return f" (on; {option.switch} turns it off)"
    if option.default is None or option.default is False or option.default in ((), ""):
        return ""
    return f" (default {option.default})"


def magic_name(verb: str) -> str:
    """Return the magic of `verb`: `%sft_finetune`; the board is plain `%sft`."""
    return "%sft" if verb == "board" else f"%sft_{verb.removesuffix('_')}"


def read(verb: str, function: Callable[..., Any]) -> Signature:
    """Read the options off `function`."""
    hints = typing.get_type_hints(function, include_extras=True)
    doc = inspect.cleandoc(function.__doc__ or "").split("\n\n", 1)
    options = tuple(_option(p, hints[p.name]) for p in inspect.signature(function).parameters.values())
    return Signature(verb, " ".join(doc[0].split()), doc[1] if len(doc) > 1 else "", options)


def _option(parameter: inspect.Parameter, hint: Any) -> Option:
    extras: tuple[Any, ...] = ()
    if typing.get_origin(hint) is typing.Annotated:
        hint, *rest = typing.get_args(hint)
        extras = tuple(rest)
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    choices: list[str] = []
    kinds: list[Any] = []
    for member in members:
        if typing.get_origin(member) is Literal:
            choices += [str(c) for c in typing.get_args(member)]
        elif member is not type(None):
            kinds.append(member)
    many = parameter.kind is inspect.Parameter.VAR_POSITIONAL
    empty = parameter.default is inspect.Parameter.empty
    default = (() if many else None) if empty else parameter.default
    return Option(
        parameter=parameter.name,
        flag="--" + parameter.name.rstrip("_").replace("_", "-"),
        types=tuple(kinds),
        default=default,
        required=empty and not many,
        positional=many or parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD,
        many=many,
        help=next((e for e in extras if isinstance(e, str)), ""),
        choices=tuple(choices),
        names=next((e.kind for e in extras if isinstance(e, Names)), ""),
        namespace=any(isinstance(e, FromNamespace) for e in extras),
    )


def split(line: str) -> list[str]:
    r"""Split a line into words: quotes group, `#` at the beginning of a word ends the line.

    A word that begins with a quote comes back as `Text`. Backslashes are plain characters, so Windows paths pass
    through; only those right before the quote that would close the text count, in pairs: `\"` is a quote in the text,
    `\\"` a backslash and the end of it. Braces pass through untouched. Raises UsageProblem for a quote that is never
    closed.
    """
    words: list[str] = []
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
        elif line[position] == "#":
            break
        else:
            word, position = _word(line, position)
            words.append(word)
    return words


def _word(line: str, position: int) -> tuple[str, int]:
    start, parts = position, []
    while position < len(line) and not line[position].isspace():
        if line[position] in "\"'" and (position == start or line[position - 1] == "="):
            text, position = _quoted(line, position)
            parts.append(text)
        else:
            parts.append(line[position])
            position += 1
    word = "".join(parts)
    return (Text(word) if line[start] in "\"'" else word), position


def _quoted(line: str, start: int) -> tuple[str, int]:
    quote, position = line[start], start + 1
    parts: list[str] = []
    for found in re.finditer(rf"(\\*){quote}", line[position:]):
        slashes = found[1]
        parts += [line[position : start + 1 + found.start()], slashes[: len(slashes) // 2]]
        position = start + 1 + found.end()
        if len(slashes) % 2 == 0:
            return "".join(parts), position
        parts.append(quote)
    step = f"double the backslash before the closing {quote}: \\\\{quote}" if parts else f"add the closing {quote}."
    raise errors.UsageProblem(f"The quote {quote} that begins at {line[start : start + 20]!r} is never closed.", step)


def parse(
    signature: Signature,
    words: Sequence[str],
    namespace: Mapping[str, Any] | None = None,
    extra: Mapping[str, str] = {},
    given: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """Turn words into keyword arguments; the words of a `*parameter` come under its own name, as a tuple.

    `namespace` resolves parameters marked `FromNamespace`; `extra` are a face's own value flags (`-o`) and come back
    under the parameter name they map to; what is `given` otherwise (a cell body) is not asked for. Words after `--`
    are text, and so is every `Text`. Raises UsageProblem.
    """
    found: dict[str, Any] = {}
    rest: list[str] = []
    flags = signature.flags
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--" and not isinstance(word, Text):
            rest += queue
            break
        name, joined, value = word.partition("=")
        if _is_text(word, name):
            rest.append(word)
        elif name in extra:
            found[extra[name]] = value if joined else _value(queue, name)
        else:
            _flag(signature, flags, name, value if joined else None, queue, found, namespace)
    _positionals(signature, rest, found, namespace, given)
    _ask_for_missing(signature, {**given, **found})
    return found


def _is_text(word: str, name: str) -> bool:
    # A shell takes quotes away before we see the words; a blank before any "=" shows that there were some.
    return isinstance(word, Text) or not re.match(r"--|-[^\W\d]", name) or any(c.isspace() for c in name)


def _ask_for_missing(signature: Signature, known: Mapping[str, Any]) -> None:
    for option in signature.options:
        if option.required and option.parameter not in known:
            what = option.parameter.rstrip("_").upper() if option.positional else option.flag
            raise errors.UsageProblem(
                f"{magic_name(signature.verb)} needs {what}: {option.help}.", f"write {signature.usage()}"
            )


def _value(queue: list[str], name: str) -> str:
    if not queue:
        raise errors.UsageProblem(f"{name} needs a value and the line ends there.", f"write {name} VALUE.")
    return queue.pop(0)


def _flag(
    signature: Signature,
    flags: dict[str, Option],
    name: str,
    value: str | None,
    queue: list[str],
    found: dict[str, Any],
    namespace: Mapping[str, Any] | None,
) -> None:
    negated = name.startswith("--no-") and name not in flags
    option = flags.get("--" + name[5:] if negated else name)
    if option is None or (negated and not option.boolean):
        hint = errors.did_you_mean("--" + name[5:] if negated else name, flags)
        raise errors.UsageProblem(
            f"{magic_name(signature.verb)} has no option {name}.{hint}",
            f"type {magic_name(signature.verb)}? to see all; put a text that begins with a dash in quotes or after --.",
        )
    if option.boolean:
        if value is not None:
            raise errors.UsageProblem(f"{name} is a switch and takes no value.", f"write {name} alone.")
        found[option.parameter] = not negated
        return
    found[option.parameter] = convert(option, value if value is not None else _value(queue, name), namespace)


def _positionals(
    signature: Signature,
    rest: list[str],
    found: dict[str, Any],
    namespace: Mapping[str, Any] | None,
    given: Mapping[str, Any],
) -> None:
    for option in signature.positional:
        if option.many:
            if rest or option.parameter not in given:
                found[option.parameter] = tuple(convert(option, word, namespace) for word in rest)
            return
        if rest:
            found[option.parameter] = convert(option, rest.pop(0), namespace)
    if rest:
        raise errors.UsageProblem(
            f"{magic_name(signature.verb)} does not know what to do with '{rest[0]}'.",
            f"write {signature.usage()}, with quotes around words that belong together.",
        )


def convert(option: Option, word: Any, namespace: Mapping[str, Any] | None = None) -> Any:
    """Turn one word (or a TOML value) into the option's type; raises UsageProblem naming what is expected."""
    text = str(word).lower() if isinstance(word, bool) else str(word)
    if option.namespace and namespace is not None and not isinstance(word, Text) and text in namespace:
        return namespace[text]
    if text in option.choices:
        return text
    for kind in () if isinstance(word, list | dict) else option.types:
        try:
            return _as(kind, text)
        except ValueError:
            continue
    label = option.parameter.rstrip("_") if option.positional else option.flag
    expected = " or ".join([*option.choices, *(_WORDS[k] for k in option.types if k in _WORDS)]) or "one text"
    shown = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
    raise errors.UsageProblem(
        f"{label} cannot be '{shown}': it takes {expected}.{errors.did_you_mean(text, option.choices)}",
        f"change the value of {label}.",
    )


_LONGEST_SHOWN = 60
_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "yes or no"}


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
