"""The process of an endpoint: `python -m sft_magics.serving.server FOLDER`.

Its order is the folder's `spec.json`; what it says goes to `events.jsonl`, how it stands to `state.json`, what it
answered to `predictions.db`. It stops when asked (SIGTERM or POST /admin/stop), when nobody has used it for
`idle_stop` seconds, and when the process that started it is gone, unless it shall be kept. It stops by draining: new
questions get 503, those inside get their answers.
"""

import asyncio
import contextlib
import logging
import os
import platform
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import psutil
import uvicorn

from sft_magics.core import errors, events
from sft_magics.core.jobs import JobFolder
from sft_magics.serving import addresses
from sft_magics.serving import state as states
from sft_magics.serving.app import EndpointContext, app
from sft_magics.serving.hosts.starting import Starter
from sft_magics.serving.http.bounded_http import BoundedHttp
from sft_magics.serving.log.log_writer import LogWriter
from sft_magics.serving.log.prediction_log import PredictionLog, log_path
from sft_magics.serving.messages import SwapOrder
from sft_magics.serving.scheduling import engine_fallback
from sft_magics.serving.scheduling.loading import LoadedVersion
from sft_magics.serving.scheduling.model_thread import Compute
from sft_magics.serving.self_test import prove

if TYPE_CHECKING:
    from sft_magics.engine.runtime.fork_server_client import Server

_TICK_SECONDS = 0.25
_DRAIN_SECONDS = 30.0
_KEEP_ALIVE_SECONDS = 75
_SHORTEST_TOKEN = 16
_log = logging.getLogger(__name__)


class EndpointProcess:
    """One start of an endpoint, from the order in its folder to its last word."""

    def __init__(self, job: JobFolder, zygote: "Server | None" = None) -> None:
        self._job = job
        self._zygote = zygote
        self._spec = job.spec()
        self._events = events.EventWriter(job.events)
        self._parent = _process(self._spec.get("parent"))
        self._state_lock = threading.Lock()
        self._port = 0
        self._socket = str(job.path / addresses.SOCKET) if self._spec.get("socket") else ""
        self._public = bool(self._spec.get("public"))
        self._state = "starting"
        self._why = ""
        self._next_step = ""
        self._desk: EndpointContext | None = None

    def run(self) -> int:
        """Serve until it is time to stop; return the exit code, 2 when it never got ready."""
        self._say(events.Started("starting", os.getpid(), host=platform.node()))
        self._enter("starting")
        try:
            with self._listener() as listener:
                self._port = 0 if self._socket else listener.getsockname()[1]
                self._enter("starting")
                with PredictionLog(log_path(self._job.path)) as log:
                    self._serve(listener, log)
        except errors.SftError as error:
            return self._fail(error.what, error.next_step, type(error).__name__)
        except Exception as error:  # noqa: BLE001  whatever it was, its starter shall read it in a sentence
            _log.exception("the endpoint failed")
            return self._fail(f"The endpoint failed: {type(error).__name__}: {error}", "%sft_doctor", "EndpointProblem")
        self._enter("stopped")
        self._say(events.Ended("done", self._why))
        return 0

    @contextlib.contextmanager
    def _listener(self) -> Iterator[socket.socket]:
        """Listen while the block lasts; the file of a Unix socket goes with it."""
        try:
            with addresses.listen(
                self._spec["port"], self._spec["name"], public=self._public, socket_path=self._socket
            ) as listener:
                yield listener
        finally:
            addresses.forget(self._socket)

    def _fail(self, why: str, next_step: str, problem: str) -> int:
        self._why, self._next_step = why, next_step
        self._enter("failed")
        self._say(events.Ended("failed", why, next_step, problem))
        return 2

    def _serve(self, listener: socket.socket, log: PredictionLog) -> None:
        scribe = LogWriter(log)
        starter = Starter(self._spec["task"], self._zygote)
        compute = Compute(
            scribe, starter.start, self._spec.get("threads"), self._trial_ended, log_inputs=self._spec["log_inputs"]
        )
        desk = self._desk = EndpointContext(
            self._spec["name"], compute, scribe, swapped=self._swapped, stop=self._drain
        )
        token = self._token()
        config = uvicorn.Config(
            app(desk, token=token, names=self._names()),
            http=BoundedHttp,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=5,
        )
        server = _Server(config, lambda: self._drain("stopped when asked"))
        scribe.start()
        compute.start()
        try:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(self._live(server, listener, desk))
        finally:
            compute.end()
            starter.end()
            scribe.end()
            _count_refusals(log, desk.take_refusals())

    def _token(self) -> str:
        """Return the token; raises EndpointProblem where there is none that would keep anybody out."""
        token = Path(self._spec["token_file"]).read_text().strip()
        if len(token) < _SHORTEST_TOKEN:
            raise errors.EndpointProblem("The endpoint has no token, and does not answer without.", "deploy it again.")
        return token

    def _names(self) -> addresses.Names:
        return addresses.names(
            self._port, public=self._public, socket_path=self._socket, hosts=self._spec.get("hosts") or ""
        )

    async def _live(self, server: uvicorn.Server, listener: socket.socket, desk: EndpointContext) -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await self._load(desk)
            await self._watch(desk)
        finally:
            server.should_exit = True
            await serving

    async def _load(self, desk: EndpointContext) -> None:
        spec = self._spec
        self._say(events.Progress(f"loading {spec['version']}", 0))
        others = tuple((engine, folder) for engine, folder in spec["others"])
        order = SwapOrder(
            spec["version"], spec["ref"], spec["folder"], tuple(spec["labels"]), spec["examples"], spec["engine"],
            others, spec["engine_why"],
        )  # fmt: skip
        try:
            live = await engine_fallback.climb(order, lambda one: self._attempt(desk, one))
        except _ToldToStop:
            return
        if live.engine != order.engine:
            self._say(events.Remark("warning", live.why))
        desk.state = "ready"
        desk.used()
        self._say(events.Progress("ready", 1, 1))
        self._enter("ready")  # last: whoever waits for it has then heard everything

    async def _attempt(self, desk: EndpointContext, order: SwapOrder) -> LoadedVersion:
        """Load a version for an engine and let it keep its word; raises what is in the way, or _ToldToStop."""
        loading = asyncio.wrap_future(desk.compute.load(order))
        while not loading.done() and desk.state == "starting":
            self._look(desk)
            await asyncio.wait([loading], timeout=_TICK_SECONDS)
        if desk.state != "starting":
            raise _ToldToStop
        await self._prove(desk, live := loading.result())
        return live

    async def _prove(self, desk: EndpointContext, live: LoadedVersion) -> None:
        """Ask for the stored examples over HTTP; raises SftError, and then nobody is ever answered."""
        if not self._spec["examples"]:
            return
        self._say(events.Progress("asking for stored examples", 0))
        desk.proof = secrets.token_urlsafe(16)
        spec = self._spec
        try:
            door = addresses.Address(self._port, self._socket)
            count = await asyncio.to_thread(prove, live, spec["examples"], (door, self._token()), desk.proof)
        finally:
            desk.proof = ""
        self._say(events.Remark("info", f"{live.version} answers {count} stored examples as when it was trained."))

    async def _watch(self, desk: EndpointContext) -> None:
        while desk.state == "ready":
            self._look(desk)
            if refusals := desk.take_refusals():
                await asyncio.to_thread(_count_refusals, desk.scribe.log, refusals)
            await asyncio.sleep(_TICK_SECONDS)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while desk.inside and time.monotonic() < deadline:  # noqa: ASYNC110  a drain is short and happens once
            await asyncio.sleep(0.01)

    def _look(self, desk: EndpointContext) -> None:
        """Begin to drain where nobody needs this endpoint any more."""
        idle_stop, now = self._spec.get("idle_stop") or 0, desk.compute.clock.now()
        if self._spec.get("parent") and not _runs(self._parent):
            self._drain("stopped with the process that started it")
        elif idle_stop and desk.state == "ready" and not desk.inside and now - desk.used_at > idle_stop:
            self._drain(f"nobody used it for {_spoken(idle_stop)}")

    def _drain(self, why: str) -> None:
        desk = self._desk
        if desk is None or desk.state == "draining":
            return
        desk.state, self._why = "draining", why
        self._enter("draining")

    def _swapped(self) -> None:
        self._enter(self._state)
        live = self._desk.compute.live if self._desk else None
        if live:
            self._say(events.Remark("info", f"{live.version} answers from now on"))

    def _trial_ended(self, how: str) -> None:
        self._say(events.Remark("warning", how))
        self._enter(self._state)  # it counts what was replaced

    def _enter(self, state: str) -> None:
        """Write how the endpoint stands; a disk that refuses must not end an endpoint that answers."""
        with self._state_lock, _going_on("write its state"):
            self._state = state
            compute = self._desk.compute if self._desk else None
            live = compute.live if compute else None
            states.write(
                self._job.path,
                states.EndpointState(
                    state=state,
                    launch=self._spec["launch"],
                    url=self._url(),
                    port=self._port,
                    socket=self._socket,
                    version=live.version if live else self._spec["version"],
                    ref=live.ref if live else self._spec["ref"],
                    engine=live.engine if live else self._spec["engine"],
                    engine_why=live.why if live else self._spec["engine_why"],
                    pid=os.getpid(),
                    requests=compute.answered if compute else 0,
                    restarts=compute.restarts if compute else 0,
                    why=self._why,
                    next_step=self._next_step,
                ),
            )

    def _url(self) -> str:
        if not self._port and not self._socket:
            return ""
        return addresses.url(self._port, public=self._public, socket_path=self._socket)

    def _say(self, event: events.Event) -> None:
        with _going_on("write its events"):
            self._events.write(event)


