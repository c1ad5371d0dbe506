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

    The first column names its row. Only `limit` rows are drawn; the last line says how many more of `total` (by default
    the rows given) there are, and `more` how to get at them.
    """
    numeric = [head.endswith("#") for head in heads]
    top = el("tr", *(_cell("th", h.rstrip("#"), n, scope="col") for h, n in zip(heads, numeric, strict=True)))
    body = [_row(row, numeric) for row in rows[:limit]]
    parts = [el("caption", caption), el("thead", top), el("tbody", *body)]
    rest = (len(rows) if total is None else total) - min(limit, len(rows))
    if rest > 0:
        words = f"and {count(rest)} more{': ' + more if more else ''}"
        parts.append(el("tfoot", el("tr", el("td", muted(words), colspan=len(heads)))))
    return el("div", el("table", *parts), class_="sft-x")


def _row(row: Sequence[Child], numeric: Sequence[bool]) -> Safe:
    first = _cell("th", row[0], numeric[0], scope="row")
    return el("tr", first, *(_cell("td", cell, n) for cell, n in zip(row[1:], numeric[1:], strict=True)))


def _cell(name: str, content: Child, number: bool, scope: str | None = None) -> Safe:
    inner = muted(NOTHING) if content is None or content == "" else content
    return el(name, inner, scope=scope, class_="sft-r" if number else None)


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
