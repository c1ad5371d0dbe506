"""The one maker of tables: semantic (caption, scoped headers), escaped, at most 50 rows and how many more there are."""

from collections.abc import Iterable, Sequence

from sft_magics.notebook.panels.formats import NOTHING, count, when
from sft_magics.notebook.panels.markup import Child, Safe, el, muted, spaced

PAGE = 50


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Child]],
    *,
    limit: int = PAGE,
    total: int | None = None,
    more: str = "",
) -> Safe:
    """Return `rows` as a table; a head that ends in "#" is of a column of numbers, set flush right.

    A head that begins with "?" is of a column that is left out where the panel is narrow, which a line then says. The
    first column names its row. Only `limit` rows are drawn; the last line says how many more of `total` (by default
    the rows given) there are, and `more` how to get at them.
    """
    looks = [_look(head) for head in heads]
    words = [head.removeprefix("?").rstrip("#") for head in heads]
    top = el("tr", *(_cell("th", word, look, scope="col") for word, look in zip(words, looks, strict=True)))
    body = [_row(row, looks) for row in rows[:limit]]
    parts = [el("caption", caption), el("thead", top), el("tbody", *body)]
    rest = (len(rows) if total is None else total) - min(limit, len(rows))
    if rest > 0:
        last = f"and {count(rest)} more{': ' + more if more else ''}"
        parts.append(el("tfoot", el("tr", el("td", muted(last), colspan=len(heads)))))
    left_out = [word for head, word in zip(heads, words, strict=True) if head.startswith("?")]
    note = el("p", muted(f"A wider window shows also: {', '.join(left_out)}."), class_="sft-n") if left_out else None
    return el("div", el("table", *parts), note, class_="sft-x")


def _look(head: str) -> str | None:
    """Return the classes of a column's cells."""
    classes = ["sft-o"] * head.startswith("?") + ["sft-r"] * head.endswith("#")
    return " ".join(classes) or None


def _row(row: Sequence[Child], looks: Sequence[str | None]) -> Safe:
    first = _cell("th", row[0], looks[0], scope="row")
    return el("tr", first, *(_cell("td", cell, look) for cell, look in zip(row[1:], looks[1:], strict=True)))


def _cell(name: str, content: Child, look: str | None, scope: str | None = None) -> Safe:
    inner = muted(NOTHING) if content is None or content == "" else content
    return el(name, inner, scope=scope, class_=look)


def listing(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Child]], empty: str) -> Safe:
    """Return a table, or the sentence `empty` under its caption when there is no row."""
    found = list(rows)
    if not found:
        return el("p", el("strong", caption), muted(f" – {empty}"))
    return table(caption, heads, found)


def stamp(at: float | None) -> Safe:
    """Return a time (seconds since the epoch) as a cell shows it: a date and an hour, which a line may part."""
    words = [el("span", word, class_="sft-a") for word in when(at).split()]
    return el("span", *spaced(*words), class_="sft-k")
