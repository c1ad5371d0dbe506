"""Heads of requests, of bounded size and time: they are read before the guard has seen a token.

uvicorn's reader takes a head, and what follows a body in chunks, of any length. After a head with `Upgrade` its parser
drops the body and reads what follows as the next request: a client that only offers another protocol (RFC 9110, 7.8),
as Java's does with h2c, would lose its question, and its body could pass for a request.
"""

import asyncio
import json
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sft_magics.serving.http import bodies

MAX_HEAD = 64 * 1024
HEAD_SECONDS = 30.0
_TOO_LARGE = "The head of the request is larger than 64 KB; send less."
_NO_HTTP = "This is not a request that HTTP/1.1 allows."
_NO_HTTP2 = "This endpoint speaks HTTP/1.1; HTTP/2 is not understood here."
_NO_TUNNEL = "This endpoint is no proxy: CONNECT is refused."
_PREFACE = b"PRI * HTTP/2"


class CoalescingTransport:
    """A transport that sends in one piece what is written in one turn of the event loop.

    uvicorn writes a head and a body, and the loop sends each at once: two system calls, and a client woken twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data with whatever is written until the loop's next turn."""
        if not self._written:
            self._loop.call_soon(self.flush)
        self._written.append(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what was written."""
        written, self._written = self._written, []
        if written and not self._transport.is_closing():  # the client may have gone in the same turn
            self._transport.write(b"".join(written))


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection on which a head, or what follows a body, has no end, or does not come."""

    _quiet = 0  # bytes since the last that led to something
    _plain: bytes | None = None  # a head that offered an upgrade, without the offer
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head."""
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]
        self._wait()

    def eof_received(self) -> None:
        """Send what was written before the transport closes: the client asks no more, but it may read."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, or refuse."""
        self._quiet += len(data)
        self._unset_keepalive_if_required()
        rest = data
        try:
            while rest and not self.transport.is_closing():
                rest = self._fed(rest)
        except httptools.HttpParserError:
            self._bad_request(_NO_HTTP2 if data.startswith(_PREFACE) else _NO_HTTP)
        if self._quiet > MAX_HEAD and not self.transport.is_closing():
            if self._answers_nobody():
                self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
            self.transport.close()

    def _fed(self, data: bytes) -> bytes:
        """Let the parser read; return what is to be read anew where a head offered an upgrade.

        No other protocol is spoken here, so the offer is passed over: the head is read once more without it, by a
        parser that then takes the body as this request's own.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            head, self._plain = self._plain, None
            if head is None:
                self._bad_request(_NO_TUNNEL)
                return b""
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
            return head + data[upgrade.args[0] :]
        return b""

    def _head(self) -> bytes | None:
        """Return the head that was read, without its offer of an upgrade; None for CONNECT, which has no other form."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            return None
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _bad_request(self, sentence: str) -> None:
        """Refuse what is not HTTP, in the form of every refusal."""
        self._refuse(b"400 Bad Request", sentence)
        self.transport.close()

    def _refuse(self, status: bytes, sentence: str) -> None:
        body = json.dumps({"error": sentence}).encode()
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)

    def _answers_nobody(self) -> bool:
        return getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request

    def on_message_begin(self) -> None:
        """A head begins."""
        self._quiet = 0
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head has ended."""
        self._quiet = 0
        self._wait_no_more()
        if self.parser.should_upgrade():
            self._plain = self._head()
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A body has come whole."""
        if self.parser.should_upgrade():
            return
        self.scope[bodies.WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body has come."""
        self._quiet = 0
        super().on_body(body)

    def _wait(self) -> None:
        self._wait_no_more()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
