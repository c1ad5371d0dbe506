"""Who may come in: the outermost layer of the endpoint, before any route.

Loopback is shared by every user of the machine and by every web page in their browsers. So each request, whatever its
path, shows the endpoint's token, and is addressed to the endpoint by its own name: a page that was pointed at loopback
by a forged DNS answer brings a strange Host, a page from elsewhere a strange Origin. Of an endpoint that other machines
reach, what changes it is for this machine's own programs.

A browser that follows a link can send no header, so a link to the description has a key of its own: made of the token,
which it does not give away, good for reading the description alone, and for as long as the token, until the endpoint
ends.
"""

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from sft_magics.serving.addresses import Names, is_local
from sft_magics.serving.problems import HttpProblem

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

NO_TOKEN = "This endpoint needs its token: send the header 'Authorization: Bearer TOKEN'."
NOT_HERE = "What changes this endpoint is done on its own machine, through loopback."
_ADMIN = "/admin/"
WRONG_TOKEN = "This is not the token of this endpoint; it has a new one each time it starts."
DOCS = "/docs"
_DESCRIPTIONS = (DOCS, "/openapi.json")
_Refuse = Callable[[HttpProblem, str], "Response"]


def docs_key(token: str) -> str:
    """Return the key of a link to the description of the endpoint that has this token."""
    return hmac.new(token.encode(), b"sft_magics: read the description", "sha256").hexdigest()


class AuthMiddleware:
    """Lets a request through to `app` if it has the token and names the endpoint; else answers with `refuse`."""

    def __init__(self, app: "ASGIApp", *, token: str, names: Names, refuse: _Refuse) -> None:
        self._app = app
        self._token = token.encode()
        self._docs_key = docs_key(token).encode()
        self._names = names
        self._hosts, self._origins = names.hosts, names.origins
        self._refuse = refuse

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Judge one request."""
        if scope["type"] != "http":  # no websockets here, and uvicorn runs without lifespan events
            return
        try:
            host = self._judge(scope["headers"], described=self._has_docs_key(scope))
            if scope["path"].startswith(_ADMIN):
                self._judge_admin(host, scope.get("client"))
        except HttpProblem as problem:
            await self._refuse(problem, scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _has_docs_key(self, scope: "Scope") -> bool:
        """Say whether a request reads the description with the key of a link."""
        if scope["method"] != "GET" or scope["path"] not in _DESCRIPTIONS:
            return False
        keys = parse_qs(scope["query_string"]).get(b"key", [])
        return len(keys) == 1 and hmac.compare_digest(keys[0], self._docs_key)

    def _judge(self, headers: list[tuple[bytes, bytes]], *, described: bool) -> bytes:
        """Return the Host that a request names; raises HttpProblem, without the token unless it is `described`."""
        given: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            given.setdefault(name, []).append(value)
        hosts, origins = given.get(b"host", []), given.get(b"origin", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            raise HttpProblem(421, "The Host header does not name this endpoint; use the URL that the endpoint shows.")
        if any(origin.lower() not in self._origins for origin in origins):
            raise HttpProblem(403, "Requests from other web pages are refused.")
        tokens = given.get(b"authorization", [])
        if described and not tokens:
            return hosts[0].lower()
        if len(tokens) != 1 or tokens[0][:7].lower() != b"bearer ":
            raise HttpProblem(401, NO_TOKEN)
        if not hmac.compare_digest(tokens[0][7:].strip(), self._token):
            raise HttpProblem(401, WRONG_TOKEN)
        return hosts[0].lower()

    def _judge_admin(self, host: bytes, client: tuple[str, int] | None) -> None:
        """Let only who is on this machine, and calls it so, change the endpoint: a proxy here passes on others."""
        if host not in self._names.own or not is_local(client[0] if client else None):
            raise HttpProblem(403, NOT_HERE)
