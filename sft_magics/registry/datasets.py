"""Datasets: numbered versions of a name. A version never changes; it may be loaded again and dropped."""

import time
from dataclasses import replace

from sft_magics.core import errors, references
from sft_magics.core.records import Dataset
from sft_magics.core.references import Reference
from sft_magics.registry.audit import AuditLog


class Datasets(AuditLog):
    """Puts, finds, lists and drops versions of datasets."""

    def put_dataset(self, draft: Dataset) -> Dataset:
        """Remember `draft` as the next version of its name, whatever number it has, and return it.

        Where a version has the same rows, labels and split, that version is returned instead, with the draft's source:
        a dropped one is there again. Raises WorkspaceProblem.
        """
        with self.transaction():
            known = self.dataset_versions(draft.name, dropped=True)
            same = next((d for d in known if _alike(d, draft)), None)
            newest = next((d for d in known[::-1] if d.dropped_at is None), None)
            if same is None:
                found = replace(draft, number=known[-1].number + 1 if known else 1)
            else:
                found = replace(draft, number=same.number, created_at=same.created_at)
            self._put("datasets", found, "name", "number")
            before = same if same and same.dropped_at is None else newest
            action = "data" if same is None else "data, loaded again"
            mark = before.fingerprint if before else None
            self._log(action, f"dataset {found.ref}", mark, found.fingerprint, reason=f"from {found.source}")
        return found

    def datasets(self) -> list[Dataset]:
        """Return every version of every dataset that is not dropped, by name and number."""
        found = [d for d in self._rows("datasets", Dataset) if d.dropped_at is None]
        return sorted(found, key=lambda d: (d.name, d.number))

    def dataset_versions(self, name: str, *, dropped: bool = False) -> list[Dataset]:
        """Return the versions of a dataset, oldest first, with the dropped ones if asked; none of an unknown name."""
        found = [d for d in self._rows("datasets", Dataset, name=name) if dropped or d.dropped_at is None]
        return sorted(found, key=lambda d: d.number)

    def dataset(self, ref: str | Reference) -> Dataset:
        """Return the version that `ref` means: `name:2`, or the newest of `name`.

        Raises UsageProblem when `ref` is no name, and NotFound with what there is instead.
        """
        wanted = references.dataset(ref) if isinstance(ref, str) else ref
        with self.snapshot():
            known = self.dataset_versions(wanted.name, dropped=True)
            there = [d for d in known if d.dropped_at is None]
            if not known:
                names = {d.name for d in self.datasets()}
                raise errors.not_found("dataset", wanted.name, names, f"%sft_data {wanted.name} FILE")
        if wanted.number is None and there:
            return there[-1]
        found = next((d for d in known if d.number == (wanted.number or known[-1].number)), None)
        if found is not None and found.dropped_at is None:
            return found
        raise _gone(wanted, found, there)

    def drop_dataset(self, ref: str, reason: str = "") -> Dataset:
        """Mark a version as dropped and return it; its record stays without examples. Raises NotFound."""
        with self.transaction():
            old = self.dataset(ref)
            self._put("datasets", replace(old, dropped_at=time.time(), examples=(), findings=()), "name", "number")
            self._log("drop dataset", f"dataset {old.ref}", old.fingerprint, None, reason=reason)
        return old


def _alike(a: Dataset, b: Dataset) -> bool:
    return (a.fingerprint, a.task, a.labels) == (b.fingerprint, b.task, b.labels)


def _gone(wanted: Reference, found: Dataset | None, there: list[Dataset]) -> errors.NotFound:
    if found is not None:
        when = time.strftime("%Y-%m-%d", time.localtime(found.dropped_at))
        return errors.NotFound(
            f"The dataset {found.ref} was dropped on {when}; it came from {found.source}.",
            f"%sft_data {found.name} SOURCE loads it again; the same rows are {found.ref} again.",
        )
    names = ", ".join(d.ref for d in there[-5:]) or "none"
    return errors.NotFound(
        f"The dataset '{wanted.name}' has no version {wanted.number}; there are: {names}.",
        f"%sft_data {there[-1].ref if there else wanted.name}",
    )
