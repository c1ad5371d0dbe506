"""Speaks to an endpoint from Python: the token from its file, one connection kept open, sentences for failures.

A client is for one thread; others make their own.
"""

import base64
import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sft_magics.core import errors
from sft_magics.core.records import Endpoint, Prediction
from sft_magics.serving.addresses import Address

_SECONDS = 120.0
_BATCH_CHARACTERS = 2_000_000
_TRIES_WHEN_FULL = 30


class EndpointClient:
    """A client of `endpoint`; raises EndpointProblem wherever the endpoint does not answer as it should.

    `seconds` is how long one request may take. `version` is what gave the newest answer.
    """

    def __init__(self, endpoint: Endpoint, *, seconds: float = _SECONDS) -> None:
        self._endpoint = endpoint
        self.version = endpoint.version
        try:
            self._token = Path(endpoint.token_file).read_text().strip()
        except OSError as error:
            raise errors.EndpointProblem(
                f"The token of endpoint {endpoint.name} cannot be read from {endpoint.token_file}.",
                f"%sft_endpoints shows how it stands; %sft_deploy {endpoint.ref} starts it with a new token.",
            ) from error
        self._connection = Address.of(endpoint).connection(seconds)

    def predict(
        self, inputs: Sequence[str | bytes], *, batch: int = 64, progress: Callable[[int, int], None] | None = None
    ) -> list[Prediction]:
        """Return one logged answer an input, in order, asking `batch` of them at a time; `progress(done, total)`.

        An input is a text, or the bytes of an image's file. Raises DataProblem for a row that is neither.
        """
        for i, value in enumerate(inputs):
            if not isinstance(value, str | bytes):
                raise errors.DataProblem(
                    f"Row {i} is {type(value).__name__}, not text.", "drop or fill such rows, then ask again."
                )
        answers: list[Prediction] = []
        for part in _batches(inputs, batch):
            # An id of our own makes a second try after a lost connection the same question, logged once.
            ids = [secrets.token_hex(8) for _ in part]
            reply = self._ask_patiently({"inputs": [_written(value) for value in part], "ids": ids})
            self.version = reply["version"]
            answers += [
                _answer(value, row, self.version) for value, row in zip(part, reply["predictions"], strict=True)
            ]
            if progress is not None:
                progress(len(answers), len(inputs))
        return answers

    def feedback(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Send true labels as (id, label) pairs; returns what `serving.log.prediction_log.FeedbackResult` has."""
        return self._call("POST", "/feedback", {"labels": [{"id": i, "label": label} for i, label in pairs]})

    def health(self) -> dict[str, Any]:
        """Return {"name", "state"}."""
        return self._call("GET", "/health")

    def ready(self) -> dict[str, Any]:
        """Return {"name", "state", "version", "ref", "labels"}."""
        return self._call("GET", "/ready")

    def stats(self) -> dict[str, Any]:
        """Return counts and latencies (milliseconds) since the endpoint started."""
        return self._call("GET", "/stats")

    def swap(
        self,
        *,
        version: str,
        ref: str,
        folder: Path,
        labels: Sequence[str],
        examples: str = "",
        engine: str = "torch",
        others: Sequence[tuple[str, str]] = (),
        why: str = "",
    ) -> dict[str, Any]:
        """Let the endpoint load `version` from `folder` and answer with it; returns {"version", "ref", "labels"}.

        `others` are engines, each with its folder, for where `engine` does not answer the stored examples as it did.
        """
        order = {"version": version, "ref": ref, "folder": str(folder.absolute()), "labels": list(labels)}
        how = {"examples": examples, "engine": engine, "others": list(others), "why": why}
        return self._call("POST", "/admin/swap", order | how)

    def try_out(self, order: dict[str, Any]) -> dict[str, Any]:
        """Let the endpoint try a version beside the live one, with a share of the requests, or 0 as a shadow."""
        return self._call("POST", "/admin/traffic", order)

    def abort(self, why: str) -> dict[str, Any]:
        """Let the live version answer alone."""
        return self._call("POST", "/admin/traffic", {"abort": why})

    def stop(self) -> dict[str, Any]:
        """Tell the endpoint to drain and end."""
        return self._call("POST", "/admin/stop", {})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> "EndpointClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask_patiently(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask, and come again when the endpoint says that its queue is full."""
        for _ in range(_TRIES_WHEN_FULL):
            status, reply, wait = self._send("POST", "/predict", question)
            if status != 429:
                return self._judged(status, reply)
            time.sleep(wait)
        return self._judged(status, reply)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        status, reply, _ = self._send(method, path, body)
        return self._judged(status, reply)

    def _judged(self, status: int, reply: dict[str, Any]) -> dict[str, Any]:
        if status == 200:
            return reply
        name = self._endpoint.name
        sentence = str(reply.get("error") or f"it answered with HTTP status {status}.")
        steps = {
            401: f"%sft_endpoints; an endpoint that was started again has a new token: ask through its name, {name}.",
            429: "ask again in a minute, or with fewer clients at once.",
            503: "%sft_endpoints shows how it stands; ask again when it is ready.",
        }
        step = str(reply.get("next") or steps.get(status, "%sft_endpoints shows how it stands."))
        raise errors.EndpointProblem(f"Endpoint {name}: {sentence}", step)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any], float]:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        reused = self._connection.sock is not None
        try:
            return self._exchange(method, path, data)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self._connection.close()
            if not reused:
                raise self._gone(error) from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._gone(error) from error
        try:  # a connection that lay idle may have been closed meanwhile; a fresh one tells the truth
            return self._exchange(method, path, data)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._gone(error) from error

    def _exchange(self, method: str, path: str, data: bytes | None) -> tuple[int, dict[str, Any], float]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        self._connection.request(method, path, body=data, headers=headers)
        response = self._connection.getresponse()
        raw = response.read()
        wait = response.getheader("Retry-After") or "1"
        try:
            reply = json.loads(raw)
        except ValueError:
            reply = {}
        seconds = float(wait) if wait.isdecimal() else 1.0
        return response.status, reply if isinstance(reply, dict) else {}, seconds

    def _gone(self, error: Exception) -> errors.EndpointProblem:
        endpoint = self._endpoint
        why = "did not answer in time" if isinstance(error, TimeoutError) else "does not answer"
        return errors.EndpointProblem(
            f"Endpoint {endpoint.name} {why} at {endpoint.url} ({type(error).__name__}).",
            f"%sft_endpoints shows how it stands; %sft_deploy {endpoint.ref} starts it again.",
        )


def _batches(inputs: Sequence[str | bytes], size: int) -> Iterator[list[str | bytes]]:
    """Cut inputs into parts of at most `size` rows whose bodies stay far below what an endpoint takes."""
    part: list[str | bytes] = []
    held = 0
    for value in inputs:
        if part and (len(part) >= size or held + len(value) > _BATCH_CHARACTERS):
            yield part
            part, held = [], 0
        part.append(value)
        held += len(value)
    if part:
        yield part


def _written(value: str | bytes) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _answer(value: str | bytes, row: dict[str, Any], version: str) -> Prediction:
    text = value if isinstance(value, str) else ""
    marks = {
        "boxes": tuple(row.get("boxes") or ()),
        "mask": row.get("mask", ""),
        "truncated_tokens": row.get("truncated_tokens", 0),
    }
    return Prediction(text, row["label"], row["confidence"], row["scores"], id=row["id"], version=version, **marks)
