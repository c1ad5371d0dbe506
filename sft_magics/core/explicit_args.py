"""Which arguments a call was given, and which are defaults: a resume refuses options, a clone takes them over.

A function's own signature cannot tell; `noted` looks before it.
"""

import contextvars
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_given: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("given", default=frozenset())


def noted(function: Callable[P, T]) -> Callable[P, T]:
    """Let `function` ask by `names` which of its parameters the call gave; its signature and help stay as they are."""
    shape = inspect.signature(function)

    def call(*words: P.args, **options: P.kwargs) -> T:
        token = _given.set(frozenset(shape.bind(*words, **options).arguments))
        try:
            return function(*words, **options)
        finally:
            _given.reset(token)

    # Not functools.wraps: what is called is this, and only its looks are the function's.
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        setattr(call, name, getattr(function, name))
    call.__signature__ = shape  # type: ignore[attr-defined]
    return call


def names() -> frozenset[str]:
    """Return the parameters that the innermost noted call was given."""
    return _given.get()
