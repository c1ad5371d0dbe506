"""Endpoints seen from outside their process: start, stop, list, switch.

An endpoint is a folder `endpoints/NAME/`: its order (`spec.json`), how it stands (`state.json`), its token (0600), what
it said (`events.jsonl`) and the log of its answers (`predictions.db`), which outlives every start.
"""

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sft_magics.core import errors, events, references
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Endpoint
from sft_magics.core.runtime import exports
from sft_magics.core.tasks import TEXT_CLASSIFICATION
from sft_magics.core.workspace import Workspace, locked, write_durably
from sft_magics.serving import addresses
from sft_magics.serving import state as states
from sft_magics.serving.client.client import EndpointClient
from sft_magics.serving.http import auth
from sft_magics.serving.log.prediction_log import PredictionLog, log_path
from sft_magics.serving.predictor import needs_torch

_MODULE = "sft_magics.serving.server"
_READY_SECONDS = 180.0
_STOP_SECONDS = 40.0
_LOOK_SECONDS = 0.02


def start(
    ws: Workspace,
    *,
    name: str,
    model: str,
    ref: str,
    version: str,
    folder: Path,
    labels: Sequence[str],
    task: str = TEXT_CLASSIFICATION,
    examples: str = "",
    example: str = "",
    engine: str = exports.TORCH,
    engine_why: str = "",
    others: Sequence[tuple[str, str]] = (),
    wanted: str = exports.TORCH,
    log_inputs: bool = True,
    port: int = 0,
    keep: bool = False,
    idle_stop: float = 1800.0,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
    seconds: float = _READY_SECONDS,
    public: bool = False,
    hosts: str = "",
    socket: bool = False,
) -> Endpoint:
    """Start endpoint `name` with the version that lies in `folder` and wait, at most `seconds`, until it answers.

    `engine` reads the folder, for the reason `engine_why`; where it does not answer the stored `examples` as it did,
    each of `others` (an engine and its folder) is tried in turn. `wanted` is what was asked for, maybe "auto". `port` 0
    takes a free one. `idle_stop` is in seconds, 0 means never. Unless `keep`, it stops when this process is gone. A
    name used before gets a new token and goes on with its log, which has hashes of the inputs without `log_inputs`.
    With `public` other machines reach it, by their names for this one and by `hosts`; with `socket` it has a Unix
    socket and no port. `progress(what)` hears how far it is. `example` is a
    text to try it with.

    Raises EndpointProblem: it runs already, the port is taken, the version does not load, it takes too long.
    """
    references.check_name(name, "endpoint")
    if not 0 <= port <= 65535:
        raise errors.EndpointProblem(f"{port} is not a port.", "give --port a number from 1024 to 65535, or auto.")
    job = JobFolder(ws.endpoints / name)
    token_file = job.path / "token"
    if socket:
        addresses.check_socket(job.path / addresses.SOCKET)
    spec: dict[str, Any] = {
        "name": name,
        "model": model,
        "ref": ref,
        "version": version,
        "folder": str(folder.absolute()),
        "labels": list(labels),
        "task": task,
        "examples": examples,
        "example": example,
        "engine": engine,
        "engine_why": engine_why,
        "others": [[other, str(its)] for other, its in others],
        "wanted": wanted,
        "log_inputs": log_inputs,
        "port": port,
        "public": public,
        "hosts": hosts,
        "socket": socket,
        "token_file": str(token_file),
        "keep": keep,
        "idle_stop": idle_stop,
        "parent": None if keep else os.getpid(),
        "threads": threads,
        "launch": secrets.token_hex(8),
        "created_at": time.time(),
    }
    try:
        job.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(job.path / "start.lock"):
            if job.alive():
                raise errors.EndpointProblem(
                    f"Endpoint {name} runs already.",
                    f"%sft_deploy {ref} --name {name} switches it to another version; %sft_stop {name} ends it.",
                )
            write_durably(token_file, secrets.token_urlsafe(32).encode())  # made 0600, as every such file
            job.events.unlink(missing_ok=True)
            job.forget_orders()
            job.write_spec(spec)
            _launch(job, forked=needs_torch(folder, engine))
        _wait_until_ready(job, spec, progress, seconds)
    except OSError as error:
        raise errors.from_os_error(error, f"starting endpoint {name}") from error
    except KeyboardInterrupt:
        _end_half_started(job, "stopped")
        if job.spec().get("launch") == spec["launch"]:  # else the interrupt came before anything was written
            _mark(job, "stopped", "it was interrupted before it was ready")
        raise errors.Interrupted(
            f"Starting endpoint {name} was interrupted; nothing of it runs.", "type the same line again."
        ) from None
    return endpoint(ws, name)


