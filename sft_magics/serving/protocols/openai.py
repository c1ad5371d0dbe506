"""The chat protocol of OpenAI's API: /v1/chat/completions, /v1/completions and /v1/models, for language models.

https://platform.openai.com/docs/api-reference/chat
"""

import time
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from sft_magics.core.sampling import Piece
from sft_magics.core.tasks import CAUSAL_LM
from sft_magics.serving.http import bodies, dispatch, parsing
from sft_magics.serving.http.replies import json_reply
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols import naming
from sft_magics.serving.protocols.listening import EventStream, Listener, Sending, writes
from sft_magics.serving.protocols.openai_requests import Order, chat_order, prompt_order

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext
    from sft_magics.serving.scheduling.loading import LoadedVersion

_KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def problem(status: int, sentence: str) -> dict[str, Any]:
    """Return a problem in the form that this protocol's clients read."""
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": sentence, "type": kind, "param": None, "code": None}}


async def chat(desk: "EndpointContext", request: "Request") -> Any:
    """Answer POST /v1/chat/completions."""
    return await _answer(desk, request, _Chat)


async def completion(desk: "EndpointContext", request: "Request") -> Any:
    """Answer POST /v1/completions; the prompt is put as a user's message, as the model has learned to be asked."""
    return await _answer(desk, request, _Completion)


async def models(desk: "EndpointContext", _: "Request") -> Any:
    """Answer GET /v1/models."""
    writes(desk)
    return {"object": "list", "data": [card(desk, desk.ready(), desk.name)]}


def card(desk: "EndpointContext", live: "LoadedVersion", name: str) -> dict[str, Any]:
    """Return what this protocol says of a model."""
    return {"id": name, "object": "model", "created": int(desk.started_at), "owned_by": naming.model(live)}


class _Chat:
    """The forms of a chat's answer."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"
    order = staticmethod(chat_order)

    @staticmethod
    def complete(text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    @staticmethod
    def begun() -> dict[str, Any] | None:
        return {"delta": {"role": "assistant", "content": ""}}

    @staticmethod
    def added(text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}


class _Completion:
    """The forms of a prompt's answer."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"
    order = staticmethod(prompt_order)

    @staticmethod
    def complete(text: str) -> dict[str, Any]:
        return {"text": text}

    @staticmethod
    def begun() -> dict[str, Any] | None:
        return None

    @staticmethod
    def added(text: str) -> dict[str, Any]:
        return {"text": text}


_Form = type[_Chat] | type[_Completion]


async def _answer(desk: "EndpointContext", request: "Request", form: _Form) -> Response:
    async with dispatch.inside(desk):
        writes(desk)
        body = bodies.parse_object(await bodies.read(request), 'send for example {"model": "...", "messages": [...]}.')
        order = form.order(body)
        _check_name(desk, order.model)
        writing = _Writing(desk, request, order, form)
        try:
            if order.stream:
                await writing.begin()
                return EventStream(writing.stream, writing.close, {"x-model-version": writing.version})
            reply = json_reply(await writing.complete(), 200, {"x-model-version": writing.version})
        except BaseException:
            writing.close()
            raise
        writing.close()
        return reply


def _check_name(desk: "EndpointContext", name: str) -> None:
    # A client that knows an address and no name sends one of its own: huggingface_hub "dummy", others "tgi".
    if name not in ("dummy", "tgi"):
        naming.called(desk, name)


class _Writing:
    """One answer of this protocol, whole or in parts."""

    def __init__(self, desk: "EndpointContext", request: "Request", order: Order, form: _Form) -> None:
        question = parsing.asked([parsing.item(order.asked, CAUSAL_LM, order.where)])
        self._listener = Listener(desk, request, question, order.sampling)
        self.close = self._listener.close
        self._pieces = self._listener.pieces()
        self._order = order
        self._form = form
        self._first: Piece | None = None
        self._created = int(time.time())
        self._tokens = 0

    @property
    def version(self) -> str:
        """The version that answers."""
        return self._listener.version

    async def begin(self) -> None:
        """Wait for the first token, so that a problem before it has a status of its own; raises HttpProblem."""
        self._first = await anext(self._pieces)

    async def complete(self) -> dict[str, Any]:
        """Return the whole answer; raises HttpProblem."""
        text, ended, prompt = "", "", 0
        async for piece in self._pieces:
            self._tokens += 1
            text, ended, prompt = text + piece.text, piece.ended, piece.prompt
        choice = {"index": 0, **self._form.complete(text), "logprobs": None, "finish_reason": ended}
        return {**self._head(self._form.whole), "choices": [choice], "usage": self._usage(prompt)}

    async def stream(self, say: Sending) -> None:
        """Send each piece as it comes, the usage if it is wanted, and the end."""
        assert self._first is not None
        if (begun := self._form.begun()) is not None:
            await self._say(say, begun, None)
        try:
            piece = self._first
            await self._piece(say, piece)
            async for piece in self._pieces:
                await self._piece(say, piece)
        except HttpProblem as found:
            await say(problem(found.status, found.sentence))
            return
        if self._order.usage:
            usage = {**self._head(self._form.part), "choices": [], "usage": self._usage(piece.prompt)}
            await say(usage)
        await say("[DONE]")

    async def _piece(self, say: Sending, piece: Piece) -> None:
        self._tokens += 1
        if piece.text:
            await self._say(say, self._form.added(piece.text), None)
        if piece.ended:
            await self._say(say, self._form.added(""), piece.ended)

    async def _say(self, say: Sending, added: dict[str, Any], ended: str | None) -> None:
        choice = {"index": 0, **added, "logprobs": None, "finish_reason": ended}
        await say({**self._head(self._form.part), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        key = f"{self._form.prefix}-{self._listener.question.ids[0]}"
        return {"id": key, "object": kind, "created": self._created, "model": self.version}

    def _usage(self, prompt: int) -> dict[str, int]:
        return {"prompt_tokens": prompt, "completion_tokens": self._tokens, "total_tokens": prompt + self._tokens}
