"""A language model's answer, token by token: whoever asks may read it as it grows, or walk away.

Each step is one call, so that several answers can be written in turn by one thread.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from sft_magics.core import errors
from sft_magics.core.sampling import Piece, Sampling
from sft_magics.engine.runtime.hardware import Hardware

_HALF = "\ufffd"  # what a tokenizer writes for a character of which bytes are missing


def room(tokens: int, context: int, wanted: int = 1) -> int:
    """Return how many tokens an answer to a prompt of `tokens` may have, `wanted` at most; below 1 there is no room.

    Prompt and answer share the model's context: what it has positions for, not what it was trained with.
    """
    return min(wanted, context - tokens)


def check_room(tokens: int, context: int, wanted: int, what: str) -> None:
    """Refuse a prompt, called `what`, that leaves no room for `wanted` tokens, or for a single one where 0 are wanted;
    raises DataProblem.
    """
    least = max(1, wanted)
    if tokens + least <= context:
        return
    beside = f" with an answer of {wanted:,}" if wanted else ""
    takes = max(0, context - least)
    raise errors.DataProblem(
        f"{what} has {tokens:,} tokens; {takes:,} fit into the model's context of {context:,}{beside}.",
        "shorten it, or ask for a shorter answer (max_new_tokens)." if wanted else "shorten it.",
    )


def stream(
    model: Any, tokenizer: Any, prompt: Sequence[int], how: Sampling, chosen: Hardware, ends: frozenset[int]
) -> Iterator[Piece]:
    """Answer the tokens `prompt`, piece by piece; a token of `ends` is the last and is not written."""
    draw = torch.Generator().manual_seed(how.seed) if how.seed is not None else None
    read = torch.tensor([list(prompt)], device=chosen.device)
    name = _cache_name(model)
    kept = {name: DynamicCache(config=model.config)} if name else {}
    ids: list[int] = []
    writer = _Writer(tokenizer, how.stop)
    for number in range(how.max_new_tokens):
        logits = _step(model, read, kept, chosen)
        token, sure = _choose(logits, how, draw)
        if token in ends:
            yield Piece(writer.rest(), sure, len(prompt), "stop")
            return
        ids.append(token)
        text, stopped = writer.add(ids)
        last = number + 1 == how.max_new_tokens
        ended = "stop" if stopped else "length" if last else ""
        yield Piece(text + (writer.rest() if last and not stopped else ""), sure, len(prompt), ended)
        if ended:
            return
        read = torch.tensor([[token]] if kept else [[*prompt, *ids]], device=chosen.device)


@torch.inference_mode()
def _step(model: Any, read: torch.Tensor, kept: dict[str, Any], chosen: Hardware) -> torch.Tensor:
    with chosen.autocast():
        said = model(input_ids=read, use_cache=bool(kept), logits_to_keep=1, **kept)
    logits: torch.Tensor = said.logits[0, -1].float().cpu()
    return logits


def _cache_name(model: Any) -> str:
    """Return what a model calls the keys and values of the tokens before, which transformers 5.24 has renamed; "" for
    one that takes none.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = inspect.signature(type(inner).forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in known), "")


def _choose(logits: torch.Tensor, how: Sampling, draw: torch.Generator | None) -> tuple[int, float]:
    sure = logits.log_softmax(-1)
    if how.temperature <= 0:
        token = int(logits.argmax())
        return token, float(sure[token])
    # The highest is 0: a temperature next to 0 would make others infinite.
    ordered, places = ((logits - logits.max()) / how.temperature).softmax(-1).sort(descending=True)
    before = ordered.cumsum(0) - ordered
    before[0] = -1.0  # the likeliest stays, also where none together have less than `top_p`
    ordered[before >= how.top_p] = 0.0
    token = int(places[int(torch.multinomial(ordered, 1, generator=draw))])
    return token, float(sure[token])


class _Writer:
    """Turns tokens into text: half characters, and what may become a stop, are held back."""

    def __init__(self, tokenizer: Any, stop: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._done = 0  # tokens that are written
        self._held = ""

    def add(self, ids: list[int]) -> tuple[str, bool]:
        """Return the text that is sure now, and whether a stop was reached."""
        before = self._tokenizer.decode(ids[max(0, self._done - 1) : self._done], skip_special_tokens=True)
        now = self._tokenizer.decode(ids[max(0, self._done - 1) :], skip_special_tokens=True)
        if now.endswith(_HALF):
            return "", False
        self._done = len(ids)
        self._held += now[len(before) :]
        places = [p for p in (self._held.find(word) for word in self._stop) if p >= 0]
        if places:
            text, self._held = self._held[: min(places)], ""
            return text, True
        keep = max((n for word in self._stop for n in range(1, len(word)) if self._held.endswith(word[:n])), default=0)
        text = self._held[: len(self._held) - keep]
        self._held = self._held[len(text) :]
        return text, False

    def rest(self) -> str:
        """Return what was held back."""
        text, self._held = self._held, ""
        return text