def stop(ws: Workspace, name: str) -> Endpoint:
    """Let endpoint `name` answer what is inside, end it, and return what is left of it; raises NotFound.

    An endpoint that is lost or does not end within 40 seconds is ended the hard way.
    """
    found = endpoint(ws, name)
    job = JobFolder(Path(found.folder))
    if job.alive():
        pid = job.pid()
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGTERM)
        _wait_until_gone(job, _STOP_SECONDS)
        if job.alive():
            job.kill()
            _wait_until_gone(job, 5.0)
    left = endpoint(ws, name)
    if left.state == "lost":
        _mark(job, "stopped", left.why if found.state == "lost" else "stopped when asked")
        addresses.forget(str(job.path / addresses.SOCKET))
    return endpoint(ws, name)


def endpoint(ws: Workspace, name: str) -> Endpoint:
    """Return endpoint `name` as it stands now; "lost" if its process is gone without a word; raises NotFound."""
    references.check_name(name, "endpoint")
    job = JobFolder(ws.endpoints / name)
    spec = job.spec()
    if not spec:
        raise errors.not_found("endpoint", name, _names(ws), "%sft_endpoints lists them; %sft_deploy makes one.")
    return _record(job, spec)


def endpoints(ws: Workspace) -> list[Endpoint]:
    """Return every endpoint that was ever started here, in the order of their names."""
    return [endpoint(ws, name) for name in _names(ws)]


def swap(
    ws: Workspace,
    name: str,
    *,
    ref: str,
    version: str,
    folder: Path,
    labels: Sequence[str],
    examples: str = "",
    engine: str = exports.TORCH,
    engine_why: str = "",
    others: Sequence[tuple[str, str]] = (),
) -> Endpoint:
    """Switch the running endpoint `name` to another version; whoever asks meanwhile is answered.

    Raises EndpointProblem when it does not run or the new version does not load; then the old one goes on.
    """
    found = endpoint(ws, name)
    if found.state != "ready":
        raise errors.EndpointProblem(
            f"Endpoint {name} is {found.state}; only one that answers can be switched.",
            f"%sft_deploy {ref} --name {name} starts it with that version.",
        )
    with EndpointClient(found, seconds=_READY_SECONDS) as client:
        client.swap(
            version=version, ref=ref, folder=folder, labels=labels, examples=examples, engine=engine, others=others,
            why=engine_why,
        )  # fmt: skip
    return endpoint(ws, name)


