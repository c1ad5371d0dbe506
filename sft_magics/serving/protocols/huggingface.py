"""The forms of Hugging Face's Inference API, as `huggingface_hub.InferenceClient` reads and writes them.

https://huggingface.co/docs/inference-providers/tasks/index
"""

import asyncio
import base64
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sft_magics.core.postprocessing import CORNERS
from sft_magics.core.records import Prediction
from sft_magics.core.sampling import Sampling
from sft_magics.core.tasks import CAUSAL_LM, CLASSIFIERS, IMAGE_TASKS, SEMANTIC_SEGMENTATION, TEXT_CLASSIFICATION
from sft_magics.serving.http import bodies, dispatch, parsing
from sft_magics.serving.http.replies import json_reply, told
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols import naming
from sft_magics.serving.protocols.listening import EventStream, Listener, Sending
from sft_magics.serving.protocols.openai_requests import flag, number, sampling

if TYPE_CHECKING:
    from starlette.requests import Request

    from sft_magics.serving.app import EndpointContext

_EXAMPLE = 'send for example {"inputs": "a text"}.'
_SIDES = ("xmin", "ymin", "xmax", "ymax")


async def answer(desk: "EndpointContext", request: "Request") -> Any:
    """Answer POST / and POST /models/NAME."""
    async with dispatch.inside(desk):
        name = request.path_params.get("name")
        task = (naming.called(desk, name) if name else desk.ready()).task
        data = await bodies.read(request)
        if task in IMAGE_TASKS and not _is_json(request, data):
            body: dict[str, Any] = {"inputs": data}
        else:
            body = bodies.parse_object(data, _EXAMPLE)
        given, options = _inputs(body), _parameters(body)
        if task == CAUSAL_LM:
            return await _written(desk, request, body, given, options)
        several = isinstance(given, list)
        items = parsing.items(given if several else [given], task)
        most = number(options, "top_k", 1, 100_000, 100_000, whole=True)
        least = number(options, "threshold", 0, 1, 0.0)
        reply = await dispatch.ask(desk, request, parsing.asked(items))
        if task == SEMANTIC_SEGMENTATION:
            forms = [await asyncio.to_thread(_masks, row, reply.labels) for row in reply.rows]
        else:
            forms = [_form(task, row, int(most or 0), least or 0.0) for row in reply.rows]
        # A single text's answer stands in a list of its own, a single picture's does not.
        return json_reply(forms if several or task == TEXT_CLASSIFICATION else forms[0], 200, told(reply))


def _is_json(request: "Request", data: bytes) -> bool:
    """Say whether a body is JSON; a client that sends a file's bytes may not say what they are."""
    if "content-type" in request.headers:
        return dispatch.is_json(request)
    return data[:1] == b"{"


def _inputs(body: dict[str, Any]) -> Any:
    given = body.get("inputs")
    if given is None:
        raise HttpProblem(400, f'The key "inputs" is missing; {_EXAMPLE}')
    if isinstance(given, list) and not given:
        raise HttpProblem(400, '"inputs" is empty; it shall hold at least one.')
    return given


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    given = body.get("parameters") or {}
    if not isinstance(given, dict):
        raise HttpProblem(400, f'"parameters" is {parsing.kind(given)}; it shall be an object.')
    return given


def _form(task: str, row: Prediction, most: int, least: float) -> Any:
    if task in CLASSIFIERS:
        ordered = sorted(row.scores.items(), key=lambda pair: -pair[1])
        return [{"label": label, "score": score} for label, score in ordered[:most]]
    return [_box(box) for box in row.boxes if box["confidence"] >= least]


def _box(box: Any) -> dict[str, Any]:
    corners = {side: round(box[corner]) for side, corner in zip(_SIDES, CORNERS, strict=True)}
    return {"label": box["label"], "score": box["confidence"], "box": corners}


