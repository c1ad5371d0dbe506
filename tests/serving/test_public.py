"""Endpoints that other machines reach, and endpoints without a port: who may come in there, and who may not."""

import asyncio
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from sft_magics.core import errors
from sft_magics.core.records import Endpoint
from sft_magics.core.workspace import find
from sft_magics.notebook import panels
from sft_magics.notebook.panels import endpoint as card
from sft_magics.serving import addresses
from sft_magics.serving.app import routes
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from sft_magics.serving.http.auth import AuthMiddleware
from sft_magics.serving.problems import HttpProblem
from tests.serving.house import LABELS, House, ask, server, token, until

EVERY_ROUTE = [(sorted((r.methods or set()) - {"HEAD"})[0], r.path) for r in routes(None)]  # type: ignore[arg-type]
OUTWARD = next(iter(addresses.addresses()), "")
outward = pytest.mark.skipif(not OUTWARD, reason="this machine has no address but loopback's")


def from_outside(
    endpoint: Endpoint, method: str, path: str, body: Any = None, *, bearer: str | None = None, host: str = ""
) -> tuple[int, dict[str, Any]]:
    """Ask through the machine's outward address, as another machine does."""
    connection = http.client.HTTPConnection(OUTWARD, endpoint.port, timeout=60, source_address=(OUTWARD, 0))
    bearer = token(endpoint) if bearer is None else bearer
    headers = {"Host": host or f"{OUTWARD}:{endpoint.port}"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.fixture
def public(house: House) -> Endpoint:
    return house.start(public=True, hosts="models.example.org, Other.example:8443")


# Public


@outward
def test_other_machines_get_answers_and_nothing_without_the_token(public: Endpoint) -> None:
    assert public.public
    assert public.url == f"http://{OUTWARD}:{public.port}"
    status, reply = from_outside(public, "POST", "/predict", {"inputs": ["a film"]})
    assert (status, reply["predictions"][0]["label"]) == (200, "negative")
    for method, path in [*EVERY_ROUTE, ("GET", "/"), ("GET", "/nowhere")]:
        for bearer in ("", "wrong", token(public)[:-1]):
            assert from_outside(public, method, path, {"inputs": "x"}, bearer=bearer)[0] == 401
    assert token(public) not in json.dumps(from_outside(public, "GET", "/nowhere", bearer="wrong")[1])


@outward
def test_what_changes_it_is_done_on_its_own_machine(public: Endpoint, house: House) -> None:
    order = {"version": "m:2", "ref": "m@live", "folder": str(house.version(2)), "labels": ["negative", "positive"]}
    for path in (path for _, path in EVERY_ROUTE if path.startswith("/admin/")):
        status, reply = from_outside(public, "POST", path, order)
        assert (status, "on its own machine" in reply["error"]) == (403, True)
        # A proxy on this machine comes through loopback, and passes on what others call the endpoint.
        assert ask(public, "POST", path, order, host="models.example.org")[0] == 403
        assert ask(public, "POST", path, order, host=f"{OUTWARD}:{public.port}")[0] == 403
    assert from_outside(public, "GET", "/ready")[1]["version"] == "m:1"
    with EndpointClient(public) as client:
        assert client.swap(version="m:2", ref="m@live", folder=house.version(2), labels=("negative", "positive"))
    assert from_outside(public, "POST", "/predict", {"inputs": "a film"})[1]["version"] == "m:2"


@outward
def test_only_this_machine_s_names_and_those_that_were_given_are_answered(public: Endpoint) -> None:
    port = public.port
    machine = socket.gethostname()
    for host, status in (
        (f"{OUTWARD}:{port}", 200), (f"{machine}:{port}", 200), (f"{machine.upper()}:{port}", 200),
        ("models.example.org", 200), ("Models.Example.org", 200), (f"models.example.org:{port}", 200),
        ("other.example:8443", 200), ("other.example", 421), (f"evil.example:{port}", 421), (f"{OUTWARD}:1", 421),
        (OUTWARD, 421), (f"models.example.org.evil.example:{port}", 421), (f"0.0.0.0:{port}", 421),
        (f"{OUTWARD}:{port}@evil.example", 421),
    ):  # fmt: skip
        assert from_outside(public, "GET", "/health", host=host)[0] == status, host
    for origin, status in (("https://evil.example", 403), ("null", 403), ("https://models.example.org", 200)):
        assert ask(public, "GET", "/health", headers={"Origin": origin})[0] == status, origin


@outward
def test_without_it_other_machines_find_nobody(house: House) -> None:
    endpoint = house.start()
    assert endpoint.exposed == ""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((OUTWARD, endpoint.port), timeout=5)


def test_it_says_what_it_lays_open(public: Endpoint, house: House) -> None:
    for words in (str(public), str(panels.html(public)), panels.text(public)):
        assert "without TLS" in words
        assert "put a proxy that speaks TLS before it" in words
        assert "%sft_stop demo" in words
        assert token(public) not in words
    assert lifecycle.endpoint(house.ws, "demo").public
    lifecycle.stop(house.ws, "demo")
    assert "Ask it from a shell" not in str(panels.html(lifecycle.endpoint(house.ws, "demo")))


def test_it_does_not_begin_without_a_token(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle.secrets, "token_urlsafe", lambda _: "")
    with pytest.raises(errors.EndpointProblem, match="has no token, and does not answer without"):
        house.start(public=True)


@pytest.mark.parametrize(
    ("peer", "host", "status"),
    [
        ("127.0.0.1", b"127.0.0.1:80", 200), ("127.0.0.1", b"localhost:80", 200), (None, b"localhost:80", 200),
        ("192.0.2.7", b"127.0.0.1:80", 403), ("127.0.0.1", b"models.example.org", 403),
        ("192.0.2.7", b"models.example.org", 403), ("192.0.2.7", b"evil.example", 421),
    ],
)  # fmt: skip
def test_who_may_change_it_is_judged_by_address_and_name(peer: str | None, host: bytes, status: int) -> None:
    """The same without a second address: what the guard says of a request that comes from there."""
    said: list[int] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        said.append(200)

    def refuse(problem: HttpProblem, path: str) -> Any:
        said.append(problem.status)
        return Response(problem.sentence, problem.status)

    async def send(message: Any) -> None:
        """Drop it."""

    guard = AuthMiddleware(
        inner, token="t" * 20, names=addresses.names(80, public=True, hosts="models.example.org"), refuse=refuse
    )
    headers = [(b"host", host), (b"authorization", b"Bearer " + b"t" * 20)]
    client = None if peer is None else (peer, 5)
    for path in ("/admin/swap", "/predict"):
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "client": client}
        asyncio.run(guard(scope, None, send))  # type: ignore[arg-type]
    assert said == [status, 421 if status == 421 else 200]


