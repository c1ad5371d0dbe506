"""The routes of an endpoint, as thin as they can be: read, ask, answer.

POST /predict        {"inputs": one or a list, "ids"?: [ids]}, or the bytes of an image's file
                     -> {"version", "predictions": [{"id", "label", "confidence", "scores", ...}]}
POST /feedback       {"labels": [{"id", "label"}]} -> {"added", "mended", "refused", "labels", "unknown"}
GET  /health         the process lives
GET  /ready          a version is loaded and answers, and the log takes what it says; else 503 and why
GET  /stats          counts and latencies since start; of requests with several inputs apart, as `bulk`
POST /admin/swap     {"version", "folder", "ref"?, "labels"?}
POST /admin/traffic  the same and {"share", "rules"?}, or {"abort": why}
POST /admin/stop     drain, then end

Other protocols have routes of their own: `protocols.table`.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sft_magics.core import codec
from sft_magics.core.errors import SftError
from sft_magics.serving import messages
from sft_magics.serving.addresses import Names
from sft_magics.serving.http import bodies, decompression, dispatch, parsing
from sft_magics.serving.http.auth import AuthMiddleware
from sft_magics.serving.http.replies import json_reply, timing
from sft_magics.serving.log.log_writer import LogWriter
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols import table
from sft_magics.serving.protocols.metrics import Meter
from sft_magics.serving.readiness import Readiness
from sft_magics.serving.scheduling import engine_fallback
from sft_magics.serving.scheduling.loading import LoadedVersion
from sft_magics.serving.scheduling.model_thread import Compute
from sft_magics.serving.scheduling.requests import Answer

_log = logging.getLogger(__name__)
_SPOKEN = (HttpProblem, HTTPException, ClientDisconnect)
_SENTENCES = {
    404: "There is no such path here; questions go to POST /predict.",
    405: "This path does not take this method; questions go to POST /predict.",
}


@dataclass
class EndpointContext:
    """What the routes share: the model's thread, the log, and what the process wants to know of them."""

    name: str
    compute: Compute
    scribe: LogWriter
    swapped: Callable[[], None]
    stop: Callable[[str], None]
    state: str = "starting"
    proof: str = ""  # what the endpoint shows itself while it asks itself; nothing once it is ready
    inside: int = 0
    used_at: float = 0.0  # by the clock of `compute`
    started_at: float = field(default_factory=time.time)
    refused: Counter[int] = field(default_factory=Counter)
    meter: Meter = field(default_factory=Meter)
    readiness: Readiness = field(default_factory=Readiness)
    _unlogged: Counter[int] = field(default_factory=Counter)

    def ready(self) -> LoadedVersion:
        """Return the version that answers; raises HttpProblem 503 where none does, or not any more."""
        if self.state != "ready" or self.compute.live is None:
            raise HttpProblem(503, f"The endpoint {self.name} is {self.state}; it does not answer now.", 1)
        return self.compute.live

    @property
    def task(self) -> str:
        """What the version that answers is for; raises HttpProblem 503 where there is none."""
        if self.compute.live is None:
            raise HttpProblem(503, f"The endpoint {self.name} is {self.state}; it does not answer now.", 1)
        return self.compute.live.task

    def used(self) -> None:
        """Note that somebody has used the endpoint."""
        self.used_at = self.compute.clock.now()

    def refuse(self, problem: HttpProblem, path: str) -> Response:
        """Count a refusal and put it into JSON, as the clients of this path read it."""
        self.refused[problem.status] += 1
        self._unlogged[problem.status] += 1
        headers = {} if problem.retry_after is None else {"retry-after": str(problem.retry_after)}
        if problem.status == 415:
            headers["accept-encoding"] = ", ".join(decompression.CODINGS)
        if problem.status == 401:
            headers["www-authenticate"] = "Bearer"
        return json_reply(table.refusal(path, problem), problem.status, headers)

    def take_refusals(self) -> dict[int, int]:
        """Return the refusals by status that were not handed out yet; called in the event loop's thread."""
        taken, self._unlogged = self._unlogged, Counter()
        return taken


def app(desk: EndpointContext, *, token: str, names: Names) -> ASGIApp:
    """Return the ASGI application that serves `desk` behind its guard."""

    async def refuse(request: Request, error: Exception) -> Response:
        return desk.refuse(_problem(error), request.scope["path"])

    kinds = (*_SPOKEN, Exception)
    table = routes(desk)
    inner = Starlette(routes=table, exception_handlers=dict.fromkeys(kinds, refuse))
    inner.router.redirect_slashes = False  # a path is what it is
    return AuthMiddleware(ExactRouter(table, inner, refuse), token=token, names=names, refuse=desk.refuse)


