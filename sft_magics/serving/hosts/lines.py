"""The line between an endpoint and a host: messages as JSON, the bytes of pictures beside them as they are."""

import json
import select
from multiprocessing.connection import Connection
from typing import Any

_BYTES = "bytes beside"
_PLAIN = json.JSONEncoder()


class MessageChannel:
    """One end of a line."""

    def __init__(self, handle: int) -> None:
        """Take over the socket with this file descriptor."""
        self._connection = Connection(handle)

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._connection.fileno()

    def close(self) -> None:
        """Close this end."""
        self._connection.close()

    def send(self, *message: Any) -> None:
        """Send what JSON can say, and bytes; raises OSError where nobody is at the other end."""
        beside: list[bytes] = []

        def put_beside(value: Any) -> dict[str, int]:
            if not isinstance(value, bytes):
                raise TypeError(f"a {type(value).__name__} cannot be sent")
            beside.append(value)
            return {_BYTES: len(beside) - 1}

        try:
            text = _PLAIN.encode(message)
        except TypeError:
            text = json.dumps(message, default=put_beside)
        self._connection.send_bytes(f"{len(beside)} {text}".encode())
        for part in beside:
            self._connection.send_bytes(part)

    def receive(self) -> list[Any]:
        """Return the next message; raises EOFError, OSError where nobody is at the other end any more."""
        count, _, text = self._connection.recv_bytes().partition(b" ")
        beside = [self._connection.recv_bytes() for _ in range(int(count))]
        message: list[Any] = json.loads(text)
        return [self._whole(value, beside) for value in message] if beside else message

    def waits(self, seconds: float) -> bool:
        """Say whether there is something to receive, now or within so many seconds."""
        poll = select.poll()  # the connection's own makes a selector each time
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(seconds * 1e3))

    def _whole(self, value: Any, beside: list[bytes]) -> Any:
        """Return a value, or the list of its values, with the bytes that were sent beside it."""
        if isinstance(value, list):
            return [self._whole(one, beside) for one in value]
        return beside[value[_BYTES]] if isinstance(value, dict) and _BYTES in value else value
