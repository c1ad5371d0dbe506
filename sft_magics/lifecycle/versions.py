"""Version control: list models and versions, name a version, and read who changed what."""

from typing import Annotated

from sft_magics.core import errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import Table, Version
from sft_magics.core.signatures import Names
from sft_magics.lifecycle import serve
from sft_magics.lifecycle.data import WorkspaceOption


def models(*, workspace: WorkspaceOption = None) -> Table:
    """List the models of this workspace."""
    from sft_magics.registry import Registry

    rows = tuple(Registry(places.find(workspace)).models())
    return Table("models", rows, "" if rows else "%sft_create NAME --base minilm --data DATASET")


def versions(
    model: Annotated[str | None, "the model; without it all", Names("model")] = None,
    *,
    workspace: WorkspaceOption = None,
) -> Table:
    """List a model's versions, newest first: metrics with intervals, parent, data, size, aliases, status."""
    from sft_magics.registry import Registry

    registry = Registry(places.find(workspace))
    if model is not None:
        registry.model(model)
    rows = tuple(registry.versions(model))
    return Table("versions", rows, "" if rows else f"%sft_finetune {model or 'MODEL'}")


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
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    references.check_name(alias, "alias")
    found = registry.version(version)
    if drop:
        users = serve.following(ws, found.model, alias)
        if users:
            names = ", ".join(e.name for e in users)
            raise errors.Refused(
                f"Endpoint {names} follows {found.model}@{alias}.", f"%sft_stop {users[0].name} first."
            )
        registry.drop_alias(found.model, alias, reason=reason)
        return registry.version(found.ref)
    if found.status != "retired":
        for endpoint in serve.following(ws, found.model, alias):
            if endpoint.version != found.ref:
                serve.put_behind(ws, endpoint.name, endpoint.ref, found)
    registry.set_alias(found.model, alias, found.number, reason=reason)
    return registry.version(found.ref)


def history(
    model: Annotated[str | None, "the model; without it everything", Names("model")] = None,
    *,
    workspace: WorkspaceOption = None,
) -> Table:
    """Show the audit log, newest first: who changed what, when, on which host, and why."""
    from sft_magics.registry import Registry

    return Table("history", tuple(Registry(places.find(workspace)).history(model)))
