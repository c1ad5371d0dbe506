"""Stage 4, monitor: what an endpoint sees and how good its answers are, from its log and labels that come later."""

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from sft_magics.core import errors
from sft_magics.core import metrics as measures
from sft_magics.core import workspace as places
from sft_magics.core.records import Alert, Endpoint, Feedback, Metric, Report, Table, Version
from sft_magics.core.signatures import FromNamespace, Names
from sft_magics.core.tasks import CLASSIFIERS
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.endpoints import latency
from sft_magics.lifecycle.evaluation import metric_rules, seen_requests
from sft_magics.lifecycle.options import WorkspaceOption

if TYPE_CHECKING:
    from sft_magics.registry import Registry

_BUCKETS = 24
_DRIFT_WORTH_A_LOOK = 0.1
_FEW_LABELS = 30


def feedback(
    endpoint: Annotated[str, "the endpoint that gave the answers", Names("endpoint")],
    labels: Annotated[
        Any, "a table with columns id and label, or what predict --to wrote", Names("file"), FromNamespace()
    ],
    *,
    label: Annotated[str | None, "the column of the right labels"] = None,
    workspace: WorkspaceOption = None,
) -> Feedback:
    """Tell an endpoint what the right labels were, by request id; its alerts are checked at once.

    It works while the endpoint is down, too. A later label for an id replaces the earlier one. The file may be the one
    that `predict --endpoint --to` wrote, with the right labels in a column of its own. A label in another case, or with
    blanks around it, is taken as the model spells it; one that the model does not have is refused and counted. Raises
    DataProblem where no label can be stored.
    """
    from sft_magics.datasets import id_label_pairs
    from sft_magics.registry import Registry
    from sft_magics.serving.client import lifecycle as serving

    ws = places.find(workspace)
    served = serving.endpoint(ws, endpoint)
    registry = Registry(ws)
    pairs = id_label_pairs(labels, label)
    with serving.prediction_log(ws, endpoint) as log:
        taken = log.add_feedback(pairs)
    if taken.refused and not taken.added:
        raise errors.DataProblem(
            f"No label was stored for {endpoint}: {taken.refusal}.",
            "correct the labels, or name their column with --label COLUMN.",
        )
    report = measure(ws, registry, served)
    firing = [a for a in report.alerts if a.state == "firing"]
    return Feedback(
        endpoint, taken.added, taken.unknown, report.metrics, report.alerts,
        report.next_step if firing else f"%sft_monitor {endpoint}", taken.mended,
        taken.refusal if taken.refused else "", report.overlap,
    )  # fmt: skip


def monitor(
    endpoint: Annotated[str, "the endpoint to look at", Names("endpoint")],
    *,
    hours: Annotated[float | None, "only the last so many hours"] = None,
    workspace: WorkspaceOption = None,
) -> Report:
    """Report an endpoint: requests, latency, class mix against training, accuracy and recall from feedback, alerts.

    Requests that the version was trained on are left out of its accuracy and counted.
    """
    from sft_magics.registry import Registry
    from sft_magics.serving.client import lifecycle as serving

    ws = places.find(workspace)
    if hours is not None and hours <= 0:
        raise errors.UsageProblem(f"--hours cannot be {hours}.", "write for example --hours 24.")
    since = time.time() - hours * 3600 if hours else None
    return measure(ws, Registry(ws), serving.endpoint(ws, endpoint), since)


def alert(
    endpoint: Annotated[str, "the endpoint to watch", Names("endpoint")],
    rule: Annotated[str, 'metric[class] < number, in quotes: "recall[negative] < 0.8"', Names("rule")],
    *,
    drop: Annotated[bool, "take this alert away again"] = False,
    workspace: WorkspaceOption = None,
) -> Alert:
    """Watch a number of an endpoint; checked on every feedback and report, and shown on the board.

    Numbers: accuracy, precision[class], recall[class], f1[class], share[class], confidence, drift, requests, labeled,
    errors, p50_ms, p95_ms, p99_ms. Raises UsageProblem for a rule that cannot be read.
    """
    from sft_magics.registry import Registry
    from sft_magics.serving.client import lifecycle as serving

    ws = places.find(workspace)
    registry = Registry(ws)
    served = serving.endpoint(ws, endpoint)
    parsed = metric_rules.parse(rule, registry.version(served.version).labels)
    same = next((a for a in registry.alerts(endpoint) if a.rule == str(parsed)), None)
    if drop:
        if same is None:
            known = [a.rule for a in registry.alerts(endpoint)]
            raise errors.not_found("alert", str(parsed), known, "%sft_alerts lists them.")
        registry.drop_alert(same.id)
        return same
    if same is None:
        registry.put_alert(Alert(f"alert-{secrets.token_hex(3)}", endpoint, str(parsed)))
    report = measure(ws, registry, served)
    return next(a for a in report.alerts if a.rule == str(parsed))


def alerts(
    *,
    fail_if_firing: Annotated[bool, "an alert that fires is an error (exit code 3)"] = False,
    workspace: WorkspaceOption = None,
) -> Table:
    """List the alerts and what they said when they were last checked. Raises CheckFailed if asked to, and one fires."""
    from sft_magics.registry import Registry

    rows = tuple(Registry(places.find(workspace)).alerts())
    found = Table("alerts", rows, "" if rows else '%sft_alert ENDPOINT "accuracy < 0.8"')
    firing = [a for a in rows if a.state == "firing"]
    if fail_if_firing and firing:
        more = f" (and {len(firing) - 1} more)" if len(firing) > 1 else ""
        raise errors.CheckFailed(
            f"The alert {firing[0].rule} of endpoint {firing[0].endpoint} fires{more}.",
            f"%sft_monitor {firing[0].endpoint} shows what happened.",
            found,
        )
    return found


