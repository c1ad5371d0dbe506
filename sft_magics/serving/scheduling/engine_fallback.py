"""Which engine answers in the end: the first of an order that loads the version and keeps its word.

All are held to the same standard, the version's stored examples (`serving.scheduling.golden_examples`), so an engine
that was chosen by other rows is passed over here rather than being a reason to refuse the version.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from sft_magics.core import errors
from sft_magics.serving.messages import SwapOrder
from sft_magics.serving.scheduling.loading import LoadedVersion

_LONGEST = 200  # characters of what a library says
_log = logging.getLogger(__name__)


async def climb(order: SwapOrder, attempt: Callable[[SwapOrder], Awaitable[LoadedVersion]]) -> LoadedVersion:
    """Return what `attempt` makes of the first engine of an order that it does not fail with.

    Raises what the last one raises, and EndpointProblem at once: where no process can be had, no engine helps.
    """
    passed: list[str] = []
    while True:
        try:
            return await attempt(order)
        except errors.EndpointProblem:
            raise
        except Exception as error:
            if not order.others:
                raise
            passed.append(f"{order.engine} was passed over: {_reason(error)}")
            _log.warning("%s: %s", order.version, passed[-1])
            (engine, folder), *rest = order.others
            why = f"{engine} answers; {'; '.join(passed)}."
            order = replace(order, engine=engine, folder=folder, others=tuple(rest), why=why)


def _reason(error: Exception) -> str:
    if isinstance(error, errors.SftError):
        return error.what.rstrip(".")
    lines = str(error).splitlines() or [""]
    return f"it failed ({type(error).__name__}: {lines[0][:_LONGEST]})"
