"""HOW the life cycle is remembered: the only room with tinydb.

`Registry` is the metadata: data sets, models, versions, aliases, alerts and the log of every change. `ArtifactStore` is
the files: each content once, named by its hash, verified at every load. Neither holds a lock while it reads.
"""

from sft_magics.registry.aliases import UNSET, Unset
from sft_magics.registry.artifacts import Artifact, Artifacts, ArtifactStore, Collected
from sft_magics.registry.audit import AuditEntry
from sft_magics.registry.registry import Registry

__all__ = ["UNSET", "Artifact", "ArtifactStore", "Artifacts", "AuditEntry", "Collected", "Registry", "Unset"]
