"""HOW the life cycle is remembered: the only room with tinydb.

`Registry` is the metadata: data sets, models, versions, aliases, alerts and the log of every change. `ArtifactStore` is
the files: each content once, named by its hash, verified at every load. Neither holds a lock while it reads.
"""

from typing import TYPE_CHECKING, Any

from sft_magics.registry.aliases import UNSET, Unset
from sft_magics.registry.audit import AuditEntry
from sft_magics.registry.registry import Registry

if TYPE_CHECKING:
    from sft_magics.registry.artifacts import Artifact, Artifacts, ArtifactStore, Collected

__all__ = ["UNSET", "Artifact", "ArtifactStore", "Artifacts", "AuditEntry", "Collected", "Registry", "Unset"]


def __getattr__(name: str) -> Any:
    """Import the store when it is first named: who only asks the registry opens it sooner."""
    if name in __all__:
        from sft_magics.registry import artifacts

        return getattr(artifacts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
