r"""Splits a line into words as a person reads it: quotes group, typographic ones too, and `#` begins a comment."""

import re

from sft_magics.core import errors

_PLAIN = "\"'"
# The quotes that keyboards, word processors and web pages put in the place of straight ones: each is closed by any of
# its own group, as languages differ in which of them opens („x“, ”x”, »x«).
_GROUPS = ("“”„‟〝〞", "‘’‚‛", "«»", "‹›", "「」", "『』")
_GROUP_OF = {mark: group for group in _GROUPS for mark in group}
_DASHES = "‐‑‒–—―−﹣－"
_DASHED = re.compile(rf"[-{_DASHES}]*[{_DASHES}][-{_DASHES}]*(?=[^\W\d])")
_INVISIBLE = "\u200b\u2060\ufeff"  # what a web page puts at the ends of words when it is copied


class Text(str):
    """A word that stood in quotes: it is text, never an option, a comment or the name of a variable."""

    __slots__ = ()


def split(line: str) -> list[str]:
    r"""Split a line into words: quotes group, `#` at the beginning of a word ends the line.

    A word that begins with a quote comes back as `Text`. Backslashes are plain characters, so Windows paths pass
    through; only those right before the quote that would close the text count, in pairs: `\"` is a quote in the text,
    `\\"` a backslash and the end of it. Braces pass through untouched. Typographic quotes group as straight ones do.
    Typographic dashes before a name are those of an option. Raises UsageProblem for a quote that is never closed.
    """
    words: list[str] = []
    position = 0
    while position < len(line):
        if line[position].isspace() or line[position] in _INVISIBLE:
            position += 1
        elif line[position] == "#":
            break
        else:
            word, position = _word(line, position)
            words.append(word)
    return words


def from_shell(words: list[str]) -> list[str]:
    """Return the words of a shell, which knows typographic quotes and dashes as letters, as `split` would read them."""
    found: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*found, word, *queue]
        opens = word[:1] in _GROUP_OF and not any(c.isspace() for c in word)
        end = _closing(word, queue) if opens else 0
        whole = " ".join([word, *queue[:end]])
        if opens and _closes(whole):
            found.append(Text(whole[1:-1]))
            del queue[:end]
        else:
            found.append(dashed(word))
    return found


def _closing(word: str, rest: list[str]) -> int:
    """Return how many of the words that follow belong to the text that `word` opens."""
    if _closes(word):
        return 0
    return next((i + 1 for i, w in enumerate(rest) if w[-1:] in _GROUP_OF[word[0]]), 0)


def _closes(text: str) -> bool:
    return len(text) > 1 and text[-1] in _GROUP_OF[text[0]]


def dashed(word: str) -> str:
    """Return a word whose typographic dashes before a name are straight: `–epochs` is `--epochs`, `–o` is `-o`."""
    found = _DASHED.match(word)
    if found is None:
        return word
    rest = word[found.end() :]
    return ("-" if len(rest.partition("=")[0]) == 1 else "--") + rest


def _word(line: str, position: int) -> tuple[str, int]:
    start, parts = position, []
    while position < len(line) and not line[position].isspace():
        opens = position == start or line[position - 1] == "="
        if opens and line[position] in _PLAIN:
            text, position = _quoted(line, position)
            parts.append(text)
        elif opens and line[position] in _GROUP_OF:
            text, position = _typographic(line, position)
            parts.append(text)
        else:
            parts.append(line[position])
            position += 1
    word = "".join(parts)
    if line[start] in _PLAIN or line[start] in _GROUP_OF:
        return Text(word), position
    return dashed(word.rstrip(_INVISIBLE)), position


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
    raise _never_closed(line, start, step)


def _typographic(line: str, start: int) -> tuple[str, int]:
    """Return a text in typographic quotes: one after a blank opens another inside, one before a blank closes."""
    group, depth = _GROUP_OF[line[start]], 0
    for position in range(start + 1, len(line)):
        if line[position] not in group:
            continue
        if position + 1 == len(line) or line[position + 1].isspace():
            if depth == 0:
                return line[start + 1 : position], position + 1
            depth -= 1
        elif line[position - 1].isspace():
            depth += 1
    raise _never_closed(line, start, f'add the closing {group[1]}, or write straight quotes: "...".')


def _never_closed(line: str, start: int, step: str) -> errors.UsageProblem:
    return errors.UsageProblem(
        f"The quote {line[start]} that begins at {line[start : start + 20]!r} is never closed.", step
    )
