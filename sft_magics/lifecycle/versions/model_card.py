"""The model card of a version: gathered from the registry at each look, so it is never out of date."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import Dataset, Endpoint, HistoryEntry, ModelCard, Version
from sft_magics.core.signatures import Names
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.versions import model_card_pages

if TYPE_CHECKING:
    from sft_magics.registry import Registry

USE = "intended-use"


def show(
    version: Annotated[str, "a version: reviews:3, reviews@live", Names("version")],
    *,
    to: Annotated[str, "also write it to this file, .md or .html", Names("file")] = "",
    workspace: WorkspaceOption = None,
) -> ModelCard:
    """Show a version's model card: lineage, options, environment, the cells that made it, metrics, use, history.

    It is gathered anew at each look. `--to` writes it as Markdown or HTML; an existing card there is replaced.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    found = gather(ws, registry, registry.version(version))
    if not to:
        return found
    return _written(found, Path(to).expanduser())


def gather(ws: Workspace, registry: "Registry", version: Version) -> ModelCard:
    """Return the card of a version as things are now."""
    from sft_magics.serving.client import lifecycle as serving

    endpoints = tuple(e for e in serving.endpoints(ws) if e.version == version.ref)
    children = tuple(v.ref for v in registry.versions() if v.parent == version.ref)
    moments = tuple(
        HistoryEntry(e.at, e.who, e.action, f"{e.subject}: {e.before or 'nothing'} → {e.after or 'nothing'}", e.reason)
        for e in registry.history(version.model)
        if e.subject.partition(" ")[0] == version.ref or version.ref in (e.before, e.after)  # "reviews:3 owner": a tag
    )
    lineage = _lineage(registry, version, endpoints)
    return ModelCard(
        version, registry.model(version.model), _dataset(registry, version), lineage, children, endpoints,
        version.tags.get(USE, ""), moments,
    )  # fmt: skip


def _dataset(registry: "Registry", version: Version) -> Dataset | None:
    try:
        return registry.data_of(version)
    except errors.NotFound:  # a version that came from another machine, without its data
        return None


def _lineage(registry: "Registry", version: Version, endpoints: tuple[Endpoint, ...]) -> tuple[str, ...]:
    """Return data -> parents -> run -> version -> endpoints, as text."""
    parents: list[str] = []
    parent = version.ancestor
    while parent is not None and parent not in parents:
        parents.insert(0, parent)
        try:
            parent = registry.version(parent).ancestor
        except errors.NotFound:
            parent = None
    origin = version.environment.get("imported") or {}
    elsewhere = [f"{origin['ref']} on {origin['host']}"] if origin.get("ref") else []
    base = registry.model(version.model).base
    data = f"data {version.data} ({version.data_fingerprint[:7]})"
    served = [f"endpoint {e.name}" for e in endpoints]
    cloned = [version.parent] if version.parent and version.parent != version.ancestor else []
    return (f"base {base}", data, *parents, *cloned, version.run, *elsewhere, version.ref, *served)


def _written(card: ModelCard, path: Path) -> ModelCard:
    writers = {".md": model_card_pages.markdown, ".html": model_card_pages.html}
    if path.suffix.lower() not in writers:
        raise errors.UsageProblem(
            f"A card is written as .md or .html, not as '{path.suffix or path.name}'.",
            f"write --to {path.with_suffix('.md').name}, or --to {path.with_suffix('.html').name}.",
        )
    if not path.parent.is_dir():
        raise errors.UsageProblem(f"There is no folder {path.parent}.", "make it first, or name another file.")
    text = writers[path.suffix.lower()](model_card_pages.sections(card))
    places.write_durably(path, text.encode("utf-8", "replace"))
    return replace(card, written_to=str(path.resolve()))