# A Unix socket


@pytest.fixture
def quiet(house: House) -> Endpoint:
    return house.start(socket=True)


def test_it_has_a_socket_for_its_user_alone_and_no_port(quiet: Endpoint) -> None:
    path = Path(quiet.socket)
    assert path == Path(quiet.folder) / "sock"
    assert (stat.S_ISSOCK(path.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (True, 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (quiet.port, quiet.url) == (0, f"http+unix://{quiet.socket.replace('/', '%2F')}")
    every = [server(quiet), *server(quiet).children(recursive=True)]
    assert [c for p in every for c in p.net_connections("inet")] == []


def test_every_client_of_ours_goes_through_it(quiet: Endpoint, house: House) -> None:
    with EndpointClient(quiet) as client:
        assert [row.label for row in client.predict(["a", "b"])] == ["negative"] * 2
        assert client.swap(version="m:2", ref="m@live", folder=house.version(2), labels=("negative", "positive"))
        assert client.predict(["a"])[0].label == "positive"
        assert client.stats()["answered"] == 3
    from sft_magics.serving.client.load_generator import Question, drive

    found = drive(quiet, [Question(b'{"inputs": ["a film"]}')], 3, 0.3)
    assert found.milliseconds
    assert not found.refused
    with httpx.Client(transport=httpx.HTTPTransport(uds=quiet.socket)) as client:
        assert client.get("http://localhost/health").status_code == 401
        allowed = {"Authorization": f"Bearer {token(quiet)}"}
        assert client.get("http://localhost/health", headers=allowed).status_code == 200
        assert client.get("http://localhost/health", headers=allowed | {"Host": "evil.example"}).status_code == 421
    folder = Path(quiet.folder)
    assert lifecycle.stop(house.ws, "demo").state == "stopped"
    assert not (folder / "sock").exists()


def test_the_lines_of_its_card_ask_it(quiet: Endpoint) -> None:
    assert "--unix-socket" in card.curl(quiet)
    said = subprocess.run(["sh", "-c", card.curl(quiet)], capture_output=True, text=True, check=True, timeout=60).stdout
    assert json.loads(said)["predictions"][0]["label"] == "negative"
    done = subprocess.run(
        [sys.executable, "-c", card.python(quiet)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "negative" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_connect(quiet: Endpoint) -> None:
    script = (
        "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try:\n    s.connect(sys.argv[1])\nexcept PermissionError:\n    sys.exit(7)\n"
    )
    open_way = [p for p in Path(quiet.socket).parents if stat.S_IMODE(p.stat().st_mode) & 0o001 == 0]
    assert open_way, "the folder itself is shut"
    assert subprocess.run([sys.executable, "-c", script, quiet.socket], check=False, timeout=60).returncode == 7


@pytest.mark.crash
def test_killed_it_leaves_a_socket_that_the_next_one_replaces(quiet: Endpoint, house: House) -> None:
    os.kill(house.job().pid() or 0, signal.SIGKILL)
    until(lambda: not house.job().alive())
    assert lifecycle.endpoint(house.ws, "demo").state == "lost"
    with pytest.raises(errors.EndpointProblem, match="does not answer"):
        EndpointClient(quiet).health()
    again = house.start(socket=True)
    with EndpointClient(again) as client:
        assert client.predict(["a"])[0].label == "negative"
    os.kill(house.job().pid() or 0, signal.SIGKILL)
    until(lambda: not house.job().alive())
    lifecycle.stop(house.ws, "demo")
    assert not Path(again.socket).exists(), "asked to stop it, nothing of it is left"
    assert house.start().port, "the next one has a port again"
    assert not Path(again.socket).exists()


def test_a_file_that_is_no_socket_is_left_alone(house: House) -> None:
    folder = house.ws.endpoints / "demo"
    folder.mkdir(parents=True)
    (folder / "sock").write_text("precious")
    with pytest.raises(errors.EndpointProblem, match="cannot have the socket"):
        house.start(socket=True)
    assert (folder / "sock").read_text() == "precious"


def test_a_path_that_is_too_long_is_said_in_a_sentence(house: House) -> None:
    deep = find(house.root / ("d" * 60) / "workspace")
    with pytest.raises(errors.UsageProblem, match="and a socket's may have 107") as caught:
        lifecycle.start(
            deep, name="demo", model="m", ref="m", version="m:1", folder=house.version(1), labels=LABELS, socket=True
        )
    assert "SFT_HOME" in caught.value.next_step
    assert lifecycle.endpoints(deep) == []


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", None])
def test_who_is_here(peer: str | None) -> None:
    assert addresses.is_local(peer)


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1", "unix", ""])
def test_who_is_not(peer: str) -> None:
    assert not addresses.is_local(peer)
