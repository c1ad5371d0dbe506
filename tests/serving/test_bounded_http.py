"""Answers leave in one piece, and leave; a body is what its head says, whatever else that offers."""

import asyncio
import json
import socket
from typing import Any

import pytest

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from sft_magics.serving.http.bounded_http import CoalescingTransport
from tests.serving.house import House, token


class Pipe:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_what_is_written_in_one_turn_is_sent_at_once() -> None:
    async def answer() -> list[bytes]:
        pipe = Pipe()
        gathered = CoalescingTransport(pipe, asyncio.get_running_loop())  # type: ignore[arg-type]
        gathered.write(b"head ")
        gathered.write(b"body")
        assert pipe.written == []
        await asyncio.sleep(0)
        gathered.write(b"more")
        await asyncio.sleep(0)
        gathered.write(b"last")
        gathered.close()
        await asyncio.sleep(0)
        return pipe.written

    assert asyncio.run(answer()) == [b"head body", b"more", b"last"]


def test_a_client_that_has_gone_is_sent_nothing() -> None:
    async def leave() -> list[bytes]:
        pipe = Pipe()
        gathered = CoalescingTransport(pipe, asyncio.get_running_loop())  # type: ignore[arg-type]
        gathered.write(b"answer")
        pipe.close()  # by the other end
        await asyncio.sleep(0)
        return pipe.written

    assert asyncio.run(leave()) == []


def test_a_client_that_asks_no_more_still_gets_its_answer(house: House) -> None:
    endpoint = house.start()
    with socket.create_connection(("127.0.0.1", endpoint.port)) as client:
        shown = f"Authorization: Bearer {token(endpoint)}\r\n"
        client.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\n{shown}\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        assert b"200 OK" in client.recv(4096)


# Offers of another protocol, and what else a head may say of its body


BODY = json.dumps({"inputs": ["a film"]}).encode()
PACKETS = [1, 7, 60, 4096]


class Wire:
    """A connection that sends bytes as they are, in packets of a size, and reads one answer after the other."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._socket = socket.create_connection(("127.0.0.1", endpoint.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")
        self._shown = f"Host: 127.0.0.1:{endpoint.port}\r\nAuthorization: Bearer {token(endpoint)}\r\n".encode()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def head(self, line: str, *more: str) -> bytes:
        return b"%s HTTP/1.1\r\n%s%s\r\n" % (line.encode(), self._shown, b"".join(f"{m}\r\n".encode() for m in more))

    def send(self, data: bytes, packet: int = 4096) -> None:
        for start in range(0, len(data), packet):
            self._socket.sendall(data[start : start + packet])

    def answer(self) -> tuple[int, Any]:
        status = int(self._reader.readline().split()[1])
        size = 0
        while (line := self._reader.readline()) != b"\r\n":
            assert line, "the answer ended in its head"
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        return status, json.loads(self._reader.read(size)) if size else None

    def closed(self) -> bool:
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
OFFERS = {
    "h2c": H2C,
    "websocket": ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "other": ("Upgrade: TLS/1.0, foo/2", "Connection: keep-alive, UPGRADE"),
    "twice": ("Upgrade: h2c", "Upgrade: websocket", "connection: upgrade"),
}


@pytest.mark.parametrize("packet", PACKETS)
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("how", ["length", "chunks"])
def test_an_offer_of_another_protocol_is_passed_over_and_the_body_is_read(
    shared: House, offer: str, how: str, packet: int
) -> None:
    with Wire(lifecycle.endpoint(shared.ws, "demo")) as wire:
        framing = f"Content-Length: {len(BODY)}" if how == "length" else "Transfer-Encoding: chunked"
        asked = wire.head("POST /predict", *OFFERS[offer], framing) + (BODY if how == "length" else chunked(BODY))
        for _ in range(2):  # the connection lives on
            wire.send(asked, packet)
            status, reply = wire.answer()
            assert (status, reply["predictions"][0]["label"]) == (200, "negative")
        wire.send(asked + wire.head("GET /health", *OFFERS[offer]) + asked, packet)
        assert [wire.answer()[0] for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_behind_an_offer_is_never_a_request_of_its_own(shared: House, offer: str) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    with Wire(endpoint) as wire:
        hidden = wire.head("POST /admin/stop", "Content-Length: 2") + b"{}"
        wire.send(wire.head("POST /predict", *OFFERS[offer], f"Content-Length: {len(hidden)}"))
        wire.send(hidden)
        status, reply = wire.answer()
        assert (status, "not JSON" in reply["error"]) == (400, True)
        wire.send(wire.head("GET /health"))
        assert wire.answer() == (200, {"name": "demo", "state": "ready"})
    assert lifecycle.endpoint(shared.ws, "demo").state == "ready"


def test_without_a_token_the_body_behind_an_offer_is_no_request_either(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    with Wire(endpoint) as wire:
        hidden = wire.head("GET /health")
        bare = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
        wire.send(f"{bare}Content-Length: {len(hidden)}\r\n\r\n".encode())
        assert wire.answer()[0] == 401
        wire.send(hidden)
        wire.send(wire.head("GET /ready"))
        assert wire.answer()[1]["version"] == "m:1"


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: -1",),
        ("Content-Length: 4, 4",),
        ("Content-Length: 0x4",),
        ("Transfer-Encoding: chunked, identity",),
        ("Content-Length : 4",),
        ("X: a", " folded: b"),
    ],
)
@pytest.mark.parametrize("offer", [(), H2C])
def test_a_body_of_two_lengths_or_of_none_is_refused_and_the_connection_ends(
    shared: House, framing: tuple[str, ...], offer: tuple[str, ...]
) -> None:
    with Wire(lifecycle.endpoint(shared.ws, "demo")) as wire:
        wire.send(wire.head("POST /predict", *offer, *framing) + b"0\r\n\r\n" + wire.head("GET /ready"))
        status, reply = wire.answer()
        assert (status, "error" in reply) == (400, True)
        assert wire.closed()


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate, chunked", "identity, chunked"])
def test_a_body_that_is_packed_for_its_way_is_refused(shared: House, coding: str) -> None:
    with Wire(lifecycle.endpoint(shared.ws, "demo")) as wire:
        wire.send(wire.head("POST /predict", f"Transfer-Encoding: {coding}") + chunked(BODY))
        status, reply = wire.answer()
        assert (status, "Transfer-Encoding" in reply["error"]) == (501, True)


@pytest.mark.parametrize("offer", [(), H2C])
def test_a_client_that_waits_for_leave_is_told_to_go_on(shared: House, offer: tuple[str, ...]) -> None:
    with Wire(lifecycle.endpoint(shared.ws, "demo")) as wire:
        wire.send(wire.head("POST /predict", *offer, "Expect: 100-continue", f"Content-Length: {len(BODY)}"))
        assert wire.answer() == (100, None)
        wire.send(BODY)
        assert wire.answer()[0] == 200


def test_http_2_and_tunnels_are_refused_in_a_sentence(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    with Wire(endpoint) as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        assert wire.answer() == (400, {"error": "This endpoint speaks HTTP/1.1; HTTP/2 is not understood here."})
        assert wire.closed()
    with Wire(endpoint) as wire:
        wire.send(wire.head("CONNECT example.org:443") + wire.head("GET /ready"))
        assert wire.answer()[0] == 400
        assert wire.closed()
