"""The REST forms of TensorFlow Serving: predict by rows (`instances`) or by columns (`inputs`), status, metadata.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from typing import TYPE_CHECKING, Any

from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS
from sft_magics.serving.http import bodies, decompression, dispatch, parsing
from sft_magics.serving.http.replies import json_reply, told
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols import columns, naming, openai, tensors
from sft_magics.serving.protocols.columns import Column, input_name
from sft_magics.serving.scheduling.loading import LoadedVersion

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext

_EXAMPLE = 'send for example {"instances": ["a text"]}.'
_SIGNATURE = "serving_default"
_TYPES = {"BYTES": "DT_STRING", "FP32": "DT_FLOAT"}


async def status(desk: "EndpointContext", request: "Request") -> Any:
    """Answer GET /v1/models/NAME; of a language model with what OpenAI's protocol says at the same path as well."""
    live = _live(desk, request)
    found = {"error_code": "OK", "error_message": ""}
    known = {"version": naming.number(live), "state": "AVAILABLE", "status": found}
    card = openai.card(desk, live, request.path_params["name"]) if live.task == CAUSAL_LM else {}
    return {**card, "model_version_status": [known]}


async def metadata(desk: "EndpointContext", request: "Request") -> Any:
    """Answer GET /v1/models/NAME/metadata."""
    live = _live(desk, request)
    asked = Column(input_name(live.task), "BYTES", [])
    signature = {
        "inputs": {asked.name: _tensor(asked)},
        "outputs": {column.name: _tensor(column) for column in columns.described(live)},
        "method_name": "tensorflow/serving/predict",
    }
    spec = {"name": request.path_params["name"], "signature_name": "", "version": naming.number(live)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": {_SIGNATURE: signature}}}}


async def predict(desk: "EndpointContext", request: "Request") -> Any:
    """Answer POST /v1/models/NAME:predict."""
    async with dispatch.inside(desk):
        task = _live(desk, request).task
        body = bodies.parse_object(await bodies.read(request), _EXAMPLE)
        by_rows = "instances" in body
        if by_rows == ("inputs" in body):
            raise HttpProblem(400, f'The body shall hold either "instances" or "inputs"; {_EXAMPLE}')
        if body.get("signature_name") not in (None, "", _SIGNATURE):
            raise HttpProblem(400, f'The one signature here is "{_SIGNATURE}".')
        values = _rows(body["instances"], task) if by_rows else _column(body["inputs"], task)
        if not values:
            raise HttpProblem(400, f"There is nothing to predict; {_EXAMPLE}")
        where = "instances" if by_rows else "inputs"
        decoded = [_plain(value, task, f"{where}[{i}]") for i, value in enumerate(values)]
        answer = await dispatch.ask(desk, request, parsing.asked(parsing.items(decoded, task, where)))
        found = columns.outputs(task, answer)
        if by_rows:
            rows = zip(*(column.values for column in found), strict=True)
            reply: Any = {"predictions": [dict(zip([c.name for c in found], row, strict=True)) for row in rows]}
        else:
            reply = {"outputs": {column.name: column.values for column in found}}
        return json_reply(reply, 200, told(answer))


def _live(desk: "EndpointContext", request: "Request") -> LoadedVersion:
    return naming.called(desk, request.path_params["name"], request.path_params.get("version", ""))


def _tensor(column: Column) -> dict[str, Any]:
    sizes = [-1, column.width] if column.width else [-1]
    shape = {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False}
    return {"dtype": _TYPES[column.datatype], "tensor_shape": shape, "name": f"{column.name}:0"}


def _rows(given: Any, task: str) -> list[Any]:
    if not isinstance(given, list):
        raise HttpProblem(400, f'"instances" is {parsing.kind(given)}; it shall be a list.')
    return [_named(row, task) if isinstance(row, dict) and "b64" not in row else row for row in given]


def _column(given: Any, task: str) -> list[Any]:
    if isinstance(given, dict) and "b64" not in given:
        given = _named(given, task)
    return given if isinstance(given, list) else [given]


def _named(given: dict[str, Any], task: str) -> Any:
    name = input_name(task)
    if list(given) != [name]:
        raise HttpProblem(400, f'An input by name shall be an object with the one key "{name}".')
    return given[name]


def _plain(value: Any, task: str, where: str) -> Any:
    """Return an input without what this protocol wraps around bytes, or around a single value."""
    if isinstance(value, list) and len(value) == 1 and not (isinstance(value[0], dict) and "role" in value[0]):
        value = value[0]
    if not isinstance(value, dict):
        return value
    if list(value) != ["b64"] or not isinstance(value["b64"], str):
        raise HttpProblem(400, f'{where} is an object; it shall be {{"b64": "..."}}, or a text.')
    try:
        data = decompression.from_base64(value["b64"])
    except ValueError:
        raise HttpProblem(400, f"{where} is not base 64.") from None
    return data if task in IMAGE_TASKS else tensors.as_text(data, where)