def _masks(row: Prediction, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one black and white mask for each class that is there."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(row.mask.partition(",")[2]))) as mask:
        counts = mask.histogram()
        return [
            {"label": label, "score": row.confidence, "mask": _white(mask, place)}
            for place, label in enumerate(labels)
            if counts[place]
        ]


def _white(mask: Any, place: int) -> str:
    file = io.BytesIO()
    mask.point([255 if value == place else 0 for value in range(256)]).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


async def _written(
    desk: "EndpointContext", request: "Request", body: dict[str, Any], given: Any, options: dict[str, Any]
) -> Any:
    """Answer a language model's prompt, whole or in parts as TGI sends them."""
    question = parsing.asked([parsing.item(given, CAUSAL_LM, "inputs")])
    how, whole, details = _how(options), flag(options, "return_full_text"), flag(options, "details")
    stream = flag(body, "stream")
    writing = _Text(Listener(desk, request, question, how), str(given) if whole else "", how.seed)
    try:
        headers = {"x-prediction-ids": question.ids[0]}
        if stream:
            await writing.begin()
            headers["x-model-version"] = writing.listener.version
            return EventStream(writing.stream, writing.listener.close, headers)
        found = await writing.complete(details)
        reply = json_reply(found, 200, {**headers, "x-model-version": writing.listener.version})
    except BaseException:
        writing.listener.close()
        raise
    writing.listener.close()
    return reply


def _how(options: dict[str, Any]) -> Sampling:
    names = {"max_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p", "seed": "seed"}
    found = {ours: options.get(theirs) for ours, theirs in names.items()}
    stop = options.get("stop")
    how = sampling({**found, "stop": options.get("stop_sequences") if stop is None else stop})
    drawn = flag(options, "do_sample")
    if drawn and not how.temperature:  # to draw means at the model's own temperature, where none is given
        return replace(how, temperature=1.0)
    return how


class _Text:
    """One answer in TGI's forms."""

    def __init__(self, listener: Listener, before: str, seed: int | None) -> None:
        self.listener = listener
        self._pieces = listener.pieces()
        self._text = before
        self._seed = seed
        self._count = 0
        self._first: Any = None

    async def begin(self) -> None:
        """Wait for the first token, so that a problem before it has a status of its own; raises HttpProblem."""
        self._first = await anext(self._pieces)

    async def complete(self, details: bool) -> Any:
        """Return the whole answer."""
        tokens = []
        ended, prompt = "", 0
        async for piece in self._pieces:
            self._add(piece)
            tokens.append(self._token(piece))
            ended, prompt = piece.ended, piece.prompt
        found: dict[str, Any] = {"generated_text": self._text}
        if details:
            found["details"] = {
                "finish_reason": _reason(ended), "generated_tokens": self._count, "seed": self._seed,
                "prefill": [], "tokens": tokens, "prompt_tokens": prompt,
            }  # fmt: skip
        return [found]

    async def stream(self, say: Sending) -> None:
        """Send each token as it comes; the last brings the whole text."""
        try:
            await self._say(say, self._first)
            async for piece in self._pieces:
                await self._say(say, piece)
        except HttpProblem as problem:
            await say({"error": problem.sentence, "error_type": "generation"})

    async def _say(self, say: Sending, piece: Any) -> None:
        self._add(piece)
        details = {"finish_reason": _reason(piece.ended), "generated_tokens": self._count, "seed": self._seed}
        event = {
            "index": self._count, "token": self._token(piece), "generated_text": self._text if piece.ended else None,
            "details": {**details, "input_length": piece.prompt} if piece.ended else None,
        }  # fmt: skip
        await say(event)

    def _add(self, piece: Any) -> None:
        self._text += piece.text
        self._count += 1

    def _token(self, piece: Any) -> dict[str, Any]:
        # What the number of a token is, is not known here; it is its place in the answer.
        return {"id": self._count, "text": piece.text, "logprob": piece.sure, "special": False}


def _reason(ended: str) -> str:
    return "eos_token" if ended == "stop" else ended
