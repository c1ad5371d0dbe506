"""Version control: list models and versions, name a version, and read who changed what."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from sft_magics.core import errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import AliasAt, Table, Version
from sft_magics.core.signatures import Names
from sft_magics.lifecycle.endpoints import rollout
from sft_magics.lifecycle.inputs import bases, data_versions
from sft_magics.lifecycle.options import TaskName, WorkspaceOption
from sft_magics.lifecycle.versions import timestamps

if TYPE_CHECKING:
    from sft_magics.registry import Registry


def models(
    *,
    task: Annotated[TaskName | None, "list bases for this task instead"] = None,
    data: Annotated[str | None, "rank the bases that are here for this dataset", Names("dataset")] = None,
    workspace: WorkspaceOption = None,
) -> Table:
    """List the models of this workspace; or, with --task or --data, the bases one could begin with.

    Of those whose weights are on this machine, what a training step takes here is measured, once a machine. With --data
    they are ranked by a linear probe on their features of up to 500 training rows: quick, and only a hint, as
    fine-tuning does better with any. Raises DataProblem for data of a task that has no classes to probe.
    """
    from sft_magics.registry import Registry

    if task is not None or data is not None:
        return bases.listed(places.find(workspace), task, data)
    rows = tuple(Registry(places.find(workspace)).models())
    return Table("models", rows, "" if rows else "%sft_create NAME --base minilm --data DATASET")


def versions(
    model: Annotated[str | None, "the model; without it all", Names("model")] = None,
    *,
    sort: Annotated[str, "made, number, size, added, or a metric: f1, recall[negative]"] = "made",
    workspace: WorkspaceOption = None,
) -> Table:
    """List a model's versions: metrics with intervals, the settings in which they differ, parent, data, size, note.

    Metrics that were measured on other data than the rest are marked.
    """
    from sft_magics.registry import Registry

    registry = Registry(places.find(workspace))
    if model is not None:
        registry.model(model)
    rows = _sorted(registry.versions(model), sort)
    return Table.compared("versions", rows, "" if rows else f"%sft_finetune {model or 'MODEL'}")


_ORDERS: dict[str, Callable[[Version], float]] = {
    "number": lambda v: v.number,
    "size": lambda v: v.size,
    "added": lambda v: v.added,
}


def _sorted(rows: list[Version], sort: str) -> list[Version]:
    if sort == "made":
        return rows
    order = _ORDERS.get(sort)
    if order is None:
        known = {key for v in rows for key in v.metrics}
        if rows and sort not in known:
            raise errors.UsageProblem(
                f"The versions cannot be sorted by '{sort}'.{errors.did_you_mean(sort, known | _ORDERS.keys())}",
                f"sort by made, number, size, added, or a metric: {', '.join(sorted(known)[:8])}.",
            )

        def order(version: Version) -> float:
            value = version.metrics[sort].value if sort in version.metrics else math.nan
            return -math.inf if math.isnan(value) else value

    return sorted(rows, key=order, reverse=True)


def alias(
    version: Annotated[str, "the version: reviews:1", Names("version")],
    alias: Annotated[str, "live, candidate, or any name of yours", Names("alias")],
    *,
    reason: Annotated[str, "why; it is kept in the history"] = "",
    drop: Annotated[bool, "take the alias away instead"] = False,
    workspace: WorkspaceOption = None,
) -> Version:
    """Let an alias name a version; endpoints that were deployed by this alias switch with it.

    `live` remembers what was live before as `previous`. An endpoint that cannot take the version keeps the old one, and
    the alias stays. Raises Refused for a retired version.
    """
    from sft_magics.registry import UNSET, Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    references.check_name(alias, "alias")
    found = registry.version(version)
    if drop:
        users = rollout.following(ws, found.model, alias)
        if users:
            names = ", ".join(e.name for e in users)
            raise errors.Refused(
                f"Endpoint {names} follows {found.model}@{alias}.", f"%sft_stop {users[0].name} first."
            )
        registry.drop_alias(found.model, alias, reason=reason)
        return registry.version(found.ref)
    rollout.move_alias(ws, registry, found, alias, reason=reason, expected=UNSET)
    return registry.version(found.ref)


def history(
    model: Annotated[str | None, "the model; without it everything", Names("model")] = None,
    *,
    dataset: Annotated[
        str | None, "what became of this dataset instead: made, dropped, which runs used it", Names("dataset")
    ] = None,
    at: Annotated[str, 'what the aliases were then: "2026-11-17 14:30", 2h, 3d'] = "",
    workspace: WorkspaceOption = None,
) -> Table:
    """Show the audit log, newest first: who changed what, when, on which host, from which cell, and why.

    With --at it shows what every alias named at that moment.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    if dataset is not None:
        if model is not None or at:
            raise errors.UsageProblem(
                "--dataset shows the history of a dataset alone.", f"%sft_history --dataset {dataset}"
            )
        return data_versions.history(ws, registry, dataset)
    if not at:
        return Table("history", tuple(registry.history(model)))
    moment = timestamps.parse(at)
    return Table("aliases", _then(registry, model, moment), "" if model else "%sft_history MODEL shows every change.")


def _then(registry: "Registry", model: str | None, moment: float) -> tuple[AliasAt, ...]:
    """Replay the log up to a moment. The order is that of the changes; a clock may have been set back meanwhile."""
    found: dict[str, AliasAt] = {}
    for entry in reversed(registry.history(model)):
        name, mark, alias = entry.subject.partition("@")
        if not mark or entry.at > moment:
            continue
        found.pop(entry.subject, None)
        if entry.after is not None:
            found[entry.subject] = AliasAt(name, alias, entry.after, entry.at, entry.who, entry.reason)
    return tuple(found[subject] for subject in sorted(found))
