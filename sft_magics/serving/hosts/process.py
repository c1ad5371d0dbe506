"""The process that holds a version: `python -m sft_magics.serving.hosts.process - HANDLE`.

HANDLE is a socket that it inherits. It is told what to load, then answers one message after the other, all in one
thread (torch keeps a pool of workers for each thread that uses it, and a second thread computes three times slower than
the first), and ends when nobody is at the other end any more, however that came about.

("load", folder, threads, engine)    -> {"task", "labels"}
("scores", inputs)                   -> (answers, milliseconds by part, [(place, tokens that were not read)])
("stream", key, text, how), ("next", key) -> a `Piece`
("close", key)                       no answer
"""

import contextlib
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft_magics.core import errors
from sft_magics.core.runtime import malloc_trim
from sft_magics.core.sampling import Piece, Sampling
from sft_magics.serving import predictor as predictors
from sft_magics.serving.hosts.lines import MessageChannel
from sft_magics.serving.predictor import Predictor

# Requests come in batches of every size, and oneDNN keeps a kernel for each of a thousand: a hundred MB, no speed.
_FEW_KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
# When memory is given back: of batches of every size a hundred MB of holes remain.
_BUSY_SECONDS = 5.0
_QUIET_SECONDS = 1.0


class Host:
    """A version and the texts that it is writing."""

    def __init__(self) -> None:
        self._predictor: Predictor | None = None
        self._pieces: dict[int, Iterator[Piece]] = {}

    @property
    def predictor(self) -> Predictor:
        """What was loaded."""
        assert self._predictor is not None, "the first message says what to load"
        return self._predictor

    def answer(self, message: list[Any]) -> Any:
        """Do what a message says; raises what the model raises."""
        return getattr(self, message[0])(*message[1:])

    def load(self, folder: str, threads: int | None, engine: str) -> dict[str, Any]:
        """Load the version; return what it is for."""
        self._predictor = predictors.load(Path(folder), threads, engine)
        return {"task": self._predictor.task, "labels": list(self._predictor.labels)}

    def scores(self, inputs: list[Any]) -> tuple[list[Any], dict[str, float], list[tuple[int, int]]]:
        """Let the version answer inputs; return also the milliseconds by part, and what it did not read."""
        said = self.predictor.scores(inputs)
        return said, self.predictor.spent, list(self.predictor.unread.items())

    def stream(self, key: int, text: str, how: dict[str, Any]) -> None:
        """Begin to write a text."""
        self._pieces[key] = self.predictor.stream(text, Sampling(**{**how, "stop": tuple(how["stop"])}))

    def next(self, key: int) -> dict[str, Any]:
        """Write the next piece of a text."""
        try:
            piece = next(self._pieces[key])
        except BaseException:
            del self._pieces[key]
            raise
        if piece.ended:
            del self._pieces[key]
        return asdict(piece)

    def close(self, key: int) -> None:
        """Forget a text."""
        self._pieces.pop(key, None)


def serve(line: MessageChannel) -> None:
    """Answer what comes over `line` until the other end is gone."""
    host = Host()
    given = math.inf  # when memory is to be given back
    while True:
        if time.monotonic() > given or (given < math.inf and not line.waits(_QUIET_SECONDS)):
            malloc_trim.give_back()
            given = math.inf
        message = line.receive()
        given = min(given, time.monotonic() + _BUSY_SECONDS)
        try:
            said = ("said", host.answer(message))
        except Exception as error:  # noqa: BLE001  whatever it is, whoever asked is to hear it
            said = ("raised", _told(error))
        if message[0] != "close":
            _send(line, said)


def _send(line: MessageChannel, said: tuple[str, Any]) -> None:
    """Send what is said; an answer that cannot be written as JSON is a failure of the model, and ends no process."""
    try:
        line.send(*said)
    except (TypeError, ValueError) as error:  # before anything of it was sent
        line.send("raised", _told(error))


def _told(error: Exception) -> dict[str, str]:
    """Return an error so that it can be sent; what is no user's problem is printed here, where it happened."""
    if not isinstance(error, errors.SftError):
        traceback.print_exception(error)
        return {"kind": type(error).__name__, "what": str(error)}
    return {"kind": type(error).__name__, "what": error.what, "next_step": error.next_step}


def main() -> None:
    """Hold a version for whoever is at the other end of the socket named on the command line; does not return."""
    os.environ.setdefault(*_FEW_KERNELS)
    with contextlib.suppress(EOFError, ConnectionError):
        serve(MessageChannel(int(sys.argv[2])))
    sys.stderr.flush()
    os._exit(0)  # nothing here is worth taking apart, and libraries print what they find while they do


if __name__ == "__main__":
    main()
