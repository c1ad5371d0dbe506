"""How stages reach endpoints: put a version behind one, and keep endpoints with the alias they follow."""

from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Endpoint, Version
from sft_magics.core.runtime import interrupts
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.endpoints import engine_choice
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.jobs.commit import examples_of

if TYPE_CHECKING:
    from sft_magics.registry import Registry, Unset

_SHOWN, _USUAL = 200, 60  # characters of an example
LIVE_STATES = ("starting", "ready", "draining")


def prepared(ws: Workspace, version: Version, wanted: str, *, checked: bool = True) -> dict[str, Any]:
    """Return what an endpoint needs to load a version: its files, the engine that reads them, examples to answer.

    `wanted` is an engine or "auto", see `engine_choice.choose`, which also says what is raised. Where the chosen engine
    does not answer the examples as the version did, the others are tried in turn (see `engine_choice.others`).
    """
    from sft_magics.registry import ArtifactStore

    folder = ArtifactStore(ws.artifacts).checkout(version.artifact)
    choice = engine_choice.choose(ws, version, folder, wanted)
    examples = examples_of(ws, version) if checked else ""
    why = choice.why if wanted == engine_choice.AUTO else ""
    others = engine_choice.others(choice, folder.absolute(), wanted) if examples else ()
    chosen = {"folder": choice.folder, "engine": choice.engine, "engine_why": why, "others": others}
    return {**chosen, "labels": version.labels, "examples": examples}


def example_of(ws: Workspace, version: Version) -> str:
    """Return a short text of those that a version was measured on, to try it with; none of a model for images."""
    from sft_magics.serving.scheduling import golden_examples

    texts = [e.asked for e in golden_examples.load(examples_of(ws, version), version.task) if isinstance(e.reads, str)]
    plain = [text for text in texts if len(text) <= _SHOWN and text.isprintable()]
    return min(plain, key=lambda text: abs(len(text) - _USUAL), default="")


def put_behind(ws: Workspace, endpoint: Endpoint, ref: str, version: Version, *, checked: bool = True) -> Endpoint:
    """Let a running endpoint answer with `version` from now on; requests under way are answered by the old one."""
    from sft_magics.serving.client import lifecycle as serving

    order = prepared(ws, version, endpoint.wanted, checked=checked)
    with client.telling(f"switching endpoint {endpoint.name} to {version.ref}") as say:
        say("loading and warming up", 0, 0)
        try:
            return serving.swap(ws, endpoint.name, ref=ref, version=version.ref, **order)
        except KeyboardInterrupt:
            # The endpoint has its order and carries it out, whoever waits for it or not.
            say("going back", 0, 0)
            _put_back(ws, endpoint)
            raise errors.Interrupted(
                f"Switching endpoint {endpoint.name} to {version.ref} was interrupted; {endpoint.version} answers on.",
                f"%sft_deploy {ref} --name {endpoint.name}",
            ) from None


def _put_back(ws: Workspace, endpoint: Endpoint) -> None:
    """Let an endpoint answer again with what it answered with, after an order that nobody waited for."""
    from sft_magics.registry import Registry
    from sft_magics.serving.client import lifecycle as serving

    version = Registry(ws).version(endpoint.version)
    order = prepared(ws, version, endpoint.engine, checked=False)
    order.pop("engine_why")
    serving.swap(ws, endpoint.name, ref=endpoint.ref, version=version.ref, **order)


def running(ws: Workspace) -> list[Endpoint]:
    """Return the endpoints that answer."""
    from sft_magics.serving.client import lifecycle as serving

    return [e for e in serving.endpoints(ws) if e.state in LIVE_STATES]


def following(ws: Workspace, model: str, alias: str) -> list[Endpoint]:
    """Return the running endpoints that were deployed as `model@alias`."""
    return [e for e in running(ws) if e.ref == f"{model}@{alias}"]


def move_alias(
    ws: Workspace,
    registry: "Registry",
    version: Version,
    alias: str,
    *,
    reason: str,
    expected: "int | Unset | None",
    action: str = "alias",
) -> tuple[str, ...]:
    """Switch the endpoints that follow an alias, then the alias; return their names. If it fails they switch back.

    `expected` and what is raised are `Registry.set_alias`'s.
    """
    followers = [e for e in following(ws, version.model, alias) if e.version != version.ref]
    switched: list[Endpoint] = []
    moved = False
    try:
        for endpoint in followers if version.status != "retired" else ():
            put_behind(ws, endpoint, endpoint.ref, version)
            switched.append(endpoint)
        with interrupts.held():
            registry.set_alias(version.model, alias, version.number, reason=reason, expected=expected, action=action)
            moved = True
    except (errors.SftError, KeyboardInterrupt):
        for endpoint in () if moved else switched:
            put_behind(ws, endpoint, endpoint.ref, registry.version(endpoint.ref))
        raise
    return tuple(endpoint.name for endpoint in followers)
