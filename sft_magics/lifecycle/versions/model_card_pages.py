"""A model card as a page: the same sections as Markdown and as HTML that needs nothing else."""

import html as escaping
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sft_magics.core.codec import plain
from sft_magics.core.records import Metric, ModelCard, Version

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}"
    "td,th{border:1px solid #8886;padding:.2rem .6rem;text-align:left;vertical-align:top}"
    "pre{overflow:auto;border:1px solid #8886;padding:.6rem}"
)


@dataclass(frozen=True)
class Section:
    """A titled part of a page: sentences, a table, code."""

    title: str
    sentences: Sequence[str] = ()
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    code: Sequence[str] = field(default=())


def sections(card: ModelCard) -> list[Section]:
    """Return the parts of a model card that have something to say."""
    v = card.version
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(v.created_at))
    aliases = f" Aliases: {', '.join(v.aliases)}." if v.aliases else ""
    successor = f", succeeded by {v.successor}" if v.successor else ""
    found = [
        Section(f"Model card: {v.ref}", [f"{v.task}, made {made}, {v.status}{successor}.{aliases}", v.concern, v.note]),
        Section("Intended use", [card.intended_use or "Not stated."]),
        Section("Lineage", [" → ".join(card.lineage), _children(card)]),
        Section("Data", _data(card)),
        Section("Metrics", ["On the validation rows, with 95 % intervals.", _left_out(v)],
                ("metric", "value", "interval", "rows"),
                [_metric(m) for m in v.metrics.values() if not math.isnan(m.value)]),
        Section("Labels", [], ("number", "label"), [(str(i), label) for i, label in enumerate(v.labels)]),
        Section("Options", [], ("name", "value"), _pairs(v.options)),
        Section("Environment", [], ("name", "value"), _pairs(v.environment)),
        Section("Weights", [f"{v.size / 1e6:,.1f} MB, artifact {v.artifact}."]),
        Section("Tags", [], ("name", "value"), _pairs(v.tags)),
        Section("Notebook cells", [], code=v.cells),
        Section("History", [], ("when", "who", "what", "of", "reason"), [
            (time.strftime("%Y-%m-%d %H:%M", time.localtime(m.at)), m.who, m.action, m.what, m.reason)
            for m in card.moments
        ]),
    ]  # fmt: skip
    return [s for s in found if any(s.sentences) or s.rows or s.code]


def _left_out(version: Version) -> str:
    return " ".join(finding.message for finding in version.overlap.remarks) if version.overlap else ""


def _children(card: ModelCard) -> str:
    return f"Versions made from it: {', '.join(card.children)}." if card.children else ""


def _data(card: ModelCard) -> list[str]:
    v, d = card.version, card.dataset
    known = f"{v.data}, fingerprint {v.data_fingerprint}."
    if d is None:
        return [f"{known} The data is not in this workspace."]
    counts = ", ".join(f"{n:,} {split}" for split, n in d.counts.items())
    changed = "" if d.fingerprint == v.data_fingerprint else " The data of this name has changed since."
    return [f"{known} {counts} rows from {d.source}.{changed}", f"License: {d.license}." if d.license else ""]


def _metric(metric: Metric) -> tuple[str, str, str, str]:
    known = metric.low is not None and metric.high is not None
    interval = f"{metric.low:.3f} to {metric.high:.3f}" if known else ""
    return metric.key, f"{metric.value:.3f}", interval, f"{metric.n:,}" if metric.n else ""


def _pairs(values: dict[str, object] | dict[str, str]) -> list[tuple[str, str]]:
    return [(k, v if isinstance(v, str) else json.dumps(plain(v), sort_keys=True)) for k, v in values.items()]


def markdown(parts: Sequence[Section]) -> str:
    """Return the page as GitHub's Markdown; what a user wrote cannot become markup."""
    lines: list[str] = []
    for number, part in enumerate(parts):
        lines += [f"{'#' if number == 0 else '##'} {_md(part.title)}", ""]
        lines += [text for s in part.sentences if s for text in (_md(s), "")]
        if part.rows:
            lines += ["| " + " | ".join(part.heads) + " |", "|" + "---|" * len(part.heads)]
            lines += ["| " + " | ".join(_md(cell) for cell in row) + " |" for row in part.rows] + [""]
        for cell in part.code:
            fence = "`" * max(3, _longest_run(cell) + 1)
            lines += [f"{fence}python", cell, fence, ""]
    return "\n".join(lines)


_MARKS = {ord(sign): f"\\{sign}" for sign in "\\`*_{}[]#"} | {ord(sign): f"&#{ord(sign)};" for sign in "<>|&"}


def _md(text: str) -> str:
    return " ".join(str(text).split()).translate(_MARKS)


def _longest_run(text: str) -> int:
    longest = run = 0
    for sign in text:
        run = run + 1 if sign == "`" else 0
        longest = max(longest, run)
    return longest


def html(parts: Sequence[Section]) -> str:
    """Return the page as one HTML file, readable in light and dark."""
    title = escaping.escape(parts[0].title)
    body = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style><body>"]
    for number, part in enumerate(parts):
        level = 1 if number == 0 else 2
        body.append(f"<h{level}>{escaping.escape(part.title)}</h{level}>")
        body += [f"<p>{escaping.escape(s)}</p>" for s in part.sentences if s]
        if part.rows:
            body.append("<table><tr>" + "".join(f"<th>{escaping.escape(h)}</th>" for h in part.heads) + "</tr>")
            body += ["<tr>" + "".join(f"<td>{escaping.escape(c)}</td>" for c in row) + "</tr>" for row in part.rows]
            body.append("</table>")
        body += [f"<pre>{escaping.escape(cell)}</pre>" for cell in part.code]
    return "\n".join([*body, "</body></html>", ""])
