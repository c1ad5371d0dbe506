"""The registry as the other rooms see it."""

from sft_magics.registry.audit import AuditEntry
from sft_magics.registry.versions import Versions


class Registry(Versions):
    """What a workspace remembers: data sets, models, versions, aliases, alerts, and who changed what.

    Cheap to make, safe to use from many processes and threads at once: reads take no lock and see the newest committed
    state, each change is one transaction that is on the disk when the call returns. Every method raises
    WorkspaceProblem when the disk refuses or the registry is damaged, and then nothing has changed.
    """

    def history(self, model: str | None = None) -> list[AuditEntry]:
        """Return the changes newest first: of one model, or all; raises NotFound for an unknown model."""
        with self.snapshot():
            if model is not None:
                self.model(model)
            return self._rows("audit", AuditEntry, **({} if model is None else {"model": model}))[::-1]
