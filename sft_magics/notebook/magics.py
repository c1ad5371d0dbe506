"""The magics, made from the table of verbs: read the line, call the verb, give back what it returns.

`%sft_finetune reviews --epochs 1 -o first` is a line magic; `%%sft_finetune reviews` takes the same options as a TOML
body, and `%%sft_predict reviews:1` takes one text a line.
"""

import keyword
import tomllib
from typing import TYPE_CHECKING, Any

from sft_magics.core import audience, errors, provenance, signatures
from sft_magics.core.audience import Audience
from sft_magics.core.records import Run
from sft_magics.verbs import Verb

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_INTO = "output_variable_"


class VerbMagic:
    """One verb as a magic function; its help is the verb's help, read when it is asked for."""

    def __init__(self, shell: "InteractiveShell", verb: Verb, watcher: Audience) -> None:
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
        except errors.SftError as error:
            # What is below the sentence is ours, and its frames, and those of what caused it, would keep data alive.
            error.__context__ = None
            raise error.with_traceback(None) from None
        except KeyboardInterrupt:
            # A run that had begun is stopped by the verb itself; here nothing had.
            raise errors.RunProblem(
                f"{signatures.magic_name(self.verb.name)} was interrupted; what was saved before is untouched.",
                "type the same line again, or %sft_runs to see a run that had begun.",
            ) from None

    def _call(self, line: str, cell: str | None) -> Any:
        namespace = self.shell.user_ns
        words = signatures.split(line)
        options = body_options(self.verb, cell) if cell is not None else {}
        given = signatures.parse(self.verb.signature, words, namespace, {"-o": _INTO, "--output": _INTO}, options)
        into = given.pop(_INTO, None)
        for option in self.verb.signature.positional:
            if option.many and option.parameter in given:
                given[option.parameter] += options.get(option.parameter, ())
        options |= given
        if into is not None and (not into.isidentifier() or keyword.iskeyword(into)):
            raise errors.UsageProblem(f"-o cannot be '{into}': it is no variable name.", "write for example -o result.")
        with audience.watched_by(self.watcher), provenance.led_by(self._cells()):
            result = self.verb(**options)
        if self.verb.name == "deploy":
            from sft_magics.notebook import trying

            trying.offer(self.shell, result, options.get("workspace"))
        if into is not None:
            self.shell.push({into: result})
            if isinstance(result, Run):
                return None  # its panel is there already, and moves; a card of this moment would only grow old
        return result

    def _cells(self) -> list[str]:
        history = getattr(self.shell, "history_manager", None)
        return list(history.input_hist_raw) if history is not None else []


def body_options(verb: Verb, body: str) -> dict[str, Any]:
    """Read a cell body: texts, one a line, where the verb takes `*texts`; TOML options otherwise."""
    many = next((o for o in verb.signature.positional if o.many), None)
    if many is not None:
        return {many.parameter: tuple(line for line in body.splitlines() if line.strip())}
    try:
        table = tomllib.loads(body)
    except tomllib.TOMLDecodeError as error:
        raise errors.UsageProblem(
            f"The cell body is not TOML: {error}.", "write one option a line, such as epochs = 3, texts in quotes."
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
        options[option.parameter] = signatures.convert(option, value)
    return options
