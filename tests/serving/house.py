"""What the tests of this room share: a workspace with fake versions, and a bare HTTP client that can misbehave."""

import http.client
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from sft_magics.core.errors import EndpointProblem
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Endpoint, Prediction
from sft_magics.core.workspace import Workspace, find
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from sft_magics.serving.testing import EchoPredictor

LABELS = ("negative", "positive")
FEEDBACK: dict[str, Any] = {"added": 0, "unknown": [], "mended": 0, "refused": {}, "labels": []}


class House:
    """A workspace with fake versions `m:1` (says negative) and `m:2` (says positive), and endpoints that serve them."""

    def __init__(self, root: Path) -> None:
        self.ws: Workspace = find(root / "workspace")
        self.root = root

    def version(self, number: int, **settings: Any) -> Path:
        favorite = LABELS[(number - 1) % 2]
        return EchoPredictor.save(self.root / f"m-{number}", LABELS, favorite=favorite, **settings)

    def start(self, name: str = "demo", *, folder: Path | None = None, **options: Any) -> Endpoint:
        order: dict[str, Any] = {
            "model": "m",
            "ref": "m@live",
            "version": "m:1",
            "labels": LABELS,
            "seconds": 60.0,
        } | options
        return lifecycle.start(self.ws, name=name, folder=folder or self.version(1), **order)

    def start_task(self, task: str, *, seconds: float = 0.0) -> Endpoint:
        """Start an endpoint named after its task, with the fake of it."""
        folder = EchoPredictor.save(self.root / task, LABELS, task=task, seconds=seconds)
        return self.start(task, folder=folder, seconds=180.0)

    def job(self, name: str = "demo") -> JobFolder:
        return JobFolder(self.ws.endpoints / name)

    def end_all(self) -> None:
        for endpoint in lifecycle.endpoints(self.ws):
            self.job(endpoint.name).kill()


class Crowd:
    """Threads that ask an endpoint without pause until they shall stop or something goes wrong."""

    def __init__(self, endpoint: Endpoint, size: int) -> None:
        self.answers: list[tuple[str, Prediction]] = []
        self.problems: list[EndpointProblem] = []
        self._endpoint = endpoint
        self._go_on = threading.Event()
        self._go_on.set()
        self._threads = [threading.Thread(target=self._ask) for _ in range(size)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        try:
            with EndpointClient(self._endpoint) as client:
                while self._go_on.is_set():
                    rows = client.predict(["a film"] * 5, batch=5)
                    self.answers.extend((client.version, row) for row in rows)
        except EndpointProblem as problem:
            self.problems.append(problem)

    def wait_for(self, more: int) -> None:
        wanted = len(self.answers) + more
        while len(self.answers) < wanted and not self.problems:
            time.sleep(0.005)

    def go_home(self) -> None:
        self._go_on.clear()
        for thread in self._threads:
            thread.join()


def until(what: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until the call gives something true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def server(endpoint: Endpoint) -> psutil.Process:
    """The process of the endpoint itself, which speaks HTTP."""
    return psutil.Process(int(json.loads((Path(endpoint.folder) / "state.json").read_text())["pid"]))


def resident(endpoint: Endpoint) -> int:
    """The bytes of memory of the endpoint and of the processes that hold its versions."""
    return sum(int(process.memory_info().rss) for process in [server(endpoint), *hosts(endpoint)])


def hosts(endpoint: Endpoint) -> list[psutil.Process]:
    """The processes that hold the endpoint's versions, whoever started them."""
    parents = {child: parent(child) for child in server(endpoint).children(recursive=True)}
    return [child for child, its in parents.items() if its and child.pid not in parents.values()]


def parent(process: psutil.Process) -> int:
    """The process id of its parent; 0 where it does not live any more."""
    try:
        return 0 if process.status() == psutil.STATUS_ZOMBIE else process.ppid()
    except psutil.NoSuchProcess:
        return 0


def token(endpoint: Endpoint) -> str:
    return Path(endpoint.token_file).read_text()


def png(wide: int = 8, high: int = 6) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((wide, high)).save(file, "PNG")
    return file.getvalue()


def sentence(reply: dict[str, Any]) -> str:
    """What a refusal says, in whatever form its protocol has."""
    said = reply.get("message", reply.get("error"))
    said = said["message"] if isinstance(said, dict) else said
    assert isinstance(said, str)
    assert said
    assert "\n" not in said
    assert "Traceback" not in said
    return said


Reply = tuple[int, dict[str, Any]]


def ask(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    host: str | None = None,
) -> Reply:
    """One request on a connection of its own; a `body` that is not bytes is sent as JSON; the token is its file's."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    bearer = Path(endpoint.token_file).read_text() if token is None else token
    sent = {"Host": host or f"127.0.0.1:{endpoint.port}"}
    sent |= {"Authorization": f"Bearer {bearer}"} if bearer else {}
    try:
        connection.request(method, path, body=data, headers=sent | (headers or {}))
        response = connection.getresponse()
        assert response.getheader("content-type") == "application/json"
        return response.status, json.loads(response.read())
    finally:
        connection.close()
