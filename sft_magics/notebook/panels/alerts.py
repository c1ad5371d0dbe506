"""Alerts: a rule, its state, and the number it looks at."""

from collections.abc import Sequence

from sft_magics.core.records import Alert
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import general
from sft_magics.notebook.panels.markup import Child, code, facts, head, muted
from sft_magics.notebook.panels.tables import stamp

HEADS = ("rule", "endpoint", "state", "now#", "since", "checked")
_ORDER = ("firing", "no data", "ok")


def rows(alerts: Sequence[Alert]) -> list[list[Child]]:
    """Return the rows of the table of alerts, those that fire first."""
    ranked = sorted(alerts, key=lambda a: (*_ORDER, a.state).index(a.state))
    return [
        [
            code(a.rule), a.endpoint, badges.badge(a.state), None if a.value is None else general(a.value),
            _time(a.since), _time(a.checked_at),
        ]
        for a in ranked
    ]  # fmt: skip


def card(found: Alert) -> list[Child]:
    """Return the parts of one alert."""
    return [
        head(found.rule, before=badges.badge(found.state), detail=muted(f"on endpoint {found.endpoint}")),
        facts(
            ("now", "no data yet" if found.value is None else general(found.value)),
            ("since", _time(found.since)),
            ("checked", _time(found.checked_at)),
            ("id", code(found.id)),
        ),
    ]


def _time(at: float | None) -> Child:
    return None if at is None else stamp(at)
