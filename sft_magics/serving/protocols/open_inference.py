"""Open Inference Protocol V2 over REST, with the binary tensor extension: `tritonclient.http` and other such clients.

https://github.com/kserve/open-inference-protocol
"""

import importlib.metadata
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from sft_magics.serving.http import bodies, dispatch, parsing
from sft_magics.serving.http.replies import json_reply, told
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols import columns, naming, tensors
from sft_magics.serving.protocols.columns import Column
from sft_magics.serving.scheduling.requests import Answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext

_HEADER = "inference-header-content-length"
_EXAMPLE = 'send for example {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a text"]}]}.'


async def server(_: "EndpointContext", __: "Request") -> Any:
    """Answer GET /v2."""
    return {
        "name": "sft_magics",
        "version": importlib.metadata.version("sft_magics"),
        "extensions": ["binary_tensor_data"],
    }


async def live(_: "EndpointContext", __: "Request") -> Any:
    """Answer GET /v2/health/live."""
    return {"live": True}


async def ready(desk: "EndpointContext", _: "Request") -> Any:
    """Answer GET /v2/health/ready."""
    await desk.readiness.check(desk)
    return {"ready": True}


async def model(desk: "EndpointContext", request: "Request") -> Any:
    """Answer GET /v2/models/NAME: what goes in, what comes out."""
    found = _model(desk, request)
    asked = {"name": columns.input_name(found.task), "datatype": "BYTES", "shape": [-1]}
    answers = [
        {"name": c.name, "datatype": c.datatype, "shape": [-1, c.width] if c.width else [-1]}
        for c in columns.described(found)
    ]
    return {
        "name": request.path_params["name"], "versions": [naming.number(found)], "platform": f"sft_{found.task}",
        "inputs": [asked], "outputs": answers,
    }  # fmt: skip


async def model_ready(desk: "EndpointContext", request: "Request") -> Any:
    """Answer GET /v2/models/NAME/ready."""
    _model(desk, request)
    await desk.readiness.check(desk)
    return {"name": request.path_params["name"], "ready": True}


async def infer(desk: "EndpointContext", request: "Request") -> Any:
    """Answer POST /v2/models/NAME/infer."""
    async with dispatch.inside(desk):
        found = _model(desk, request)
        data = await bodies.read(request)
        size = _json_size(request, len(data))
        if size == 0:  # the whole body is the one element
            body: dict[str, Any] = {}
            items = [parsing.item(tensors.decoded(data, found.task, "the body"), found.task)]
        else:
            body = bodies.parse_object(data[:size], _EXAMPLE)
            items = tensors.read(body.get("inputs"), data[size:], found.task)
        chosen = _chosen(body, columns.described(found))
        request_id = body.get("id")
        if request_id is not None:
            parsing.text(request_id, "id", parsing.MAX_ID)
        answer = await dispatch.ask(desk, request, parsing.asked(items))
        return _reply(request, answer, columns.outputs(found.task, answer), chosen, request_id)


def _model(desk: "EndpointContext", request: "Request") -> Any:
    return naming.called(desk, request.path_params["name"], request.path_params.get("version", ""))


def _json_size(request: "Request", total: int) -> int:
    given = request.headers.get(_HEADER)
    if given is None:
        return total
    if not given.isascii() or not given.isdecimal() or len(given) > 12 or int(given) > total:
        raise HttpProblem(400, f"Inference-Header-Content-Length shall be a number up to {total:,}, the body's length.")
    return int(given)


def _chosen(body: dict[str, Any], known: list[Column]) -> dict[str, bool]:
    """Return the names of the outputs that are wanted, and whether each is wanted in binary."""
    usual = _flag(body.get("parameters"), "binary_data_output", "parameters")
    given = body.get("outputs")
    if given is None or given == []:
        return {column.name: usual for column in known}
    if not isinstance(given, list) or not all(isinstance(o, dict) for o in given):
        raise HttpProblem(400, '"outputs" shall be a list of objects such as {"name": "label"}.')
    names = [column.name for column in known]
    for output in given:
        if output.get("name") not in names:
            raise HttpProblem(400, f"There is no output {output.get('name')!r:.80}; there are {', '.join(names)}.")
    return {o["name"]: _flag(o.get("parameters"), "binary_data", o["name"], usual) for o in given}


def _flag(parameters: Any, name: str, where: str, usual: bool = False) -> bool:
    if parameters is None:
        return usual
    if not isinstance(parameters, dict):
        raise HttpProblem(400, f'The parameters of "{where}" shall be an object.')
    for unknown in ("classification", "shared_memory_region"):
        if parameters.get(unknown):
            raise HttpProblem(400, f'The parameter "{unknown}" is not known here; the output "scores" has every class.')
    value = parameters.get(name, usual)
    if not isinstance(value, bool):
        raise HttpProblem(400, f'"{name}" is {parsing.kind(value)}; it shall be true or false.')
    return value


def _reply(
    request: "Request", answer: Answer, found: list[Column], chosen: dict[str, bool], request_id: str | None
) -> Response:
    made = [tensors.written(c, len(answer.rows), binary=chosen[c.name]) for c in found if c.name in chosen]
    head: dict[str, Any] = {
        "model_name": request.path_params["name"], "model_version": answer.version.rpartition(":")[2],
        "outputs": [tensor for tensor, _ in made],
    }  # fmt: skip
    if request_id is not None:
        head["id"] = request_id
    if not any(chosen.values()):
        return json_reply(head, 200, told(answer))
    data = json.dumps(head, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    body = data + b"".join(binary for _, binary in made)
    return Response(body, 200, {_HEADER: str(len(data)), **told(answer)}, media_type="application/octet-stream")
