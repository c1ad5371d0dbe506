"""Stage 3, deploy: serve a named version over HTTP, in a process of its own, on loopback, behind a token."""

import os
from dataclasses import replace
from typing import Annotated, Literal

from sft_magics.core import errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import Endpoint, Table, Version
from sft_magics.core.signatures import Names
from sft_magics.lifecycle import serve, work
from sft_magics.lifecycle.data import WorkspaceOption


def deploy(
    version: Annotated[str, "a version or an alias: reviews:1, reviews@live", Names("version")],
    *,
    name: Annotated[str | None, "the endpoint's name; without it the model's", Names("endpoint")] = None,
    port: Annotated[int | Literal["auto"], "a TCP port on 127.0.0.1"] = "auto",
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
    from sft_magics.serving import control as serving

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
    there = next((e for e in serve.running(ws) if e.name == endpoint), None)
    if there is not None:
        _check_model(there, found)
        return serve.put_behind(ws, replace(there, wanted=wanted), version, found, checked=not unchecked)
    order = serve.prepared(ws, found, wanted, checked=not unchecked)
    with work.telling(f"starting endpoint {endpoint}") as say:
        say("loading the model", 0, 0)
        return serving.start(
            ws,
            name=endpoint,
            model=found.model,
            ref=version,
            version=found.ref,
            task=found.task,
            wanted=wanted,
            log_inputs=log_inputs,
            port=0 if port == "auto" else int(port),
            keep=keep,
            idle_stop=idle_stop * 60.0,
            threads=None if threads == "auto" else int(threads),
            progress=lambda what: say(what, 0, 0),
            **order,
        )


def _check_model(there: Endpoint, version: Version) -> None:
    if there.model != version.model:
        raise errors.Refused(
            f"Endpoint {there.name} answers for the model {there.model}, and {version.ref} is another.",
            f"add --name NAME for an endpoint of its own, or %sft_stop {there.name} first.",
        )


def endpoints(*, workspace: WorkspaceOption = None) -> Table:
    """List the endpoints: state, version, URL, requests."""
    from sft_magics.serving import control as serving

    rows = tuple(serving.endpoints(places.find(workspace)))
    return Table("endpoints", rows, "" if rows else "%sft_deploy MODEL@live")
