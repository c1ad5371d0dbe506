"""Answers: label, confidence and text; all scores where one text was asked."""

from sft_magics.core.records import Prediction, Predictions
from sft_magics.core.unread import truncated
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count, duration, number
from sft_magics.notebook.panels.marks import bar
from sft_magics.notebook.panels.markup import Child, Safe, code, el, head, join, muted, shorten
from sft_magics.notebook.panels.style import BLUE, GREEN, VERMILLION
from sft_magics.notebook.panels.subjects import subject
from sft_magics.notebook.panels.tables import PAGE, table

_SCORES = 10


def card(answers: Predictions) -> list[Child]:
    """Return the parts of some answers; one answer shows all its scores."""
    by = answers.version if answers.endpoint is None else f"endpoint {answers.endpoint}, {answers.version}"
    took = muted(f"took {duration(answers.seconds)}") if answers.seconds else None
    if len(answers.rows) == 1:
        top = head(shorten(answers.rows[0].label, 80), detail=muted(f"by {by}"), right=took)
        return [top, _truncated(answers), *_one(answers.rows[0]), _written(answers)]
    noun = f"{count(len(answers.rows))} predictions"
    shown = _rows(answers) if answers.rows else None
    return [head(noun, detail=muted(f"by {by}"), right=took), _truncated(answers), _written(answers), shown]


def _truncated(answers: Predictions) -> Safe | None:
    return el("p", badges.icon("warning"), f" {truncated(answers.unread)}") if answers.unread else None


def _written(answers: Predictions) -> Safe | None:
    if not answers.file:
        return None
    return el("p", badges.icon("ok"), " All answers are in ", code(answers.file), ".")


def one(answer: Prediction) -> list[Child]:
    """Return the parts of a single answer."""
    return [head(shorten(answer.label, 80)), *_one(answer)]


def confidence(answer: Prediction) -> Safe:
    """Return an answer's confidence as a bar and a number; right and wrong ones differ in color where it is known."""
    ink = BLUE if answer.truth is None else (GREEN if answer.truth == answer.label else VERMILLION)
    words = f"confidence {number(answer.confidence)}"
    return el(
        "span", bar(answer.confidence, words, color=ink, width=64), " ", number(answer.confidence), class_="sft-d"
    )


def _one(answer: Prediction) -> list[Child]:
    ranked = sorted(answer.scores.items(), key=lambda item: -item[1])
    rows: list[list[Child]] = [
        [shorten(label, 80), join(bar(score, f"{shorten(label, 80)} {number(score)}", width=220), " ", number(score))]
        for label, score in ranked
    ]
    truth = (
        el("p", "The right label is ", el("strong", shorten(answer.truth, 80)), ".")
        if answer.truth is not None
        else None
    )
    scores = table("Scores", ("label", "score"), rows, limit=_SCORES) if rows else None
    asked = el("p", subject(answer.text, answer.picture, 600))
    return [asked, scores, truth, el("p", muted("request id "), code(answer.id)) if answer.id else None]


def _rows(answers: Predictions) -> Safe:
    known = any(r.truth is not None for r in answers.rows)
    ids = any(r.id for r in answers.rows)
    what = "image" if any(r.picture for r in answers.rows) else "text"
    heads = [what, "label", "confidence", *(["truth"] if known else []), *(["request id"] if ids else [])]
    rows: list[list[Child]] = []
    for r in answers.rows[:PAGE]:
        row: list[Child] = [
            subject(r.text, r.picture),
            el("strong", shorten(r.label, 80)),
            confidence(r),
        ]
        row += [_truth(r)] if known else []
        row += [code(r.id)] if ids else []
        rows.append(row)
    more = "answers.to_pandas() has them all"
    return table("Answers in the order asked", heads, rows, total=len(answers.rows), more=more)


def _truth(answer: Prediction) -> Safe | None:
    if answer.truth is None:
        return None
    right = answer.truth == answer.label
    mark = badges.icon("ok" if right else "problem")
    return join(mark, " ", el("span", "right" if right else f"wrong: {shorten(answer.truth, 80)}"))
