"""Try a version at a running endpoint before it is live: with a share of the requests, or as a shadow."""

from typing import Annotated, Any

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import AgreementCell, Endpoint, ServedVersion, Traffic, Version
from sft_magics.core.signatures import Names
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.endpoints import rollout
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption

_EXAMPLE = "%sft_traffic {} live=90 candidate=10, or --shadow candidate"


def traffic(
    endpoint: Annotated[str, "the endpoint", Names("endpoint")],
    *shares: Annotated[str, "percentages by alias or version number: live=90 candidate=10"],
    shadow: Annotated[str | None, "an alias or a number that reads along and answers nobody"] = None,
    abort: Annotated[bool, "let the live version answer alone again"] = False,
    max_errors: Annotated[float, "by how much its share of errors may exceed the live version's"] = 0.02,
    max_slower: Annotated[float, "how many times slower its 95th percentile may be"] = 3.0,
    min_agreement: Annotated[float, "the share of a shadow's answers that have to be the same"] = 0.5,
    workspace: WorkspaceOption = None,
) -> Traffic:
    """Show who answers at an endpoint, or try a candidate there; it goes back by itself when the candidate does badly.

    From 50 answers of the candidate on, errors, latency and agreement are judged after every batch. The trial lives in
    the endpoint: it ends with it, or when its alias moves. Raises UsageProblem, NotFound, EndpointProblem.
    """
    from sft_magics.registry import Registry
    from sft_magics.serving.client import lifecycle as serving
    from sft_magics.serving.client.client import EndpointClient

    ws = places.find(workspace)
    served = serving.endpoint(ws, endpoint)
    if abort and (shares or shadow):
        raise errors.UsageProblem(
            "--abort ends a trial, and the other words begin one.", f"%sft_traffic {endpoint} --abort"
        )
    if abort:
        with EndpointClient(served) as client:
            client.abort("aborted by hand")
    elif shares or shadow:
        rules = {"errors": max_errors, "slower": max_slower, "agreement": min_agreement}
        _begin(ws, served, Registry(ws), _share(served, shares, shadow), rules)
    with EndpointClient(served) as client:
        return _told(served, client.stats())


def _share(served: Endpoint, shares: tuple[str, ...], shadow: str | None) -> tuple[str, float]:
    """Return the candidate's alias or number and its share; raises UsageProblem."""
    example = _EXAMPLE.format(served.name)
    if shadow and shares:
        raise errors.UsageProblem("A shadow answers nobody, so it has no percentage.", example)
    if shadow:
        return shadow, 0.0
    try:
        given = {name: float(number) for name, _, number in (word.partition("=") for word in shares)}
    except ValueError:
        raise errors.UsageProblem(f"'{' '.join(shares)}' are not percentages.", example) from None
    live = served.ref.rpartition("@")[2] if "@" in served.ref else served.version.rpartition(":")[2]
    others = [name for name in given if name not in ("live", live, served.version.rpartition(":")[2])]
    if len(others) != 1 or len(given) != 2 or abs(sum(given.values()) - 100) > 1e-6:
        raise errors.UsageProblem(f"'{' '.join(shares)}' shall be two percentages that make 100.", example)
    share = given[others[0]] / 100
    if not 0 < share < 1:
        raise errors.UsageProblem(f"A candidate's percentage is between 0 and 100, and not {share:.0%}.", example)
    return others[0], share


def _begin(ws: Workspace, served: Endpoint, registry: Any, chosen: tuple[str, float], rules: dict[str, float]) -> None:
    from sft_magics.serving.client import lifecycle as serving

    name, share = chosen
    ref = f"{served.model}:{name}" if name.isdecimal() else f"{served.model}@{name}"
    version: Version = registry.version(ref)
    if version.ref == served.version:
        raise errors.UsageProblem(f"{version.ref} is what answers already.", "%sft_versions lists the others.")
    if version.status == "retired":
        raise errors.Refused(f"{version.ref} is retired.", "%sft_versions lists the others.")
    order = rollout.prepared(ws, version, served.wanted)
    with client.telling(f"trying {version.ref} at {served.name}") as say:
        say("loading and warming up", 0, 0)
        serving.try_out(ws, served.name, ref=ref, version=version.ref, share=share, rules=rules, **order)


def _told(served: Endpoint, stats: dict[str, Any]) -> Traffic:
    trial, name = stats["trial"], served.name
    if trial is None:
        step = _EXAMPLE.format(name)
        return Traffic(name, str(stats["version"]), ended=str(stats["trial_ended"]), next_step=step)
    shares = {trial["version"]: trial["share"]}
    sides = tuple(
        ServedVersion(version, shares.get(version, 1.0 - trial["share"]), s["answered"], s["errors"], s["p95_ms"])
        for version, s in trial["sides"].items()
    )
    step = f"%sft_promote {trial['version']}, or %sft_traffic {name} --abort"
    return Traffic(
        name, str(stats["version"]), sides, trial["shadow"], trial["agreed"],
        tuple(AgreementCell(*pair) for pair in trial["agreement"]), trial["skipped"], next_step=step,
    )  # fmt: skip
