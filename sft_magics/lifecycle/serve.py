"""How stages reach endpoints: put a version behind one, and keep endpoints with the alias they follow."""

from sft_magics.core.records import Endpoint, Version
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle import work

LIVE_STATES = ("starting", "ready", "draining")


def put_behind(ws: Workspace, endpoint: str, ref: str, version: Version) -> Endpoint:
    """Let a running endpoint answer with `version` from now on; requests under way are answered by the old one."""
    from sft_magics.registry import ArtifactStore
    from sft_magics.serving import control as serving

    with work.telling(f"switching endpoint {endpoint} to {version.ref}") as say:
        say("loading and warming up", 0, 0)
        folder = ArtifactStore(ws.artifacts).checkout(version.artifact)
        return serving.swap(ws, endpoint, ref=ref, version=version.ref, folder=folder, labels=version.labels)


def running(ws: Workspace) -> list[Endpoint]:
    """Return the endpoints that answer."""
    from sft_magics.serving import control as serving

    return [e for e in serving.endpoints(ws) if e.state in LIVE_STATES]


def following(ws: Workspace, model: str, alias: str) -> list[Endpoint]:
    """Return the running endpoints that were deployed as `model@alias`."""
    return [e for e in running(ws) if e.ref == f"{model}@{alias}"]
