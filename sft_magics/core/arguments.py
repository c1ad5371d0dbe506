"""Turns the words of a line, or the arguments of a Python call, into keyword arguments of a verb."""

import builtins
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_magics.core import errors, values
from sft_magics.core.lines import Text
from sft_magics.core.records.documents import reference
from sft_magics.core.records.stored import Endpoint
from sft_magics.core.records.tabular import Tabular
from sft_magics.core.signatures import Option, Signature, magic_name

_BRACES = re.compile(r"\{([A-Za-z_]\w*)[\w.\[\]'\"()]*\}")
_FILE = re.compile(r".+\.(png|jpe?g|bmp|gif|webp|tiff?|p[pgb]m|csv|tsv|jsonl?|parquet|txt)", re.IGNORECASE)
_LONGEST_SHOWN = 80
_FOUND_MISSING = object()


def parse(
    signature: Signature,
    words: Sequence[str],
    namespace: Mapping[str, Any] | None = None,
    extra: Mapping[str, str] = {},
    given: Mapping[str, Any] = {},
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Turn words into keyword arguments; the words of a `*parameter` come under its own name, as a tuple.

    `namespace` resolves parameters marked `FromNamespace`; `extra` are a face's own value flags (`-o`) and come back
    under the parameter name they map to; what is `given` otherwise (a cell body) is not asked for. Words after `--`
    are text, and so is every `Text`. Of a `*parameter` marked `Sentence` words that follow one another without quotes
    are one text, which `say` is told in a sentence. Raises UsageProblem.
    """
    return _Reader(signature, namespace, extra, given, say).read(list(words))


class _Reader:
    """Reads the words of one line."""

    def __init__(
        self,
        signature: Signature,
        namespace: Mapping[str, Any] | None,
        extra: Mapping[str, str],
        given: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._signature, self._namespace, self._extra = signature, namespace, extra
        self._given, self._say = given, say
        self._flags = signature.flags
        self._found: dict[str, Any] = {}
        self._name = magic_name(signature.verb)

    def read(self, queue: list[str]) -> dict[str, Any]:
        """Return the keyword arguments."""
        self._check_braces(queue)
        rest: list[str] = []
        apart: list[str] = []
        while queue:
            word = queue.pop(0)
            if word == "--" and not isinstance(word, Text):
                apart = queue
                break
            name, joined, value = word.partition("=")
            if _is_text(word, name):
                self._check_named(word, queue)
                rest.append(word)
            elif name in self._extra:
                self._put(self._extra[name], name, value if joined else self._value(queue, name))
            else:
                self._flag(name, value if joined else None, queue)
        self._positionals(rest, apart)
        self._ask_for_missing()
        return self._found

    def _put(self, parameter: str, name: str, value: Any) -> None:
        if parameter in self._found:
            raise errors.UsageProblem(f"{name} is given twice.", f"leave one {name} out.")
        self._found[parameter] = value

    def _check_braces(self, words: list[str]) -> None:
        """Refuse a `{name}` that the notebook left as it was, since it fills in a line only as a whole.

        In quotes it may be meant, so there it is only told.
        """
        if self._namespace is None:
            return
        left = [(word, found[1]) for word in words for found in _BRACES.finditer(word)]
        gone = [(w, root) for w, root in left if root not in self._namespace and not hasattr(builtins, root)]
        for word, root in gone or left:
            missing = f"there is no variable '{root}'" if gone else "the notebook could not fill it in"
            if not isinstance(word, Text):
                raise errors.UsageProblem(
                    f"'{_short(word)}' stands in the line as it is: {missing}.",
                    f"run the cell that makes {root} first, or put a text with braces in quotes.",
                )
            if gone:
                self._say(f"The braces of '{_short(word)}' stay as they are: {missing}.")

    def _check_named(self, word: str, queue: list[str]) -> None:
        """Refuse `epochs=1`, which is how Python writes an option, wherever no text could look like it."""
        if isinstance(word, Text) or any(o.many and not o.sentence for o in self._signature.positional):
            return
        name, joined, value = word.partition("=")
        follows = bool(queue) and not isinstance(queue[0], Text) and queue[0].startswith("=")
        option = self._signature.by_name.get(name.replace("-", "_"))
        if option is not None and (joined or follows):
            value = value or " ".join(w.lstrip("=") for w in queue[: 1 + (queue[:1] == ["="])]).strip()
            raise self._not_an_option(f"{word}{' =' * (not joined)}", option, value)

    def _not_an_option(self, word: str, option: Option, value: str) -> errors.UsageProblem:
        written = option.switch if option.boolean else f"{option.flag} {value or option.value_word()}"
        return errors.UsageProblem(
            f"'{_short(word)}' is no option of a line: options begin with two dashes.", f"write {written}"
        )

    def _value(self, queue: list[str], name: str) -> str:
        if not queue:
            raise errors.UsageProblem(f"{name} needs a value and the line ends there.", f"write {name} VALUE.")
        word = queue[0]
        if not isinstance(word, Text) and (word.partition("=")[0] in self._flags or word in self._extra):
            raise errors.UsageProblem(
                f"{name} needs a value, and {word} follows it.",
                f"write {name} VALUE, or put a text like that in quotes.",
            )
        return queue.pop(0)

    def _flag(self, name: str, value: str | None, queue: list[str]) -> None:
        negated = name.startswith("--no-") and name not in self._flags
        option = self._flags.get("--" + name[5:] if negated else name)
        if option is None or (negated and not option.boolean):
            hint = errors.did_you_mean("--" + name[5:] if negated else name, self._flags)
            raise errors.UsageProblem(
                f"{self._name} has no option {name}.{hint}",
                f"type {self._name}? to see all; put a text that begins with a dash in quotes or after --.",
            )
        if option.boolean:
            if value is not None:
                raise errors.UsageProblem(f"{name} is a switch and takes no value.", f"write {name} alone.")
            self._put(option.parameter, name, not negated)
            return
        word = value if value is not None else self._value(queue, name)
        self._put(option.parameter, name, values.convert(option, word, self._namespace))

    def _positionals(self, rest: list[str], apart: list[str]) -> None:
        for option in self._signature.positional:
            if option.many:
                words = [*(self._sentences(rest) if option.sentence else rest), *apart]
                if words or option.parameter not in self._given:
                    self._found[option.parameter] = tuple(
                        values.convert(option, word, self._namespace) for word in words
                    )
                return
            if rest or apart:
                self._found[option.parameter] = values.convert(option, (rest or apart).pop(0), self._namespace)
        if rest or apart:
            raise self._left_over((rest or apart)[0], [*rest, *apart][1:])

    def _left_over(self, word: str, after: list[str]) -> errors.UsageProblem:
        name = re.split(r"[=:]", word, maxsplit=1)[0]
        option = self._signature.by_name.get(name.replace("-", "_"))
        if option is not None and not isinstance(word, Text):
            return self._not_an_option(word, option, word[len(name) + 1 :] or next(iter(after), ""))
        hint = errors.did_you_mean(name, self._signature.by_name) if "=" in word else ""
        return errors.UsageProblem(
            f"{self._name} does not know what to do with '{_short(word)}'.{hint}",
            f"write {self._signature.brief()}, with quotes around words that belong together; {self._name}? shows all.",
        )

    def _sentences(self, words: list[str]) -> list[str]:
        """Join words without quotes that follow one another to one text, unless each of them names a thing."""
        found: list[str] = []
        run: list[str] = []
        for word in [*words, None]:
            if word is not None and not isinstance(word, Text) and not any(c.isspace() for c in word):
                run.append(word)
                continue
            found += self._joined(run)
            run = []
            found += [word] if word is not None else []
        return found

    def _joined(self, run: list[str]) -> list[str]:
        things = [word for word in run if self._is_thing(word)]
        if len(run) < 2 or len(things) == len(run):
            return run
        text = " ".join(run)
        if things:
            other = next(word for word in run if word not in things)
            raise errors.UsageProblem(
                f"'{_short(text)}' may be one text or several things: '{_short(things[0])}' is a variable or a file, "
                f"and '{_short(other)}' is none.",
                "put each text in quotes.",
            )
        self._say(
            f"Read as one text: '{_short(text)}'. Quotes around each, or -- before them, make them {len(run)} texts."
        )
        return [Text(text)]

    def _is_thing(self, word: str) -> bool:
        """Say whether a word names a variable that holds more than a text, or a file or folder."""
        held = (self._namespace or {}).get(word, _FOUND_MISSING)
        if held is not _FOUND_MISSING:
            return True
        try:
            return bool(_FILE.fullmatch(word)) or Path(word).expanduser().exists()
        except (OSError, ValueError, RuntimeError):
            return False

    def _ask_for_missing(self) -> None:
        for option in self._signature.options:
            if option.required and option.parameter not in self._given and option.parameter not in self._found:
                what = option.parameter.rstrip("_").upper() if option.positional else option.flag
                raise errors.UsageProblem(
                    f"{self._name} needs {what}: {option.help}.", f"write {self._signature.brief()}"
                )


def _is_text(word: str, name: str) -> bool:
    # A shell takes quotes away before we see the words; a blank before any "=" shows that there were some.
    return isinstance(word, Text) or not re.match(r"--|-[^\W\d]", name) or any(c.isspace() for c in name)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


# What Python code gives


def check_call(
    signature: Signature, shape: inspect.Signature, words: Sequence[Any], options: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a Python call, numbers and choices in their types; raises UsageProblem.

    A record in the place of a name (`sft.evaluate(version)`) means the thing that it is of.
    """
    name = f"sft.{signature.verb}"
    known = {o.parameter: o for o in signature.options}
    for given in options:
        if given not in known:
            raise errors.UsageProblem(
                f"{name} has no option {given}.{errors.did_you_mean(given, known)}", f"help({name}) lists them all."
            )
    try:
        bound = shape.bind(*words, **options)
    except TypeError as error:
        said = str(error)
        raise errors.UsageProblem(f"{name} was called wrongly: {said}.", f"write {_python_usage(signature)}") from None
    checked = {k: values.checked(known[k], _named(known[k], v)) for k, v in bound.arguments.items()}
    bound.arguments.update(checked)
    return bound.args, bound.kwargs


def _named(option: Option, value: Any) -> Any:
    """Return the name of the thing that a record is of, where the option takes a name."""
    if option.many or not option.names or not isinstance(value, Tabular):
        return value
    if isinstance(value, Endpoint) and option.names in ("endpoint", "stoppable"):
        return value.name
    found = reference(value)
    return value if found is None else found


def _python_usage(signature: Signature) -> str:
    needed = [o.parameter if o.positional else f"{o.parameter}=..." for o in signature.options if o.required]
    return f"sft.{signature.verb}({', '.join([*needed, '...'])}); help(sft.{signature.verb}) lists all options."
