"""Stage 6, retire: take a version out of use, hand its aliases and endpoints to a successor, free what nobody needs."""

import shutil
from typing import TYPE_CHECKING, Annotated

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import Endpoint, Retirement, Version
from sft_magics.core.signatures import Names
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.endpoints import rollout
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption

if TYPE_CHECKING:
    from sft_magics.registry import Registry


def retire(
    version: Annotated[str, "the version to retire", Names("version")],
    *,
    successor: Annotated[str | None, "the version that takes over its aliases and endpoints", Names("version")] = None,
    reason: Annotated[str, "why; it is kept in the history"] = "",
    workspace: WorkspaceOption = None,
) -> Retirement:
    """Retire a version: its aliases and endpoints move to the successor, its run's checkpoints are freed.

    The weights and the record stay, so what was live can always be looked at again. Without a successor it is refused
    while an alias or an endpoint needs the version. Endpoints switch before the version is marked.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    old = registry.version(version)
    if old.status == "retired":
        raise errors.Refused(f"{old.ref} is retired already.", f"%sft_history {old.model} says when and why.")
    heir = _heir(registry, old, successor)
    users = [e for e in rollout.running(ws) if e.version == old.ref]
    aliases = tuple(a for a in old.aliases if a != "previous")
    if heir is None and (users or aliases):
        names = ", ".join([*(f"alias {a}" for a in aliases), *(f"endpoint {e.name}" for e in users)])
        raise errors.Refused(
            f"{old.ref} is still needed by {names}.", f"add --successor {old.model}:N, the version that takes over."
        )
    if heir is not None:
        _switch(ws, users, heir)
    with registry.transaction():
        if heir is not None:
            _hand_over(registry, old, heir, aliases, reason)
        registry.retire_version(old.ref, successor=heir.ref if heir else None, reason=reason)
    return Retirement(
        old.ref, heir.ref if heir else None, reason, aliases, tuple(e.name for e in users), _free(ws, old.run)
    )


def _heir(registry: "Registry", old: Version, successor: str | None) -> Version | None:
    if successor is None:
        return None
    heir = registry.version(successor)
    if heir.ref == old.ref:
        raise errors.Refused(f"{old.ref} cannot succeed itself.", f"%sft_versions {old.model} lists the others.")
    if heir.status == "retired":
        raise errors.Refused(f"{heir.ref} is retired itself.", f"%sft_versions {old.model} lists the others.")
    if heir.model != old.model or heir.labels != old.labels:
        raise errors.Refused(
            f"{heir.ref} does not answer what {old.ref} answers (another model or other labels).",
            f"%sft_versions {old.model} lists its versions.",
        )
    return heir


def _switch(ws: Workspace, users: list[Endpoint], heir: Version) -> None:
    for endpoint in users:
        ref = endpoint.ref if "@" in endpoint.ref else heir.ref
        rollout.put_behind(ws, endpoint, ref, heir)


def _hand_over(registry: "Registry", old: Version, heir: Version, aliases: tuple[str, ...], reason: str) -> None:
    for alias in aliases:
        registry.set_alias(old.model, alias, heir.number, reason=f"{old.ref} retired: {reason}")
    if "candidate" in heir.aliases and "live" in aliases:
        registry.drop_alias(heir.model, "candidate", reason="it is live now")


def _free(ws: Workspace, run: str) -> int:
    """Delete the run's checkpoints and working weights; the committed weights lie in the store."""
    freed = 0
    for name in client.LEFTOVERS:
        folder = ws.runs / run / name
        if folder.is_dir():
            freed += client.size_of(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return freed