def measure(ws: Workspace, registry: "Registry", served: Endpoint, since: float | None = None) -> Report:
    """Fold the endpoint's log into a report, check its alerts and remember their states."""
    from sft_magics.serving.client import lifecycle as serving

    version = registry.version(served.version)
    with serving.prediction_log(ws, served.name) as log:
        window = log.window(since, version=version.ref)
        labeled = log.labeled(since, version=version.ref) if version.task in CLASSIFIERS else []
        counts = log.counts(since)
    ids, overlap = seen_requests.find(ws, version, labeled)
    known = sum(truth is not None for truth in window["truth"])
    window["truth"] = [None if key in ids else truth for key, truth in zip(window["id"], window["truth"], strict=True)]
    report = replace(_report(served, version, window, sum(counts.errors.values())), labeled=known, overlap=overlap)
    checked = tuple(_check(registry, a, numbers(report)) for a in registry.alerts(served.name))
    report = replace(report, alerts=checked)
    return replace(report, next_step=_next_step(report, version))


def numbers(report: Report) -> dict[str, float]:
    """Return every number of a report that a rule may name."""
    found = {key: m.value for key, m in report.metrics.items()}
    found |= {f"share[{label}]": share for label, share in report.class_mix.items()}
    found |= {f"{name}_ms": value for name, value in report.latency_ms.items()}
    found |= {"requests": float(report.requests), "labeled": float(report.labeled), "errors": float(report.errors)}
    for name, value in (("drift", report.drift), ("confidence", report.confidence)):
        if value is not None:
            found[name] = value
    return found


def _report(served: Endpoint, version: Version, window: dict[str, list[Any]], refused: int) -> Report:
    labels, n = version.labels if version.task in CLASSIFIERS else (), len(window["id"])
    truths = [(t, p) for t, p in zip(window["truth"], window["label"], strict=True) if t is not None]
    metrics: dict[str, Metric] = {}
    if truths and labels:
        counts = measures.confusion([t for t, _ in truths], [p for _, p in truths], labels)
        metrics = measures.classification(counts, labels)
    now = {label: window["label"].count(label) / n for label in labels} if n else {}
    reference = {
        label: version.metrics[f"share[{label}]"].value for label in labels if f"share[{label}]" in version.metrics
    }
    drift = sum(abs(now[c] - reference.get(c, 0.0)) for c in labels) / 2 if n and reference else None
    confidence = version.metrics.get("confidence")
    times = latency.of(window)
    return Report(
        endpoint=served.name,
        version=version.ref,
        requests=n,
        labeled=len(truths),
        first_at=window["at"][0] if n else None,
        last_at=window["at"][-1] if n else None,
        latency_ms=times["latency_ms"],
        parts_ms=times["parts_ms"],
        bulk=times["bulk"],
        class_mix=now,
        reference_mix=reference,
        drift=drift,
        confidence=sum(window["confidence"]) / n if n else None,
        metrics=metrics,
        alerts=(),
        series=_series(window),
        errors=refused,
        reference_confidence=confidence.value if confidence else None,
    )


def _series(window: dict[str, list[Any]]) -> dict[str, list[float | None]]:
    """Cut the requests into equal slices, in the order they came."""
    n = len(window["id"])
    series: dict[str, list[float | None]] = {"requests": [], "confidence": [], "p95": [], "accuracy": []}
    buckets = min(_BUCKETS, n)
    for b in range(buckets):
        part = slice(b * n // buckets, (b + 1) * n // buckets)
        truths = [t == p for t, p in zip(window["truth"][part], window["label"][part], strict=True) if t is not None]
        confidence = window["confidence"][part]
        series["requests"].append(float(len(confidence)))
        series["confidence"].append(sum(confidence) / len(confidence))
        series["p95"].append(latency.p95(window, part))
        series["accuracy"].append(sum(truths) / len(truths) if truths else None)
    return series


def _check(registry: "Registry", kept: Alert, values: dict[str, float]) -> Alert:
    rule = metric_rules.parse(kept.rule, [k.split("[", 1)[1][:-1] for k in values if "[" in k] or _classes(kept.rule))
    state, value = rule.state(values)
    since = kept.since if state == kept.state else time.time()
    checked = replace(kept, state=state, value=value, checked_at=time.time(), since=since)
    registry.put_alert(checked)
    return checked


def _classes(rule: str) -> list[str]:
    return [rule.split("[", 1)[1].rsplit("]", 1)[0]] if "[" in rule else []


def _next_step(report: Report, version: Version) -> str:
    if not report.requests:
        return f'%sft_predict {report.endpoint} "some text" --endpoint'
    if not report.labeled:
        return f"%sft_feedback {report.endpoint} LABELS (columns id, label) tells how good these answers were"
    retrain = f"%sft_retrain {version.model} --from live --data {version.data}+feedback"
    if any(a.state == "firing" for a in report.alerts):
        return retrain
    if report.labeled >= _FEW_LABELS and report.drift is not None and report.drift > _DRIFT_WORTH_A_LOOK:
        return retrain
    return f'%sft_alert {report.endpoint} "accuracy < 0.8"' if not report.alerts else ""
