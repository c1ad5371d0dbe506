"""The registry as the other rooms see it."""

from collections import Counter
from collections.abc import Iterator

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
                self._check_model(model)
            return self._rows("audit", AuditEntry, **({} if model is None else {"model": model}))[::-1]

    def note_upkeep(self, action: str, what: str) -> None:
        """Log that the registry itself was repaired or restored."""
        self._log(action, "registry", None, what)

    def note_removed(self, subject: str, before: str, *, model: str | None = None) -> None:
        """Log that something which is no record was removed from the disk: a run, what work left behind."""
        self._log("gc", subject, before, None, model=model)

    def contradictions(self) -> list[str]:
        """Return a sentence for each row that disagrees with another one; none when all is well."""
        with self.snapshot():
            models = {m.name for m in self.models()}
            versions = self.versions()
            return [
                *(f"{v.ref} belongs to no model." for v in versions if v.model not in models),
                *(text for model in sorted(models) for text in self._of_model(model)),
            ]

    def _of_model(self, model: str) -> Iterator[str]:
        versions = {v.number: v for v in self.versions(model)}
        numbers = Counter(v.number for v in self.versions(model))
        expected = set(range(1, len(versions) + 1))
        for number in sorted(expected ^ versions.keys()):
            yield f"{model}:{number} is missing." if number in expected else f"{model}:{number} has no predecessor."
        yield from (f"{model}:{number} is there {count} times." for number, count in numbers.items() if count > 1)
        for alias, number in self.aliases(model).items():
            if number not in versions:
                yield f"{model}@{alias} points to {model}:{number}, which does not exist."
            elif versions[number].status == "retired" and alias != "previous":
                yield f"{model}@{alias} points to {model}:{number}, which is retired."
