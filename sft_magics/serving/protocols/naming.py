"""By which names a client may call the model that an endpoint serves."""

from typing import TYPE_CHECKING

from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.scheduling.loading import LoadedVersion

if TYPE_CHECKING:
    from sft_magics.serving.app import EndpointContext


def names(desk: "EndpointContext", live: LoadedVersion) -> list[str]:
    """Return the names in the order in which they are shown: endpoint, model, version, reference."""
    return list(dict.fromkeys([desk.name, model(live), live.version, live.ref]))


def model(live: LoadedVersion) -> str:
    """Return the name of the model: of `reviews:3` it is reviews."""
    return live.version.rpartition(":")[0] or live.version


def number(live: LoadedVersion) -> str:
    """Return the number of the version: of `reviews:3` it is 3."""
    return live.version.rpartition(":")[2]


def called(desk: "EndpointContext", name: str, version: str = "") -> LoadedVersion:
    """Return what is called so; raises HttpProblem 404 for other names and versions, 503 where none answers."""
    live = desk.ready()
    if name not in names(desk, live):
        known = " or ".join(names(desk, live))
        raise HttpProblem(404, f"There is no model {name[:80]!r} here; this endpoint serves {known}.")
    if version and version not in (number(live), live.version):
        raise HttpProblem(404, f"Version {version[:80]!r} is not served here; {live.version} is.")
    return live
