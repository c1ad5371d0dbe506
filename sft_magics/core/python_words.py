"""Spells the lines of magics in a message as calls of Python: `%sft_deploy m@live` is `sft.deploy("m@live")`.

A message writes a line and goes on in prose ("%sft_data reviews shows it"), so the words after a verb are its arguments
up to the first word of prose, an end of a clause, or an option that no value follows. Options outside a line stay.
"""

import re
from dataclasses import dataclass, field

MAGIC = re.compile(r"%{1,2}sft(?:_(\w+)|(?!_)\b)(\??)")
_WORD = re.compile(r""" +("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"']+)""")
_END = re.compile(r"[,;:.)]+$")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
# The words with which messages go on behind a line; a test reads them off every message of the package.
PROSE = frozenset({
    "a", "added", "after", "again", "and", "are", "asks", "at", "before", "by", "can", "changes", "checks",
    "commits", "compares", "does", "ends", "first", "for", "from", "goes", "has", "if", "in", "into",
    "is", "it", "its", "learns", "list", "lists", "loads", "makes", "measures", "moving", "needs", "of", "on", "or",
    "puts", "removes", "says", "serves", "shows", "skip", "starts", "stops", "switches", "takes", "tells", "that",
    "the", "them", "then", "this", "to", "trains", "undoes", "until", "when", "which", "while", "with", "writes",
    "wrote",
})  # fmt: skip
_RESERVED = frozenset({"errors", "import", "registry", "from"})


@dataclass
class _Call:
    """The call that a line becomes: arguments by place, by name, and the name whose value is still to come."""

    verb: str
    places: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    waiting: str = ""

    def take(self, word: str) -> None:
        """Add one word of the line."""
        if word.startswith("--"):
            name, joined, value = word[2:].partition("=")
            off = name.startswith("no-")
            self.waiting = "" if joined or off else _name(name)
            self.names[_name(name.removeprefix("no-"))] = _value(value) if joined else str(not off)
        elif self.waiting:
            self.names[self.waiting], self.waiting = _value(word), ""
        else:
            self.places.append(_text(word))

    def __str__(self) -> str:
        return f"sft.{self.verb}({', '.join([*self.places, *(f'{n}={v}' for n, v in self.names.items())])})"


def python_words(text: str) -> str:
    """Return `text` with each line of a magic as the call of `import sft_magics as sft` that does the same."""
    parts, position = [], 0
    for found in MAGIC.finditer(text):
        if found.start() >= position:
            call, end = _read(text, found)
            parts += [text[position : found.start()], call]
            position = end
    return "".join([*parts, text[position:]])


def _read(text: str, found: re.Match[str]) -> tuple[str, int]:
    """Return the call that begins at a magic, and where its line ends."""
    verb = _name(found[1] or "board")
    if found[2]:
        return f"help(sft.{verb})", found.end()
    call, position = _Call(verb), found.end()
    while (word := _WORD.match(text, position)) and word[1] not in PROSE and "%sft" not in word[1]:
        quoted = word[1][0] in "\"'"
        bare = word[1] if quoted else _END.sub("", word[1])
        if not bare or _END.sub("", bare) in PROSE or (bare[0] in "(-" and not bare.startswith("--")):
            break
        call.take(bare)
        position = word.start(1) + len(bare)
        if bare != word[1]:
            break
    return str(call), position


def _name(word: str) -> str:
    name = word.replace("-", "_")
    return f"{name}_" if name in _RESERVED else name


def _value(word: str) -> str:
    return word if _NUMBER.fullmatch(word) else _text(word)


def _text(word: str) -> str:
    return word if word[0] in "\"'" else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
