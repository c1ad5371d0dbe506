"""Inputs meant to do harm: each gets a refusal in one sentence within a second, and the endpoint stays as it was."""

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from sft_magics.serving.http import parsing
from tests.serving.hostile import CHAT, Case, chat, corpus
from tests.serving.house import House, ask, resident, sentence, token

pytestmark = pytest.mark.alone

SECONDS = 1.0
ROUNDS = 3
GROWTH = 48 << 20  # bytes, after the first round; the largest body is 16 MB


@pytest.fixture(scope="module")
def three(shared: House) -> dict[str, Endpoint]:
    found = {"demo": lifecycle.endpoint(shared.ws, "demo")}
    return found | {task: shared.start_task(task) for task in ("image-classification", "causal-lm")}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return corpus()


def send(endpoint: Endpoint, case: Case) -> tuple[int, dict[str, Any], float]:
    _, _, path, body, headers = case
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    sent = {"Host": f"127.0.0.1:{endpoint.port}", "Authorization": f"Bearer {token(endpoint)}", **headers}
    connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        connection.putheader(name, value.encode("latin-1"))
    connection.putheader("Content-Length", str(len(data)))
    began = time.perf_counter()
    try:
        connection.endheaders(data)
        response = connection.getresponse()
        status, text = response.status, response.read().decode()
    finally:
        connection.close()
    seconds = time.perf_counter() - began
    said = json.loads(text) if text.startswith("{") else {"error": f"It is no refusal: {text[:80]!r}"}
    return status, said, seconds


def test_each_is_refused_in_a_sentence_and_at_once(three: dict[str, Endpoint], cases: list[Case]) -> None:
    wrong, slow = [], []
    for case in cases:
        status, said, seconds = send(three[case[1]], case)
        if not 400 <= status < 500 or len(sentence(said)) > 400:
            wrong.append((case[0], status, str(said)[:200]))
        if seconds > SECONDS:
            slow.append((case[0], round(seconds, 2)))
    assert (len(cases) > 300, wrong, slow) == (True, [], [])


def test_memory_does_not_grow(three: dict[str, Endpoint], cases: list[Case], shared: House) -> None:
    sizes = []
    for _ in range(ROUNDS):
        for case in cases:
            send(three[case[1]], case)
        sizes.append([resident(endpoint) for endpoint in three.values()])
    growth = [last - first for first, last in zip(sizes[0], sizes[-1], strict=True)]
    assert max(growth) < GROWTH, sizes
    for endpoint in three.values():
        assert ask(endpoint, "GET", "/ready")[0] == 200
        assert ask(endpoint, "GET", "/stats")[1]["waiting"] == 0
    for name in three:
        assert "Traceback" not in shared.job(name).log.read_text()


def test_no_address_is_fetched(three: dict[str, Endpoint]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        for path, body in (("/predict", {"inputs": [where]}), ("/", {"inputs": where})):
            status, reply = ask(three["image-classification"], "POST", path, body)
            assert (status, "nothing is fetched" in sentence(reply)) == (400, True)
        part = [{"type": "image_url", "image_url": {"url": where}}]
        asked = chat(messages=[{"role": "user", "content": part}])
        assert ask(three["causal-lm"], "POST", CHAT, asked)[0] == 400
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"POST / HTTP/1.1\r\n"])
def test_a_head_without_end_is_cut(three: dict[str, Endpoint], shared: House, head: bytes) -> None:
    process = psutil.Process(shared.job("demo").pid() or 0)
    before = process.memory_info().rss
    block = b"X-A: b\r\n" * 8192 if head.endswith(b"\n") else b"a" * 65536
    with socket.create_connection(("127.0.0.1", three["demo"].port), timeout=10) as connection:
        connection.sendall(head)
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012  it is closed while we push
            for _ in range(500):
                connection.sendall(block)
    assert process.memory_info().rss - before < 16 << 20
    assert ask(three["demo"], "GET", "/ready")[0] == 200


def test_what_follows_a_body_has_an_end(three: dict[str, Endpoint]) -> None:
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{three['demo'].port}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with socket.create_connection(("127.0.0.1", three["demo"].port), timeout=10) as connection:
        connection.sendall(head.encode())
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            for _ in range(500):
                connection.sendall(b"X-A: b\r\n" * 8192)


def test_a_long_head_is_told_so(three: dict[str, Endpoint]) -> None:
    with socket.create_connection(("127.0.0.1", three["demo"].port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000)
        received = connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 431 ")
    assert "larger than 64 KB" in json.loads(received.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://evil.example HTTP/1.1", b"GET http://evil.example/health HTTP/1.1", b"CONNECT x:1 HTTP/1.1",
        b"OPTIONS * HTTP/1.1", b"GET health HTTP/1.1", b"GET /health HTTP/9.9", b"GET /health", b"\x16\x03\x01\x02\0",
        b"PRI * HTTP/2.0", b"GET /\xff HTTP/1.1", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", b"GET / HTTP/1.1\r\nContent-Length: -1",
        b"GET / HTTP/1.1\r\n folded: x", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b",
    ],
)  # fmt: skip
def test_lines_that_are_not_http_are_refused(three: dict[str, Endpoint], line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", three["demo"].port), timeout=10) as connection:
        connection.sendall(line + b"\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while block := connection.recv(65536):
            received += block
    assert received == b"" or received.startswith(b"HTTP/1.1 4"), received
    assert ask(three["demo"], "GET", "/ready")[0] == 200


def test_slow_bodies_and_half_open_connections_hold_up_nobody(three: dict[str, Endpoint]) -> None:
    endpoint = three["demo"]
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\nAuthorization: Bearer {token(endpoint)}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    held = []
    try:
        for i in range(100):
            held.append(socket.create_connection(("127.0.0.1", endpoint.port), timeout=10))
            held[-1].sendall(head.encode() if i % 2 else b"GET /")
        for _ in range(5):
            for connection in held:
                connection.sendall(b"a")
            began = time.perf_counter()
            assert ask(endpoint, "POST", "/predict", {"inputs": "x"})[0] == 200
            assert time.perf_counter() - began < SECONDS
    finally:
        for connection in held:
            connection.close()


@pytest.mark.slow
def test_what_does_not_come_is_not_waited_for(three: dict[str, Endpoint]) -> None:
    endpoint = three["demo"]
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\nAuthorization: Bearer {token(endpoint)}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    with (
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=60) as body,
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=60) as line,
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=60) as nothing,
    ):
        body.sendall(head.encode())
        line.sendall(b"GET / HT")
        assert body.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert (line.recv(1), nothing.recv(1)) == (b"", b"")


def test_a_bound_is_no_bound_for_honest_questions(three: dict[str, Endpoint]) -> None:
    table = ",".join("1" for _ in range(40_000))  # commas within a text are not values
    body = {"inputs": [table] * 20}
    assert ask(three["demo"], "POST", "/predict", body)[0] == 200
    labels = {"labels": [{"id": f"{i}", "label": "x"} for i in range(parsing.MAX_LABELS)]}
    assert ask(three["demo"], "POST", "/feedback", labels)[0] == 200
    folder = Path(three["demo"].folder)
    assert (folder / "token").read_text() not in (folder / "output.log").read_text()
