"""Answers leave in one piece, and leave."""

import asyncio
import socket

from sft_magics.serving.heads import Gathered
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
        gathered = Gathered(pipe, asyncio.get_running_loop())  # type: ignore[arg-type]
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
        gathered = Gathered(pipe, asyncio.get_running_loop())  # type: ignore[arg-type]
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
