"""A verb's typed signature is its interface: options, help and parsing for all three faces are read off it.

Positional parameters are positional words; keyword-only ones are `--flags`; `*words` takes the rest. A trailing
underscore is dropped (`from_` is `--from`). `Annotated` carries the rest:

    def finetune(model: Annotated[str, "the model to train", Names("model")], *,
                 epochs: Annotated[float, "passes over the data"] = 1.0) -> Version
"""

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Names:
    """Marks a parameter whose value names a thing, for completion: dataset, model, version, run, endpoint, file."""

    kind: str


@dataclass(frozen=True)
class FromNamespace:
    """Marks a parameter that may be given as the name of a notebook variable (a DataFrame, a list)."""


@dataclass(frozen=True)
class Sentence:
    """Marks a `*parameter` of texts: words without quotes that follow one another are one text."""


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
    sentence: bool = False

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

    def brief(self) -> str:
        """The usage line with what must be given alone: a verb may have forty options."""
        needed = [o.usage() for o in self.options if o.positional or o.required]
        return " ".join([magic_name(self.verb), *needed])

    @property
    def by_name(self) -> dict[str, Option]:
        """The keyword options by the name that Python code and a cell body give them: `max_length`, `from`."""
        return {o.flag[2:].replace("-", "_"): o for o in self.options if not o.positional}

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
        sentence=any(isinstance(e, Sentence) for e in extras),
    )
