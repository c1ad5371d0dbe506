"""What the rooms of an endpoint hand each other: a question with its inputs, and the order to serve a version."""

from dataclasses import dataclass

from sft_magics.core.runtime import exports


@dataclass(frozen=True)
class Item:
    """One thing to be answered: what the model reads (a text, or the bytes of an image's file), how the log names it,
    and what it costs, in characters or bytes.
    """

    reads: str | bytes
    logged: str
    cost: int


@dataclass(frozen=True)
class Question:
    """What is to be answered, and the ids under which the answers are logged.

    Whoever chose the ids, or asked for it (`sure`), is answered when the answer is in the log; others without waiting
    for it. What is `unlogged` is asked by the endpoint itself. `tokens` is how long a text may become, 0 as usual.
    """

    items: list[Item]
    ids: list[str]
    sure: bool = False
    unlogged: bool = False
    tokens: int = 0


@dataclass(frozen=True)
class SwapOrder:
    """The version to serve from now on; empty `labels` take whatever the version brings.

    `examples` is a file of what it said when it was made, which it has to say again (see
    `serving.scheduling.golden_examples`). Where `engine` does not, or cannot load it, each of `others` is tried in
    turn: an engine and the folder that it reads. `why` says why it is this engine.
    """

    version: str
    ref: str
    folder: str
    labels: tuple[str, ...]
    examples: str = ""
    engine: str = exports.TORCH
    others: tuple[tuple[str, str], ...] = ()
    why: str = ""
