"""The endpoint's own description: GET /openapi.json, and GET /docs for a person.

Every route of the table is described: its body, its answers, the statuses that can come.
"""

import importlib.metadata
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from sft_magics.serving.protocols.pages import page
from sft_magics.serving.protocols.schemas import SCHEMAS, STRING, Schema, record, ref

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext

_JSON = "application/json"
_FILE: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
_EVENTS = {"text/event-stream": record({"data": STRING})}
_SENTENCES = {
    400: "The body cannot be read as this route needs it.",
    401: "The token is missing or wrong.",
    403: "A web page from elsewhere asks.",
    404: "There is no such model or version here, or it does not do this.",
    408: "The body did not arrive in time.",
    409: "An id was used before, or a version does not load.",
    413: "The body, an image or a list is too large.",
    415: "The body is of another type, or encoded.",
    421: "The Host header does not name this endpoint.",
    429: "Too much waits; Retry-After says when to come again.",
    499: "The client left.",
    500: "The model failed on this input.",
    503: "It does not answer now; Retry-After says when to come again.",
    504: "The request's time was over.",
}
_GUARD = (401, 403, 421)
_BODY = (400, 408, 413, 415)
_ASK = (*_BODY, 429, 499, 500, 503, 504)


@dataclass(frozen=True)
class _Route:
    """One route: `takes` and `gives` map a content type to a schema."""

    tag: str
    what: str
    gives: dict[str, Schema]
    takes: dict[str, Schema] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    headers: tuple[str, ...] = ()
    problem: str = "Problem"


def _told(tag: str, what: str, name: str, *statuses: int) -> _Route:
    return _Route(tag, what, {_JSON: ref(name)}, statuses=statuses)


def _asked(tag: str, what: str, takes: str, gives: str, **more: Any) -> _Route:
    """Return a route that asks the model."""
    takes_too, gives_too = more.pop("takes_too", {}), more.pop("gives_too", {})
    more = {"statuses": _ASK, "headers": ("X-Timeout-Ms", "X-Sync-Log"), **more}
    return _Route(tag, what, {_JSON: ref(gives), **gives_too}, {_JSON: ref(takes), **takes_too}, **more)


_IMAGES = {"application/octet-stream": _FILE, "image/*": _FILE}
_NAMED = (*_ASK, 404)
_INFER = _asked(
    "Open Inference Protocol", "Ask with tensors, as JSON or with the binary extension.", "Tensors", "TensorAnswer",
    takes_too={"application/octet-stream": _FILE}, gives_too={"application/octet-stream": _FILE}, statuses=_NAMED,
    headers=("X-Timeout-Ms", "X-Sync-Log", "Inference-Header-Content-Length"),
)  # fmt: skip
_PREDICT = _asked(
    "TensorFlow Serving", "Ask with rows or columns.", "Instances", "InstancesAnswer", statuses=_NAMED
)  # fmt: skip
_HUB = _asked(
    "Hugging Face", "Ask in the form of the Inference API.", "HubQuestion", "HubAnswer", takes_too=_IMAGES,
    gives_too=_EVENTS, statuses=_NAMED,
)  # fmt: skip
_V2_MODEL = _told("Open Inference Protocol", "Say what goes in and what comes out.", "ModelAbout", 404, 503)
_V2_READY = _told("Open Inference Protocol", "Say whether the model answers.", "IsReady", 404, 503)
_STATUS = _told(
    "TensorFlow Serving", "Say how the model stands; OpenAI's clients read it as well.", "ModelStatus", 404, 503
)
_METADATA = _told("TensorFlow Serving", "Say what goes in and what comes out.", "ModelMetadata", 404, 503)
_TALK: dict[str, Any] = {
    "gives_too": _EVENTS, "statuses": _NAMED, "headers": ("X-Timeout-Ms",), "problem": "OpenAIProblem",
}  # fmt: skip
_OWN = "This endpoint"

