"""The magics, made from the table of verbs: read the line, call the verb, give back what it returns.

`%sft_finetune reviews --epochs 1 -o first` is a line magic; `%%sft_finetune reviews` takes the same options as a TOML
body, and `%%sft_predict reviews:1` takes one text a line.
"""

import keyword
import sys
import tomllib
from typing import TYPE_CHECKING, Any

from sft_magics.core import arguments, errors, lines, observer, provenance, signatures, values
from sft_magics.core.observer import JobObserver
from sft_magics.core.records import Run
from sft_magics.notebook import display
from sft_magics.verbs import VERBS, Verb

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_INTO = "output_variable_"
_WORDS = frozenset(verb.word for verb in VERBS.values())


class VerbMagic:
    """One verb as a magic function; its help is the verb's help, read when it is asked for."""

    def __init__(self, shell: "InteractiveShell", verb: Verb, watcher: JobObserver) -> None:
        self.shell = shell
        self.verb = verb
        self.watcher = watcher
        self.__name__ = signatures.magic_name(verb.name)[1:]

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.verb.signature.help() + "\n\n  -o NAME                      put what it returns into this variable"

    def getdoc(self) -> str:
        """Give `%sft_x?` the verb's help."""
        return self.__doc__

    def __call__(self, line: str, cell: str | None = None) -> Any:
        """Run the verb on this line and cell body."""
        try:
            return self._call(line, cell)
        except errors.CheckFailed as error:
            if error.result is not None:
                display.show(error.result)
            raise _bare(error) from None
        except (errors.SftError, errors.Interrupted) as error:
            raise _bare(error) from None
        except KeyboardInterrupt:
            raise errors.Interrupted(
                f"{signatures.magic_name(self.verb.name)} was interrupted; what was saved before is untouched.",
                "type the same line again.",
            ) from None

    def _call(self, line: str, cell: str | None) -> Any:
        words = lines.split(line)
        if any(word in ("-h", "--help") and not isinstance(word, lines.Text) for word in _options(words)):
            _say(self.__doc__)
            return None
        if self.verb.name == "board" and words and words[0].replace("-", "_") in _WORDS:
            meant = " ".join([signatures.magic_name(words[0].replace("-", "_")), *words[1:]])
            raise errors.UsageProblem(f"%sft {words[0]} is one word as a magic: {meant}", f"write {meant}")
        options, into = self._read(words, cell)
        with observer.watched_by(self.watcher), provenance.led_by(self._cells()):
            result = self.verb(**options)
        if self.verb.name == "deploy":
            from sft_magics.notebook import trying

            trying.offer(self.shell, result, options.get("workspace"))
        if into is not None:
            self.shell.push({into: result})
            if isinstance(result, Run):
                return None  # its panel is there already, and moves; a card of this moment would only grow old
        return result

    def _read(self, words: list[str], cell: str | None) -> tuple[dict[str, Any], str | None]:
        """Return the verb's options and the variable that is to hold what it returns, if one."""
        options = body_options(self.verb, cell) if cell is not None else {}
        given = arguments.parse(
            self.verb.signature, words, self.shell.user_ns, {"-o": _INTO, "--output": _INTO}, options, _say
        )
        into = given.pop(_INTO, None)
        for option in self.verb.signature.positional:
            if option.many and option.parameter in given:
                given[option.parameter] += options.get(option.parameter, ())
        if into is not None and (not into.isidentifier() or keyword.iskeyword(into)):
            raise errors.UsageProblem(f"-o cannot be '{into}': it is no variable name.", "write for example -o result.")
        return options | given, into

    def _cells(self) -> list[str]:
        history = getattr(self.shell, "history_manager", None)
        return list(history.input_hist_raw) if history is not None else []


def _options(words: list[str]) -> list[str]:
    """Return the words before `--`; what follows it is text."""
    return words[: words.index("--")] if "--" in words else words


def _bare(error: errors.TwoLines) -> errors.TwoLines:
    """Return an error without what is below its sentence: those frames are ours, and would keep data alive."""
    error.__context__ = None
    return error.with_traceback(None)


def _say(note: str) -> None:
    sys.stdout.write(note + "\n")
    sys.stdout.flush()


def body_options(verb: Verb, body: str) -> dict[str, Any]:
    """Read a cell body: texts, one a line, where the verb takes `*texts`; TOML options otherwise."""
    many = next((o for o in verb.signature.positional if o.many), None)
    if many is not None:
        return {many.parameter: tuple(line for line in body.splitlines() if line.strip())}
    try:
        table = tomllib.loads(body)
    except tomllib.TOMLDecodeError as error:
        raise errors.UsageProblem(
            f"The cell body is not TOML: {error}.",
            "write one option a line, such as epochs = 3, texts in straight quotes.",
        ) from None
    by_name = {o.flag[2:].replace("-", "_"): o for o in verb.signature.options}
    options = {}
    for name, value in table.items():
        option = by_name.get(name.replace("-", "_"))
        if option is None:
            hint = errors.did_you_mean(name, by_name)
            raise errors.UsageProblem(
                f"{signatures.magic_name(verb.name)} has no option {name}.{hint}",
                f"type {signatures.magic_name(verb.name)}? to see all.",
            )
        options[option.parameter] = values.convert(option, value)
    return options