class ExactRouter:
    """Leads a request whose path is a route's, word for word, to it at once; any other the way through `app`.

    Starlette's way leads through middleware that has nothing to do here.
    """

    def __init__(
        self, table: list[Route], app: ASGIApp, refuse: Callable[[Request, Exception], Awaitable[Response]]
    ) -> None:
        self._app, self._refuse = app, refuse
        plain = [route for route in table if "{" not in route.path]
        self._routes = {(method, route.path): route.endpoint for route in plain for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self._routes.get((scope["method"], scope["path"]))
        if answer is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await answer(request)
        except _SPOKEN as error:
            response = await self._refuse(request, error)
        except Exception as error:  # noqa: BLE001  whatever it was, its client gets a sentence
            _log.exception("%s failed", scope["path"])
            response = await self._refuse(request, error)
        await response(scope, receive, send)


def routes(desk: EndpointContext) -> list[Route]:
    """Return the route table."""

    def route(path: str, handler: Callable[[EndpointContext, Request], Awaitable[Any]], method: str) -> Route:
        async def answer(request: Request) -> Response:
            began = time.perf_counter()
            found = await handler(desk, request)
            desk.meter.count(path, time.perf_counter() - began)
            return found if isinstance(found, Response) else json_reply(found)

        return Route(path, answer, methods=[method])

    return [
        route("/predict", _predict, "POST"),
        route("/feedback", _feedback, "POST"),
        route("/health", _health, "GET"),
        route("/ready", _ready, "GET"),
        route("/stats", _stats, "GET"),
        route("/admin/swap", _swap, "POST"),
        route("/admin/traffic", _traffic, "POST"),
        route("/admin/stop", _stop, "POST"),
        *(route(*row) for row in table.TABLE),
    ]


def _problem(error: Exception) -> HttpProblem:
    if isinstance(error, HttpProblem):
        return error
    if isinstance(error, ClientDisconnect):  # nobody will read this
        return HttpProblem(400, "The client left before its request was complete.")
    if isinstance(error, HTTPException):
        return HttpProblem(error.status_code, _SENTENCES.get(error.status_code, str(error.detail)))
    return HttpProblem(500, "The endpoint failed; its output.log has more.")


async def _predict(desk: EndpointContext, request: Request) -> Any:
    async with dispatch.inside(desk, request):
        task = desk.task
        body = await bodies.read(request)
        if dispatch.is_json(request):
            question = parsing.question(bodies.parse_object(body), task)
        else:
            question = parsing.asked([parsing.item(body, task)])
        answer = await dispatch.ask(desk, request, question)
        return json_reply(_shown(answer), 200, timing(answer))


def _shown(answer: Answer) -> dict[str, Any]:
    return {"version": answer.version, "predictions": [dispatch.shown(row) for row in answer.rows]}


async def _feedback(desk: EndpointContext, request: Request) -> Any:
    desk.inside += 1
    try:
        pairs = parsing.labels(await bodies.read_object(request))
        await asyncio.to_thread(desk.scribe.flush)  # what was answered a moment ago may not be written yet
        result = await asyncio.to_thread(desk.scribe.log.add_feedback, pairs)
    except SftError as error:
        raise HttpProblem(503, error.what, 5) from error
    finally:
        desk.inside -= 1
        desk.used()
    if result.refused and not result.added:
        raise HttpProblem(400, f"No label was stored; {result.refusal}.")
    return codec.plain(result)


async def _health(desk: EndpointContext, _: Request) -> Any:
    return {"name": desk.name, "state": desk.state}


async def _ready(desk: EndpointContext, _: Request) -> Any:
    live = await desk.readiness.check(desk)
    known = {"version": live.version, "ref": live.ref, "task": live.task, "labels": live.labels}
    return {"name": desk.name, "state": "ready", **known}


async def _stats(desk: EndpointContext, _: Request) -> Any:
    compute = desk.compute
    return {
        "name": desk.name,
        "state": desk.state,
        "version": compute.live.version if compute.live else None,
        "uptime_s": time.time() - desk.started_at,
        "answered": compute.answered,
        "batches": compute.batches,
        "waiting": compute.waiting,
        "refused": {str(status): n for status, n in sorted(desk.refused.items())},
        "latency_ms": compute.times.single.percentiles(),
        "spent_ms": compute.times.single.medians(),
        "bulk": {"latency_ms": compute.times.bulk.percentiles(), "spent_ms": compute.times.bulk.medians()},
        "late": compute.late,
        "restarts": compute.live.predictor.restarts if compute.live else 0,
        "processor_s": {
            "http": time.thread_time(),
            "compute": compute.beside_model,
            "log": desk.scribe.processor,
        },
        "trial": compute.routing.trial.shown() if compute.routing.trial else None,
        "trial_ended": compute.routing.ended,
    }


async def _swap(desk: EndpointContext, request: Request) -> Any:
    desk.ready()
    order = parsing.swap_order(await bodies.read_object(request))
    live = await _loaded(desk, order, desk.compute.load)
    return {"version": live.version, "ref": live.ref, "labels": live.labels}


async def _traffic(desk: EndpointContext, request: Request) -> Any:
    desk.ready()
    body = await bodies.read_object(request)
    if "abort" in body:
        desk.compute.abort(parsing.text(body["abort"], "abort", parsing.MAX_ID))
        return {"aborted": True}
    order, (share, rules) = parsing.swap_order(body), parsing.trial(body)
    live = await _loaded(desk, order, lambda one: desk.compute.load(one, share, rules))
    return {"version": live.version, "ref": live.ref, "share": share}


async def _loaded(
    desk: EndpointContext, order: messages.SwapOrder, load: Callable[[messages.SwapOrder], "Future[LoadedVersion]"]
) -> LoadedVersion:
    """Wait until a version is loaded, however long that takes."""
    desk.inside += 1
    try:
        live = await engine_fallback.climb(order, lambda one: asyncio.wrap_future(load(one)))
    except SftError as error:
        raise HttpProblem(409, error.what, next_step=error.next_step) from error
    except Exception as error:
        _log.exception("%s does not load", order.version)
        raise HttpProblem(409, f"{order.version} cannot be loaded ({type(error).__name__}: {error}).") from error
    finally:
        desk.inside -= 1
        desk.used()
    await asyncio.to_thread(desk.swapped)
    return live


async def _stop(desk: EndpointContext, _: Request) -> Any:
    desk.stop("stopped when asked")
    return {"name": desk.name, "state": desk.state}
