"""Promote a version to an alias through gates, and roll an alias back to what it was before."""

from typing import TYPE_CHECKING, Annotated, Any

from sft_magics.core import errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import Diff, GateResult, Promotion, Version
from sft_magics.core.references import Reference
from sft_magics.core.signatures import FromNamespace, Names
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.endpoints import rollout
from sft_magics.lifecycle.evaluation import gates
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.versions import diff as differences

if TYPE_CHECKING:
    from sft_magics.registry import Registry


def promote(
    version: Annotated[str, "the version: reviews:3", Names("version")],
    *,
    to: Annotated[str, "the alias it takes", Names("alias")] = "live",
    gate: Annotated[str, 'what must hold: "f1 >= 0.9; not-worse live"'] = "",
    data: Annotated[
        Any,
        "a dataset, file or DataFrame to compare on; without it that of the version before",
        Names("dataset"),
        FromNamespace(),
    ] = None,
    reason: Annotated[str, "why; it is kept in the history"] = "",
    workspace: WorkspaceOption = None,
) -> Promotion:
    """Let an alias name a version if its weights verify and every gate holds; endpoints that follow it switch first.

    Shows the difference from what the alias named before; rows that either version was trained on take no part in it,
    nor in a gate. Raises CheckFailed with the gate that failed and by how much, Refused for a retired version, and when
    someone else moved the alias meanwhile; then nothing has changed.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    alias = references.check_name(to, "alias")
    found = registry.version(version)
    wanted = gates.parse(gate, found)
    _check_ready(ws, found)
    current = registry.aliases(found.model).get(alias)
    old = registry.version(Reference(found.model, number=current)) if current is not None else None
    if old is not None and old.ref == found.ref:
        raise errors.Refused(
            f"{found.model}@{alias} is {found.ref} already.", f"%sft_history {found.model} says since when and why."
        )
    shown = differences.compare(ws, registry, old, found, data) if old is not None else None
    beside = _Beside(ws, registry, found, shown, data)
    results = tuple(gates.check(one, found, beside) for one in wanted)
    _check_passed(found, old, [result for result in results if not result.passed])
    endpoints = rollout.move_alias(ws, registry, found, alias, reason=reason, expected=current, action="promote")
    step = f"%sft_rollback {found.model}{'' if alias == 'live' else f' --to {alias}'} takes it back."
    if old is None and not endpoints:
        step = f"%sft_deploy {found.model}@{alias}"
    return Promotion(
        "promote", found.model, alias, old.ref if old else None, found.ref, reason, results, endpoints, shown, step
    )


def _check_passed(version: Version, old: Version | None, failed: list[GateResult]) -> None:
    if not failed:
        return
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    step = f"%sft_show {version.ref} shows its metrics."
    if old is not None:
        step = f"%sft_diff {old.ref} {version.ref} shows the rows."
    raise errors.CheckFailed(
        f"{version.ref} is not promoted: the gate {failed[0].gate} failed, {failed[0].seen}{more}.", step
    )


def rollback(
    model: Annotated[str, "the model", Names("model")],
    *,
    to: Annotated[str, "the alias to take back", Names("alias")] = "live",
    reason: Annotated[str, "why; it is kept in the history"] = "",
    workspace: WorkspaceOption = None,
) -> Promotion:
    """Let an alias name again what it named before; done again it goes further back. Endpoints that follow it switch.

    What it was is read from the history, so it is never guessed. Retired versions are passed over. Raises Refused when
    there is nothing to go back to, ModelProblem when the weights do not verify.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    alias = references.check_name(to, "alias")
    now = registry.version(Reference(model, alias=alias))
    before = [v for ref in registry.was_before(model, alias) if (v := registry.version(ref)).status != "retired"]
    if not before:
        raise errors.Refused(
            f"{model}@{alias} has been nothing else before {now.ref} that is not retired.",
            f"%sft_versions {model} lists what %sft_promote can take.",
        )
    found = before[0]
    _check_ready(ws, found)
    why = reason or f"back from {now.ref}"
    endpoints = rollout.move_alias(ws, registry, found, alias, reason=why, expected=now.number, action="rollback")
    return Promotion(
        "rollback", model, alias, now.ref, found.ref, reason, endpoints=endpoints,
        next_step=f"%sft_diff {found.ref} {now.ref} shows what went wrong.",
    )  # fmt: skip


def _check_ready(ws: Workspace, version: Version) -> None:
    """Refuse a version that is retired or whose weights are not as they were saved."""
    from sft_magics.registry import ArtifactStore

    if version.status == "retired":
        other = version.successor or f"{version.model}:NUMBER"
        raise errors.Refused(f"{version.ref} is retired.", f"%sft_promote {other} takes another one.")
    with client.telling(f"verifying the weights of {version.ref}") as say:
        say("reading", 0, 0)
        ArtifactStore(ws.artifacts).verify(version.artifact)


class _Beside:
    """Compares the version with others, each once."""

    def __init__(self, ws: Workspace, registry: "Registry", version: Version, shown: Diff | None, data: Any) -> None:
        self._ws, self._registry, self._version, self._data = ws, registry, version, data
        self._known: dict[str, Diff | None] = {shown.before: shown} if shown else {}

    def __call__(self, than: str) -> Diff | None:
        """Return the difference from an alias or reference; None when it is the version itself or nothing yet."""
        version = self._version
        if "@" not in than and ":" not in than:
            references.check_name(than, "alias")
            if than not in self._registry.aliases(version.model):
                if than == "live":
                    return None
                self._registry.version(Reference(version.model, alias=than))  # says which there are
            than = f"{version.model}@{than}"
        other = self._registry.version(than)
        if other.ref == version.ref:
            return None
        if other.ref not in self._known:
            self._known[other.ref] = differences.compare(self._ws, self._registry, other, version, self._data)
        return self._known[other.ref]
