"""Stage 3, deploy: serve a named version over HTTP, in a process of its own, on loopback, behind a token."""

import os
import re
from dataclasses import replace
from typing import Annotated, Literal

from sft_magics.core import errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import Endpoint, Table, Version
from sft_magics.core.signatures import Names
from sft_magics.lifecycle.endpoints import rollout
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?")


def deploy(
    version: Annotated[str, "a version or an alias: reviews:1, reviews@live", Names("version")],
    *,
    name: Annotated[str | None, "the endpoint's name; without it the model's", Names("endpoint")] = None,
    port: Annotated[int | Literal["auto"], "a TCP port on 127.0.0.1"] = "auto",
    public: Annotated[bool, "let other machines reach it, with its token; says what that lays open"] = False,
    hosts: Annotated[str, "with --public: names by which a proxy calls it, parted by commas"] = "",
    socket: Annotated[bool, "a Unix socket in the endpoint's folder instead of a port"] = False,
    keep: Annotated[bool, "let it live on when this notebook's kernel ends"] = False,
    idle_stop: Annotated[float, "minutes without a request after which it stops itself; 0 never"] = 60.0,
    engine: Annotated[
        Literal["auto", "torch", "openvino", "onnx", "onnx-int8"], "what computes; auto: the lightest that agrees"
    ] = "auto",
    threads: Annotated[int | Literal["auto"], "CPU threads"] = "auto",
    log_inputs: Annotated[bool, "keep what was asked in the prediction log, not only its hash"] = True,
    unchecked: Annotated[bool, "serve it even where it does not answer its stored examples as it did"] = False,
    workspace: WorkspaceOption = None,
) -> Endpoint:
    """Serve a version. If the endpoint runs already it switches to this version without losing a request.

    OpenVINO or ONNX Runtime compute where they are installed and say what torch says on the validation rows; the first
    deploy of a version finds that out. SFT_ENGINE names another default.

    The newest version is never deployed by accident: name a number or an alias. Raises Refused for a retired version,
    EndpointProblem when the port is taken or the endpoint does not come up.
    """
    from sft_magics.registry import Registry
    from sft_magics.serving.client import lifecycle as serving

    ws = places.find(workspace)
    asked = references.parse(version)
    if asked.number is None and asked.alias is None:
        raise errors.UsageProblem(
            f"%sft_deploy needs a version or an alias: '{version}' would be whatever is newest.",
            f"write %sft_deploy {version}@live, or %sft_deploy {version}:1.",
        )
    found = Registry(ws).version(version)
    if found.status == "retired":
        heir = f"; its successor is {found.successor}" if found.successor else ""
        raise errors.Refused(
            f"{found.ref} is retired{heir}.", f"%sft_deploy {found.successor or found.model + '@live'} serves another."
        )
    endpoint = references.check_name(name or found.model, "endpoint")
    wanted = os.environ.get("SFT_ENGINE", engine) if engine == "auto" else engine
    _check_doors(port, hosts, public=public, socket=socket)
    there = next((e for e in rollout.running(ws) if e.name == endpoint), None)
    if there is not None:
        _check_model(there, found)
        _check_same_door(there, public=public, socket=socket)
        return rollout.put_behind(ws, replace(there, wanted=wanted), version, found, checked=not unchecked)
    order = rollout.prepared(ws, found, wanted, checked=not unchecked)
    with client.telling(f"starting endpoint {endpoint}") as say:
        say("loading the model", 0, 0)
        return serving.start(
            ws,
            name=endpoint,
            model=found.model,
            ref=version,
            version=found.ref,
            task=found.task,
            example=rollout.example_of(ws, found),
            wanted=wanted,
            log_inputs=log_inputs,
            port=0 if port == "auto" else int(port),
            keep=keep,
            idle_stop=idle_stop * 60.0,
            threads=None if threads == "auto" else int(threads),
            public=public,
            hosts=hosts,
            socket=socket,
            progress=lambda what: say(what, 0, 0),
            **order,
        )


def _check_doors(port: int | str, hosts: str, *, public: bool, socket: bool) -> None:
    if socket and (public or port != "auto"):
        raise errors.UsageProblem(
            "--socket gives the endpoint no port, so it goes with neither --port nor --public.", "choose one of them."
        )
    if hosts and not public:
        raise errors.UsageProblem("--hosts names a public endpoint.", "add --public, or leave --hosts out.")
    wrong = next((h for h in hosts.split(",") if hosts and not _HOST.fullmatch(h.strip())), None)
    if wrong is not None:
        raise errors.UsageProblem(
            f"'{wrong}' in --hosts is no name of a host.", "write --hosts models.example.org, with :PORT if it has one."
        )


def _check_same_door(there: Endpoint, *, public: bool, socket: bool) -> None:
    """Refuse to open a running endpoint to others, or to move it, in passing."""
    if (public and not there.public) or (socket and not there.socket):
        where = f"{there.name} answers at {there.url} already"
        raise errors.Refused(
            f"{where}, and a running endpoint does not move.", f"%sft_stop {there.name} first, then the same line."
        )


def _check_model(there: Endpoint, version: Version) -> None:
    if there.model != version.model:
        raise errors.Refused(
            f"Endpoint {there.name} answers for the model {there.model}, and {version.ref} is another.",
            f"add --name NAME for an endpoint of its own, or %sft_stop {there.name} first.",
        )


def endpoints(*, workspace: WorkspaceOption = None) -> Table:
    """List the endpoints: state, version, URL, requests."""
    from sft_magics.serving.client import lifecycle as serving

    rows = tuple(serving.endpoints(places.find(workspace)))
    return Table("endpoints", rows, "" if rows else "%sft_deploy MODEL@live")