class _ToldToStop(errors.EndpointProblem):
    """The endpoint was told to stop while it loaded."""

    def __init__(self) -> None:
        super().__init__("The endpoint was told to stop.", "%sft_endpoints shows how it stands.")


class _Server(uvicorn.Server):
    """uvicorn, with signals that begin a drain instead of closing the door."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  uvicorn's signature
        if self._loop:
            self._loop.call_soon_threadsafe(self._on_signal)


def _process(pid: int | None) -> psutil.Process | None:
    try:
        return psutil.Process(pid) if pid else None
    except psutil.NoSuchProcess:
        return None


def _runs(process: psutil.Process | None) -> bool:
    """Say whether it is still the same process, and not a zombie that nobody has buried."""
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _count_refusals(log: PredictionLog, by_status: dict[int, int]) -> None:
    with _going_on("count refused requests"):
        log.add_errors(by_status)


@contextlib.contextmanager
def _going_on(doing: str) -> Iterator[None]:
    try:
        yield
    except (OSError, errors.SftError):
        _log.exception("the endpoint could not %s; it goes on", doing)


def _spoken(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"


def main() -> int:
    """Run the endpoint of the folder named on the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # strangers could fill the disk with what they send
    return EndpointProcess(JobFolder(Path(sys.argv[1])), _zygote()).run()


def _zygote() -> "Server | None":
    """Return a process that hosts can be forked from, if this one was forked from such a process itself."""
    if "sft_magics.engine.inference.predictor" not in sys.modules:
        return None
    from sft_magics.engine.runtime import fork_server_client

    return fork_server_client.branch()


if __name__ == "__main__":
    sys.exit(main())
