"""Which paths speak which protocol, and in which form each says what is wrong."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols import (
    huggingface,
    metrics,
    mlflow,
    open_inference,
    openai,
    openapi,
    tensorflow_serving,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext

Handler = Callable[["EndpointContext", "Request"], Awaitable[Any]]

TABLE: list[tuple[str, Handler, str]] = [
    ("/v2", open_inference.server, "GET"),
    ("/v2/health/live", open_inference.live, "GET"),
    ("/v2/health/ready", open_inference.ready, "GET"),
    ("/v2/models/{name}", open_inference.model, "GET"),
    ("/v2/models/{name}/ready", open_inference.model_ready, "GET"),
    ("/v2/models/{name}/infer", open_inference.infer, "POST"),
    ("/v2/models/{name}/versions/{version}", open_inference.model, "GET"),
    ("/v2/models/{name}/versions/{version}/ready", open_inference.model_ready, "GET"),
    ("/v2/models/{name}/versions/{version}/infer", open_inference.infer, "POST"),
    ("/v1/chat/completions", openai.chat, "POST"),
    ("/v1/completions", openai.completion, "POST"),
    ("/v1/models", openai.models, "GET"),
    ("/v1/models/{name}", tensorflow_serving.status, "GET"),
    ("/v1/models/{name}/metadata", tensorflow_serving.metadata, "GET"),
    ("/v1/models/{name}:predict", tensorflow_serving.predict, "POST"),
    ("/v1/models/{name}/versions/{version}", tensorflow_serving.status, "GET"),
    ("/v1/models/{name}/versions/{version}/metadata", tensorflow_serving.metadata, "GET"),
    ("/v1/models/{name}/versions/{version}:predict", tensorflow_serving.predict, "POST"),
    ("/", huggingface.answer, "POST"),
    ("/models/{name}", huggingface.answer, "POST"),
    ("/invocations", mlflow.invocations, "POST"),
    ("/ping", mlflow.ping, "GET"),
    ("/version", mlflow.version, "GET"),
    ("/metrics", metrics.metrics, "GET"),
    ("/openapi.json", openapi.openapi, "GET"),
    ("/docs", openapi.docs, "GET"),
]


def refusal(path: str, problem: HttpProblem) -> dict[str, Any]:
    """Return the body of a refusal, in the form that the clients of this path read."""
    if path in ("/v1/chat/completions", "/v1/completions", "/v1/models"):
        return openai.problem(problem.status, problem.sentence)
    if path == "/invocations":
        return mlflow.problem(problem.status, problem.sentence)
    next_step = {"next": problem.next_step} if problem.next_step else {}
    return {"error": problem.sentence, **next_step}
