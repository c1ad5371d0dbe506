"""How a language model chooses the tokens of an answer, and what each of them adds to it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: always the likeliest at `temperature` 0, else by lot among the likeliest that together
    have `top_p` of the probability (Holtzman et al. 2020); at `top_p` 0 the likeliest too. The answer ends before the
    first of `stop`. A prompt that leaves less room than `max_new_tokens` is refused where they are `exact`, because a
    client asked for so many; else the answer is as long as there is room.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    exact: bool = False


@dataclass(frozen=True)
class Piece:
    """What one token adds to an answer, maybe nothing yet; `sure` is the logarithm of its probability.

    `ended` is "" until the last piece, which says "stop" or "length"; `prompt` is how many tokens were asked with.
    """

    text: str
    sure: float
    prompt: int
    ended: str = ""