DESCRIBED: dict[str, _Route] = {
    "POST /predict": _asked(
        _OWN, "Ask: one input or a list, or an image's file.", "Question", "Answer", takes_too=_IMAGES,
        statuses=(*_ASK, 409),
    ),
    "POST /feedback": _Route(
        _OWN, "Say what would have been right.", {_JSON: ref("FeedbackResult")}, {_JSON: ref("Feedback")},
        (*_BODY, 503),
    ),
    "GET /health": _told(_OWN, "Say that the process lives.", "Health"),
    "GET /ready": _told(_OWN, "Say which version answers, or why none would.", "Ready", 503),
    "GET /stats": _told(_OWN, "Count and time since the start.", "Stats"),
    "GET /metrics": _Route(_OWN, "Count and time, for Prometheus.", {"text/plain": STRING}),
    "GET /openapi.json": _told(_OWN, "Describe every route.", "Document"),
    "GET /docs": _Route(_OWN, "Describe every route on a page.", {"text/html": STRING}),
    "POST /admin/swap": _Route(
        _OWN, "Answer with another version.", {_JSON: ref("Swapped")}, {_JSON: ref("Swap")}, (*_BODY, 409, 503)
    ),
    "POST /admin/traffic": _Route(
        _OWN, "Try another version with a share of the requests.", {_JSON: ref("TrafficResult")},
        {_JSON: ref("Traffic")}, (*_BODY, 409, 503),
    ),
    "POST /admin/stop": _told(_OWN, "Answer what is inside, then end.", "Health"),
    "GET /v2": _told("Open Inference Protocol", "Say what this server is.", "ServerAbout"),
    "GET /v2/health/live": _told("Open Inference Protocol", "Say that the process lives.", "Live"),
    "GET /v2/health/ready": _told("Open Inference Protocol", "Say whether it answers.", "IsReady", 503),
    "GET /v2/models/{name}": _V2_MODEL,
    "GET /v2/models/{name}/versions/{version}": _V2_MODEL,
    "GET /v2/models/{name}/ready": _V2_READY,
    "GET /v2/models/{name}/versions/{version}/ready": _V2_READY,
    "POST /v2/models/{name}/infer": _INFER,
    "POST /v2/models/{name}/versions/{version}/infer": _INFER,
    "POST /v1/chat/completions": _asked("OpenAI", "Ask a language model with messages.", "Chat", "ChatAnswer", **_TALK),
    "POST /v1/completions": _asked(
        "OpenAI", "Ask a language model with one text, put as a user's message.", "Prompt", "PromptAnswer", **_TALK
    ),
    "GET /v1/models": _Route(
        "OpenAI", "Say which language model answers.", {_JSON: ref("Models")}, statuses=(404, 503),
        problem="OpenAIProblem",
    ),
    "GET /v1/models/{name}": _STATUS,
    "GET /v1/models/{name}/versions/{version}": _STATUS,
    "GET /v1/models/{name}/metadata": _METADATA,
    "GET /v1/models/{name}/versions/{version}/metadata": _METADATA,
    "POST /v1/models/{name}:predict": _PREDICT,
    "POST /v1/models/{name}/versions/{version}:predict": _PREDICT,
    "POST /": _HUB,
    "POST /models/{name}": _HUB,
    "POST /invocations": _asked(
        "MLflow", "Ask with rows.", "Rows", "RowsAnswer", takes_too={"text/csv": STRING}, problem="MLflowProblem"
    ),
    "GET /ping": _Route("MLflow", "Say whether it answers.", {"text/plain": STRING}, statuses=(503,)),
    "GET /version": _Route("MLflow", "Say the version of this program.", {"text/plain": STRING}),
}  # fmt: skip


async def openapi(desk: "EndpointContext", _: "Request") -> Any:
    """Answer GET /openapi.json."""
    return document(desk)


async def docs(desk: "EndpointContext", _: "Request") -> Response:
    """Answer GET /docs."""
    policy = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'", "cache-control": "no-store"}
    policy["referrer-policy"] = "no-referrer"  # its own address may hold a key
    return Response(page(document(desk)), 200, policy, media_type="text/html")


def document(desk: "EndpointContext") -> dict[str, Any]:
    """Return the description as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for key, route in DESCRIBED.items():
        method, path = key.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, route)
    about = {"title": f"The endpoint {desk.name}", "version": importlib.metadata.version("sft_magics")}
    return {
        "openapi": "3.1.0",
        "info": {**about, "description": "Every request shows the endpoint's token."},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(method: str, path: str, route: _Route) -> dict[str, Any]:
    inner = [_parameter(name, "path") for name in re.findall(r"{(\w+)}", path)]
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()} {path}").strip("_"), "tags": [route.tag],
        "summary": route.what, "parameters": inner + [_parameter(name, "header") for name in route.headers],
        "responses": {"200": {"description": "The answer.", "content": _content(route.gives)}},
    }  # fmt: skip
    if route.takes:
        found["requestBody"] = {"required": True, "content": _content(route.takes)}
    for status in sorted({*_GUARD, *route.statuses}):
        content = _content({_JSON: ref(route.problem)})
        found["responses"][str(status)] = {"description": _SENTENCES[status], "content": content}
    return found


def _content(of: dict[str, Schema]) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in of.items()}


def _parameter(name: str, where: str) -> dict[str, Any]:
    schemas: dict[str, Schema] = {
        "X-Timeout-Ms": {"type": "integer", "minimum": 1, "maximum": 600_000},
        "X-Sync-Log": {"enum": ["0", "1"]},
        "Inference-Header-Content-Length": {"type": "integer", "minimum": 0},
    }
    return {"name": name, "in": where, "required": where == "path", "schema": schemas.get(name, STRING)}
