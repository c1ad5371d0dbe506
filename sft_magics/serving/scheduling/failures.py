"""What is said to a client whose request a version could not answer."""

import logging
from typing import TYPE_CHECKING

from sft_magics.serving.hosts.hosted import HostDied, HostDown
from sft_magics.serving.problems import HttpProblem

if TYPE_CHECKING:
    from sft_magics.serving.scheduling.loading import LoadedVersion

_log = logging.getLogger(__name__)


def down(live: "LoadedVersion", error: HostDown) -> HttpProblem:
    """Return what is said where a version has no process, and gets none now."""
    return HttpProblem(503, f"{live.version} cannot answer now: {error}.", 2)


def failed(live: "LoadedVersion", error: Exception) -> HttpProblem:
    """Return what is said where a version fails on an input, and keep the rest for whoever looks after it."""
    _log.error("%s failed", live.version, exc_info=error)
    if isinstance(error, HostDied):
        return HttpProblem(500, "The model's process ended over this input, and so did the next one that was asked.")
    return HttpProblem(
        500, f"The model failed on this input ({type(error).__name__}); the endpoint's output.log has more."
    )


def late() -> HttpProblem:
    """Return what is said of a request whose deadline has passed."""
    return HttpProblem(504, "The request's time was over before it was its turn; nothing was computed.", 1)


def conflict(refused: set[str]) -> HttpProblem | None:
    """Return what is said of ids that the log refused, None where there are none."""
    if not refused:
        return None
    return HttpProblem(
        409, f"The id '{min(refused)}' was used before for another input or version; choose new ids, or none."
    )
