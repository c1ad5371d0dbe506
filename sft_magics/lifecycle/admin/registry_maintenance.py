"""The registry's own upkeep: look whether all is well, put it together again, copy it, and take a copy back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import Check, Table
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.options import WorkspaceOption

if TYPE_CHECKING:
    from sft_magics.registry import Registry
    from sft_magics.registry.journal import JournalStorage


def registry_(
    *,
    verify: Annotated[
        bool, "read every file, row and weight and compare hashes (what is done without an option)"
    ] = False,
    repair: Annotated[bool, "put a damaged registry together again; the damaged files are kept"] = False,
    backup: Annotated[Path | None, "write a copy of the registry to this new file"] = None,
    restore: Annotated[Path | None, "let the registry be what this backup holds; the present one is kept"] = None,
    workspace: WorkspaceOption = None,
) -> Table:
    """Verify, repair, back up or restore the registry: what is known of data, models, versions, aliases and changes.

    A backup holds the records, not the weights, which lie in the artifact store. Nothing is ever thrown away: a repair
    and a restore say where they left what they found. Raises UsageProblem for two things at once.
    """
    asked = [name for name, on in _asked(verify, repair, backup, restore).items() if on]
    if len(asked) > 1:
        raise errors.UsageProblem(
            f"--{asked[0]} and --{asked[1]} are two things.", f"%sft_registry --{asked[0]}, then the other."
        )
    ws = places.find(workspace)
    if backup is not None:
        return _backup(ws, backup)
    if restore is not None:
        return _restore(ws, restore)
    return _repair(ws) if repair else _verify(ws)


def _asked(verify: bool, repair: bool, backup: Path | None, restore: Path | None) -> dict[str, bool]:
    return {"verify": verify, "repair": repair, "backup": backup is not None, "restore": restore is not None}


def _storage(ws: Workspace) -> "JournalStorage":
    from sft_magics.registry.journal import JournalStorage

    return JournalStorage(ws.registry / "registry.json")


def _backup(ws: Workspace, target: Path) -> Table:
    from sft_magics.registry import upkeep

    size = upkeep.backup(_storage(ws), target)
    step = f"%sft_registry --restore {target} takes it back."
    return _table([Check("backup", f"{target}, {size / 1e3:,.0f} kB", next_step=step)])


def _restore(ws: Workspace, source: Path) -> Table:
    from sft_magics.registry import Registry, upkeep

    before = upkeep.restore(_storage(ws), source)
    registry = Registry(ws)
    registry.note_upkeep("restore", f"from {source}")
    what = f"{len(registry.models())} models, {len(registry.versions()):,} versions from {source}"
    step = f"%sft_registry --restore {before} undoes it." if before and before.is_file() else ""
    kept = [Check("before", str(before), next_step=step)] if before else []
    return _table([Check("restore", what), *kept, *_content(ws, registry)])


def _repair(ws: Workspace) -> Table:
    from sft_magics.registry import Registry, upkeep

    done = upkeep.repair(_storage(ws))
    if done.kept is None:
        return _table([Check("repair", "the registry is in order; nothing was changed")])
    mended = f", {done.mended} of them with one flipped bit put right" if done.mended else ""
    rows = [Check("repair", f"began from {done.began} and added {done.added:,} changes{mended}")]
    if done.lost:
        numbers = f"{done.lost[0]:,}" + (f" to {done.lost[-1]:,}" if len(done.lost) > 1 else "")
        step = "%sft_registry --restore FILE, if a backup of yours is newer."
        rows.append(Check("lost", f"change {numbers}: {len(done.lost):,} in all", "problem", step))
    rows.append(Check("damaged files", f"kept in {done.kept}"))
    registry = Registry(ws)
    registry.note_upkeep("repair", rows[0].value)
    return _table([*rows, *_content(ws, registry)])


def _verify(ws: Workspace) -> Table:
    from sft_magics.registry import Registry, upkeep

    storage = _storage(ws)
    registry = Registry(ws)
    try:
        storage.newest()
    except errors.WorkspaceProblem as error:
        opens = Check("registry", error.what, "problem", error.next_step)
        files = [Check(name, wrong or "whole", "problem" if wrong else "ok") for name, wrong in upkeep.check(storage)]
        return _table([opens, *files])
    storage.compact()
    files = [_file(name, wrong) for name, wrong in upkeep.check(storage)]
    return _table([*files, *_content(ws, registry)])


def _file(name: str, wrong: str | None) -> Check:
    if wrong is None:
        return Check(name, "whole")
    return Check(name, wrong, "warning", "the next two compactions replace it; the registry itself is whole.")


def _content(ws: Workspace, registry: "Registry") -> list[Check]:
    """Check that the rows agree with each other, and that the weights are there and as they were saved."""
    wrong = registry.contradictions()
    rows = [Check("records", text, "problem", "%sft_history shows who changed it.") for text in wrong]
    counts = f"{len(registry.models())} models, {len(registry.versions()):,} versions agree with each other"
    return [*(rows or [Check("records", counts)]), *_weights(ws, registry)]


def _weights(ws: Workspace, registry: "Registry") -> list[Check]:
    from sft_magics.registry import ArtifactStore

    store = ArtifactStore(ws.artifacts)
    found: dict[str, str] = {}
    there = set(store.ids())
    for version in registry.versions():
        collected = version.status == "retired" and version.artifact not in there
        if version.artifact in found or collected:
            continue
        try:
            store.verify(version.artifact)
            found[version.artifact] = ""
        except errors.SftError as error:
            found[version.artifact] = f"{version.ref}: {error.what}"
    bad = [text for text in found.values() if text]
    step = "retire it, or restore the artifacts folder from a copy of yours."
    if bad:
        return [Check("weights", text, "problem", step) for text in bad]
    return [Check("weights", f"{len(found):,} artifacts are as they were saved" if found else "none yet")]


def _table(rows: list[Check]) -> Table:
    problem = next((row.next_step for row in rows if row.state == "problem" and row.next_step.startswith("%")), "")
    return Table("registry checks", tuple(rows), problem)
