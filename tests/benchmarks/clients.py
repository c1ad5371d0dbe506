"""Clients that cost little, so that a measurement shows the server: one process, one poll, requests made beforehand."""

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_END = b"\r\n\r\n"
_SIZE = 1 << 16
_PATIENCE = 60.0  # seconds without any answer


@dataclass
class _Client:
    """A connection that asks, waits for its answer, and asks the next."""

    connection: socket.socket
    turn: int
    began: float = 0.0
    heard: bytearray = field(default_factory=bytearray)

    def ask(self, request: bytes) -> None:
        self.began = time.perf_counter()
        self.connection.sendall(request)

    def answered(self) -> bool:
        """Read what has come; say whether the answer is whole. Raises AssertionError unless it is 200."""
        part = self.connection.recv(_SIZE)
        if not part:
            raise ConnectionResetError("the server closed a connection")
        self.heard += part
        end = self.heard.find(_END)
        if end < 0:
            return False
        head = bytes(self.heard[:end])
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(h for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:"))
        if len(self.heard) < end + len(_END) + int(length.partition(b":")[2]):
            return False
        self.heard.clear()
        return True


def ask(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> list[float]:
    """Ask from so many connections at once, each with its next request when it has its answer; return milliseconds.

    Every client asks at least once.
    """
    end = time.perf_counter() + seconds
    found: list[float] = []
    poll = select.poll()
    asking: dict[int, _Client] = {}
    try:
        for number in range(clients):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asking[connection.fileno()] = _Client(connection, number)
            poll.register(connection, select.POLLIN)
        for client in asking.values():
            client.ask(requests[client.turn % len(requests)])
        while asking:
            ready = poll.poll(_PATIENCE * 1e3)
            assert ready, f"no answer in {_PATIENCE:.0f} s"
            for handle, _ in ready:
                client = asking[handle]
                if not client.answered():
                    continue
                now = time.perf_counter()
                found.append((now - client.began) * 1e3)
                if now >= end:
                    poll.unregister(handle)
                    asking.pop(handle).connection.close()
                    continue
                client.turn += clients
                client.ask(requests[client.turn % len(requests)])
    finally:
        for client in asking.values():
            client.connection.close()
    return found
