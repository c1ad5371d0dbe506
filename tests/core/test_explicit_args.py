import inspect
import threading
from typing import Annotated, get_type_hints

import pytest

from sft_magics.core import explicit_args


@explicit_args.noted
def act(model: Annotated[str | None, "a model"] = None, *, epochs: Annotated[float, "passes"] = 1.0) -> frozenset[str]:
    """Say what was given."""
    return explicit_args.names()


@explicit_args.noted
def outer(*, lr: float = 1.0) -> tuple[frozenset[str], frozenset[str]]:
    """Call another."""
    inside = act("m")
    return inside, explicit_args.names()


def test_what_the_call_gave_is_known_even_where_it_is_the_default() -> None:
    assert act() == frozenset()
    assert act("m", epochs=1.0) == {"model", "epochs"}
    assert act(epochs=2.0) == {"epochs"}


def test_calls_inside_one_another_and_in_threads_do_not_mix() -> None:
    assert outer(lr=3.0) == ({"model"}, {"lr"})
    found: list[frozenset[str]] = []
    thread = threading.Thread(target=lambda: found.append(act(epochs=1.0)))
    thread.start()
    thread.join()
    assert (found, explicit_args.names()) == ([{"epochs"}], frozenset())


def test_it_looks_like_the_function() -> None:
    assert (act.__name__, act.__doc__, act.__module__) == ("act", "Say what was given.", __name__)
    assert list(inspect.signature(act).parameters) == ["model", "epochs"]
    assert "epochs" in get_type_hints(act, include_extras=True)
    with pytest.raises(TypeError, match="epoch"):
        act(epoch=3)  # type: ignore[call-arg]
