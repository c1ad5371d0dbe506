"""The forms of MLflow's scoring server: /invocations, /ping, /version.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally
"""

import csv
import importlib.metadata
import io
import itertools
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS
from sft_magics.serving.http import bodies, dispatch, parsing
from sft_magics.serving.http.replies import json_reply, told
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols import tensors
from sft_magics.serving.protocols.columns import input_name

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_EXAMPLE = 'send for example {"inputs": ["a text"]}.'


def problem(status: int, sentence: str) -> dict[str, Any]:
    """Return a problem in the form that this protocol's clients read."""
    code = "BAD_REQUEST" if 400 <= status < 500 else "INTERNAL_ERROR"
    return {"error_code": code, "message": sentence}


async def ping(desk: "EndpointContext", _: "Request") -> Any:
    """Answer GET /ping."""
    await desk.readiness.check(desk)
    return Response(b"\n", media_type="text/plain")


async def version(_: "EndpointContext", __: "Request") -> Any:
    """Answer GET /version: of this program, as a bare text."""
    return Response(importlib.metadata.version("sft_magics"), media_type="text/plain")


async def invocations(desk: "EndpointContext", request: "Request") -> Any:
    """Answer POST /invocations: of a language model with texts, else with one object a row."""
    async with dispatch.inside(desk):
        task = desk.ready().task
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/json", "text/csv"):
            raise HttpProblem(415, "The Content-Type of an invocation is application/json or text/csv.")
        data = await bodies.read(request)
        rows = _csv(data, task) if kind == "text/csv" else _json(bodies.parse_object(data, _EXAMPLE), task)
        if not rows:
            raise HttpProblem(400, "The body holds no row; it shall hold at least one.")
        answer = await dispatch.ask(desk, request, parsing.asked(parsing.items(rows, task, "rows")))
        shown = [row.label if task == CAUSAL_LM else dispatch.shown(row) for row in answer.rows]
        return json_reply({"predictions": shown}, 200, told(answer))


def _json(body: dict[str, Any], task: str) -> list[Any]:
    given = [name for name in _FORMS if name in body]
    if len(given) != 1:
        raise HttpProblem(400, f"The body shall hold one of {', '.join(_FORMS)}; {_EXAMPLE}")
    if body.get("params"):
        raise HttpProblem(400, '"params" is not known here; leave it out.')
    form = given[0]
    value = body[form]
    if form == "dataframe_split":
        return _split(value, task)
    if form == "dataframe_records":
        return _records(value, task, form)
    if isinstance(value, dict):  # columns by name
        value = value[_chosen(list(value), task)]
    found = value if isinstance(value, list) else [value]
    if found and all(isinstance(row, dict) and "role" not in row for row in found):
        return _records(found, task, form)
    return [row[0] if isinstance(row, list) and len(row) == 1 and _bare(row[0]) else row for row in found]


def _bare(value: Any) -> bool:
    return not isinstance(value, dict)


def _split(value: Any, task: str) -> list[Any]:
    columns = value.get("columns") if isinstance(value, dict) else None
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not isinstance(data, list):
        raise HttpProblem(400, '"dataframe_split" shall be such as {"columns": ["text"], "data": [["a text"]]}.')
    place = columns.index(_chosen(columns, task))
    for i, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise HttpProblem(400, f"data[{i}] shall be a list with {len(columns):,} values, one a column.")
    return [row[place] for row in data]


def _records(value: Any, task: str, form: str) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise HttpProblem(400, f'"{form}" shall be a list of objects such as {{"{input_name(task)}": "..."}}.')
    if not value:
        return []
    name = _chosen(list(value[0]), task)
    for i, row in enumerate(value):
        if name not in row:
            raise HttpProblem(400, f"{form}[{i}] has no value for {name!r:.80}.")
    return [row[name] for row in value]


def _chosen(columns: list[Any], task: str) -> Any:
    """Return the column that is read: the only one, or the one with the input's name."""
    if len(columns) == 1:
        return columns[0]
    for name in (input_name(task), "inputs", "input"):
        if name in columns:
            return name
    raise HttpProblem(400, f'Of several columns one shall be named "{input_name(task)}".')


def _csv(data: bytes, task: str) -> list[Any]:
    if task in IMAGE_TASKS:
        raise HttpProblem(400, "Images do not come as CSV; send JSON with the files in base 64.")
    text = tensors.as_text(data, "The CSV").removeprefix("\ufeff")
    try:
        lines = (row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row)
        rows = list(itertools.islice(lines, parsing.MAX_INPUTS + 2))  # a head, and one too many
    except csv.Error as error:
        raise HttpProblem(400, f"The body is not CSV: {error}.") from None
    return _split({"columns": rows[0], "data": rows[1:]}, task) if rows else []