def try_out(
    ws: Workspace,
    name: str,
    *,
    ref: str,
    version: str,
    folder: Path,
    labels: Sequence[str],
    share: float,
    rules: dict[str, float],
    examples: str = "",
    engine: str = exports.TORCH,
    engine_why: str = "",
    others: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Let the running endpoint `name` try a version beside the live one; return its statistics.

    `share` of the requests is answered by it, with 0 it is a shadow. Raises EndpointProblem as `swap` does.
    """
    with EndpointClient(endpoint(ws, name), seconds=_READY_SECONDS) as client:
        order: dict[str, Any] = {
            "version": version,
            "ref": ref,
            "labels": list(labels),
            "examples": examples,
            "engine": engine,
        }
        order |= {"why": engine_why, "others": list(others)}
        client.try_out({**order, "folder": str(folder.absolute()), "share": share, "rules": rules})
        return client.stats()


def prediction_log(ws: Workspace, name: str) -> PredictionLog:
    """Open the log of endpoint `name`, whether it runs or not; raises NotFound, WorkspaceProblem."""
    return PredictionLog(log_path(Path(endpoint(ws, name).folder)))


def _names(ws: Workspace) -> list[str]:
    return sorted(path.parent.name for path in ws.endpoints.glob("*/spec.json"))


def _launch(job: JobFolder, *, forked: bool) -> None:
    """Start the process, where it needs torch from one that has it imported, if this process has such a one."""
    from sft_magics.engine.runtime import launchers

    # Kept from the launcher's point of view: the endpoint watches its parent itself, because it has to drain.
    launchers.start(job, _MODULE, keep=True, forked=forked)


def _record(job: JobFolder, spec: dict[str, Any]) -> Endpoint:
    alive = job.alive()  # before the state: what a process wrote before its end is in the state read after
    state = states.read(job.path)
    if state is not None and state.launch != spec["launch"]:
        state = None
    requests = state.requests if state else 0
    name, why = ("starting", "") if state is None else (state.state, state.why)
    if not alive and name in states.LIVING:
        name, why = "lost", f"its process is gone without a word; it last printed: {job.last_words() or 'nothing'}"
    with contextlib.suppress(errors.WorkspaceProblem):
        if log_path(job.path).exists():
            with PredictionLog(log_path(job.path)) as log:
                requests = log.requests()
    return Endpoint(
        name=spec["name"],
        model=spec["model"],
        ref=state.ref if state else spec["ref"],
        version=state.version if state else spec["version"],
        url=state.url if state else "",
        port=state.port if state else 0,
        socket=state.socket if state else "",
        restarts=state.restarts if state else 0,
        public=bool(spec.get("public")),
        state=name,
        token_file=spec["token_file"],
        folder=str(job.path),
        created_at=spec["created_at"],
        keep=spec["keep"],
        idle_stop=spec["idle_stop"],
        requests=requests,
        why=why,
        task=spec["task"],
        engine=state.engine if state else spec["engine"],
        engine_why=state.engine_why if state else spec["engine_why"],
        example=spec["example"],
        docs=_docs(job, state) if alive and state and state.port else "",
        wanted=spec["wanted"],
    )


def _docs(job: JobFolder, state: states.EndpointState) -> str:
    """Return the link by which a browser reads the description of an endpoint; none where its token cannot be read."""
    try:
        token = (job.path / "token").read_text().strip()
    except OSError:
        return ""
    return f"{state.url}{auth.DOCS}?key={auth.docs_key(token)}"


def _wait_until_ready(
    job: JobFolder, spec: dict[str, Any], progress: Callable[[str], None] | None, seconds: float
) -> None:
    reader = events.EventReader(job.events)
    deadline = time.monotonic() + seconds
    try:
        while True:
            # Asked in this order, each answer holds everything that came before the one asked ahead of it.
            alive = job.alive()
            state = states.read(job.path)
            for event in reader.read():
                if progress is not None and isinstance(event, events.Progress):
                    progress(event.what)
            if state is not None and state.launch == spec["launch"] and state.state != "starting":
                if state.state == "ready":
                    return
                _wait_until_gone(job, 5.0)
                raise errors.EndpointProblem(state.why, state.next_step or "type the same line again.")
            _judge_the_wait(job, spec, alive=alive, late=time.monotonic() > deadline, seconds=seconds)
            time.sleep(_LOOK_SECONDS)
    except BaseException as error:
        # Whatever ends the wait, the kernel's interrupt too: nothing half started may be left behind.
        _end_half_started(job, "stopped" if isinstance(error, KeyboardInterrupt) else "failed")
        raise


def _end_half_started(job: JobFolder, state: str) -> None:
    if job.alive():
        job.kill()
        _wait_until_gone(job, 5.0)
        _mark(job, state, "it was ended before it was ready")


def _judge_the_wait(job: JobFolder, spec: dict[str, Any], *, alive: bool, late: bool, seconds: float) -> None:
    """Raise EndpointProblem where waiting on makes no sense."""
    words = job.last_words()
    if not alive:
        said = f"; it last printed: {words}" if words else "; the system may have ended it for want of memory"
        raise errors.EndpointProblem(
            f"The process of endpoint {spec['name']} ended before it answered{said}.",
            "%sft_doctor shows the memory that is free; then type the same line again.",
        )
    if late:
        raise errors.EndpointProblem(
            f"Endpoint {spec['name']} did not answer within {seconds:g} seconds and was ended.",
            "wait until other work on this machine is done, then type the same line again.",
        )


def _wait_until_gone(job: JobFolder, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while job.alive() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)


def _mark(job: JobFolder, state: str, why: str) -> None:
    """Write the state of an endpoint whose process could not do so itself."""
    spec, last = job.spec(), states.read(job.path)
    known = last if last is not None and last.launch == spec["launch"] else None
    states.write(
        job.path,
        states.EndpointState(
            state=state,
            launch=spec["launch"],
            url=known.url if known else "",
            port=known.port if known else 0,
            socket=known.socket if known else "",
            version=known.version if known else spec["version"],
            ref=known.ref if known else spec["ref"],
            engine=known.engine if known else spec["engine"],
            engine_why=known.engine_why if known else spec["engine_why"],
            pid=known.pid if known else 0,
            requests=known.requests if known else 0,
            why=why,
        ),
    )
