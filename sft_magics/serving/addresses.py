"""Where an endpoint is reached: a port on loopback, one that other machines reach too, or a Unix socket.

What is ours asks on this machine, whatever others do: through loopback, or through the socket's file.
"""

import asyncio
import errno
import http.client
import ipaddress
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from sft_magics.core import errors
from sft_magics.core.records import Endpoint

SOCKET = "sock"  # in the endpoint's folder
_LOOPBACK = "127.0.0.1"
_EVERYWHERE = "0.0.0.0"
_LONGEST = 107  # bytes of a socket's path, by POSIX systems; a zero ends it
_WAITING = 2048


@dataclass(frozen=True)
class Address:
    """How clients on this machine reach an endpoint: a port, or the path of a socket."""

    port: int = 0
    socket: str = ""

    @classmethod
    def of(cls, endpoint: Endpoint) -> "Address":
        """Return the door of an endpoint."""
        return cls(endpoint.port, endpoint.socket)

    @property
    def host(self) -> str:
        """What the Host header of a request says."""
        return "localhost" if self.socket else f"{_LOOPBACK}:{self.port}"

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        """Return a connection that opens itself at the first request; one may take `seconds`."""
        if self.socket:
            return _SocketConnection(self.socket, seconds)
        return http.client.HTTPConnection(_LOOPBACK, self.port, timeout=seconds)

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection for an event loop; raises OSError."""
        if self.socket:
            return await asyncio.open_unix_connection(self.socket)
        return await asyncio.open_connection(_LOOPBACK, self.port)


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.settimeout(self.timeout)
            found.connect(self._path)
        except OSError:
            found.close()
            raise
        self.sock = found


@dataclass(frozen=True)
class Names:
    """By which names requests may call an endpoint, as their Host headers say them.

    `own` are those of this machine's own programs, by which alone its administration is reached.
    """

    own: frozenset[bytes]
    others: frozenset[bytes] = field(default_factory=frozenset)

    @property
    def hosts(self) -> frozenset[bytes]:
        """All of them."""
        return self.own | self.others

    @property
    def origins(self) -> frozenset[bytes]:
        """The origins of pages that the endpoint itself shows; a proxy before it may speak TLS."""
        return frozenset(scheme + host for host in self.hosts for scheme in (b"http://", b"https://"))


def names(port: int, *, public: bool = False, socket_path: str = "", hosts: str = "") -> Names:
    """Return the names of an endpoint; `hosts` are more of them, parted by commas, by which a proxy calls it."""
    if socket_path:
        return Names(frozenset({b"localhost"}))
    own = frozenset({f"{_LOOPBACK}:{port}".encode(), f"localhost:{port}".encode()})
    if not public:
        return Names(own)
    machine = socket.gethostname().lower()
    known = {machine, machine.partition(".")[0], f"{machine.partition('.')[0]}.local", *addresses()}
    given = {name.strip().lower() for name in hosts.split(",") if name.strip()}
    others = {f"{name}:{port}" for name in known | given} | given
    return Names(own, frozenset(name.encode() for name in others))


def addresses() -> list[str]:
    """Return this machine's IPv4 addresses but for those of loopback, private ones last that only containers use."""
    import psutil

    found = []
    for name, cards in psutil.net_if_addrs().items():
        inner = name.startswith(("docker", "br-", "veth", "virbr"))
        found += [(inner, card.address) for card in cards if card.family == socket.AF_INET]
    return [address for _, address in sorted(found) if not ipaddress.ip_address(address).is_loopback]


def url(port: int, *, public: bool = False, socket_path: str = "") -> str:
    """Return the address that users are shown."""
    if socket_path:
        return f"http+unix://{quote(socket_path, safe='')}"
    if public:
        return f"http://{next(iter(addresses()), socket.gethostname())}:{port}"
    return f"http://{_LOOPBACK}:{port}"


def is_local(peer: str | None) -> bool:
    """Say whether a request comes from this machine; None is a socket's."""
    if peer is None:
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(peer).is_loopback
    return False


def check_socket(path: Path) -> None:
    """Refuse a socket where there are none, or where its path is too long; raises UsageProblem."""
    if not hasattr(socket, "AF_UNIX"):
        raise errors.UsageProblem("This system has no Unix sockets.", "leave --socket out: it answers on loopback.")
    size = len(str(path).encode())
    if size > _LONGEST:
        raise errors.UsageProblem(
            f"The path of the socket has {size} bytes, and a socket's may have {_LONGEST}: {path}.",
            "take a workspace with a shorter path (SFT_HOME), a shorter --name, or leave --socket out.",
        )


def listen(port: int, name: str, *, public: bool = False, socket_path: str = "") -> socket.socket:
    """Return a listening socket; raises EndpointProblem."""
    return _on_socket(socket_path, name) if socket_path else _on_port(port, name, public=public)


def _on_port(port: int, name: str, *, public: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_EVERYWHERE if public else _LOOPBACK, port))
        listener.listen(_WAITING)
    except OSError as error:
        listener.close()
        why = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
        raise errors.EndpointProblem(
            f"The endpoint {name} cannot have port {port}: {why}.",
            "type the same line with --port auto, which takes a free one.",
        ) from error
    listener.setblocking(False)
    return listener


def _on_socket(path: str, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        forget(path)  # that of a process that was killed; who holds the endpoint's lock is the only one here
        listener.bind(path)
        Path(path).chmod(0o600)  # before it listens: nobody else has connected by then
        listener.listen(_WAITING)
    except OSError as error:
        listener.close()
        raise errors.EndpointProblem(
            f"The endpoint {name} cannot have the socket {path}: {error.strerror}.", "leave --socket out."
        ) from error
    listener.setblocking(False)
    return listener


def forget(path: str) -> None:
    """Remove the file of a socket, if there is one; no other file."""
    with suppress(FileNotFoundError):
        if path and stat.S_ISSOCK(Path(path).lstat().st_mode):
            Path(path).unlink()
