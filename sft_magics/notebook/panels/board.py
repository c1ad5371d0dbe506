"""The board: the whole workspace at a glance, and what to type next."""

from collections.abc import Sequence

from sft_magics.core.records import Board
from sft_magics.notebook.panels import alerts, badges, data, endpoint, model, runs, versions
from sft_magics.notebook.panels.formats import count, size
from sft_magics.notebook.panels.markup import Child, Safe, code, facts, head, join, muted, next_line
from sft_magics.notebook.panels.tables import table

_ROWS = 8


def card(board: Board) -> list[Child]:
    """Return the parts of the board."""
    paused = sum(r.state == "paused" for r in board.runs)
    firing = sum(a.state == "firing" for a in board.alerts)
    return [
        head("Workspace", detail=code(board.workspace)),
        facts(
            ("datasets", count(len(board.datasets))),
            ("models", count(len(board.models))),
            ("versions", count(len(board.versions))),
            ("runs going on", count(len(board.runs) - paused)),
            ("runs paused", count(paused) if paused else None),
            ("endpoints", count(len(board.endpoints))),
            (
                "alerts firing",
                join(badges.icon("firing" if firing else "ok"), " ", count(firing)) if board.alerts else "none",
            ),
            ("disk used", join(size(board.disk_bytes), muted(f" {board.disk_age}") if board.disk_age else None)),
            ("disk free", size(board.free_bytes)),
        ),
        _part("Runs going on and paused" if paused else "Runs going on", runs.HEADS, runs.rows(board.runs)),
        _part("Alerts", alerts.HEADS, alerts.rows(board.alerts)),
        _part("Endpoints", endpoint.HEADS, endpoint.rows(board.endpoints)),
        _part("Versions", versions.HEADS, versions.rows(board.versions), "%sft_versions"),
        _part("Models", model.HEADS, model.rows(board.models), "%sft_models"),
        _part("Datasets", data.HEADS, data.rows(board.datasets), "%sft_data"),
        next_line(board.next_step),
    ]


def _part(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Child]], more: str = "") -> Safe | None:
    return table(caption, heads, rows, limit=_ROWS, more=more) if rows else None
