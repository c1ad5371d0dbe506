"""Versions: numbered without gaps, committed whole, never changed but for a note, tags and retirement."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sft_magics.core import errors, references
from sft_magics.core.records import Dataset, Version
from sft_magics.core.references import Reference
from sft_magics.registry.aliases import LIVE, PREVIOUS, Aliases

RETIRED = "retired"


class Versions(Aliases):
    """Commits, finds, lists, annotates, tags and retires versions."""

    def commit_version(self, draft: Version, *, aliases: Iterable[str] = (), reason: str = "") -> Version:
        """Commit `draft` as the next version of its model, whatever number it has, and return it.

        `aliases` point to it from the same transaction on. Raises NotFound for an unknown model, UsageProblem for an
        alias that cannot be a name.
        """
        with self.transaction():
            self._check_model(draft.model)
            number = self._count("versions", model=draft.model) + 1
            version = replace(draft, number=number, aliases=())
            self._put("versions", version)
            self._log("commit", version.ref, None, version.run, reason=reason or version.note, model=version.model)
            for alias in aliases:
                self._move(version.model, references.check_name(alias, "alias"), number, reason)
            return self._with_aliases([version])[0]

    def versions(self, model: str | None = None) -> list[Version]:
        """Return the versions newest first, of one model or all, with their aliases; raises NotFound."""
        with self.snapshot():
            if model is not None:
                self._check_model(model)
            found = self._rows("versions", Version, **({} if model is None else {"model": model}))
            # The row order is the order of the commits; a clock may have been set back.
            return self._with_aliases(found[::-1])

    def version(self, ref: str | Reference) -> Version:
        """Return the version that `ref` means: `name:3`, `name@live`, a run's, or the newest of `name` not retired.

        Raises UsageProblem when `ref` is no reference, and NotFound with what there is instead.
        """
        wanted = references.parse(ref) if isinstance(ref, str) else ref
        with self.snapshot():
            if wanted.run:
                found = self._of_run(wanted.run)
            elif wanted.number is not None:
                found = self._numbered(wanted.name, wanted.number)
            elif wanted.alias:
                self._check_model(wanted.name)
                found = self._numbered(wanted.name, self._pointed(wanted.name, wanted.alias))
            else:
                found = self._newest(wanted.name)
            return self._with_aliases([found])[0]

    def data_of(self, version: Version) -> Dataset:
        """Return the dataset that a version was trained on, found by its rows: one of that name may hold others here.

        Raises NotFound where it is not in this workspace, as that of an imported version.
        """
        with self.snapshot():
            found = self._rows("datasets", Dataset, fingerprint=version.data_fingerprint)
            there = [d for d in found if d.dropped_at is None]
            named = next((d for d in there if d.ref == version.data), there[0] if there else None)
        if named is not None:
            return named
        name = version.data.partition(":")[0]
        raise errors.NotFound(
            f"The data of {version.ref} is not in this workspace: {version.data}, fingerprint "
            f"{version.data_fingerprint[:12]}.",
            f"%sft_data {name} SOURCE loads it, or name other data with --data DATASET.",
        )

    def set_note(self, ref: str | Reference, note: str, *, reason: str = "") -> Version:
        """Write a note to a version, in place of the one it has, and return it; raises NotFound."""
        with self.transaction():
            old = self.version(ref)
            if note != old.note:
                self._change(old, note=note)
                self._log("note", old.ref, old.note or None, note or None, reason=reason, model=old.model)
            return replace(old, note=note)

    def set_tags(self, ref: str | Reference, tags: Mapping[str, str | None], *, reason: str = "") -> Version:
        """Write tags to a version, those that are None go; return the version. Raises NotFound, and UsageProblem."""
        wanted = {references.check_name(name, "tag"): value for name, value in tags.items()}
        with self.transaction():
            old = self.version(ref)
            found = {k: v for k, v in {**old.tags, **wanted}.items() if v is not None}
            if found == old.tags:
                return old
            self._change(old, tags=found)
            for name in wanted:
                before, after = old.tags.get(name), found.get(name)
                if before != after:
                    subject = f"{old.ref} {name}"
                    self._log("tag", subject, before, after, reason=reason, model=old.model)
            return replace(old, tags=found)

    def log_test(self, ref: str, data: str, rows: int, how: str) -> None:
        """Write into the log that a version was measured on test rows, by the verb `how`: each look wears them out."""
        with self.transaction():
            found = self.version(ref)
            look = f"looked at {rows:,} test row{'' if rows == 1 else 's'} of {data}"
            self._log("test", found.ref, None, look, reason=how, model=found.model)

    def retire_version(self, ref: str | Reference, successor: str | Reference | None, reason: str) -> Version:
        """Retire a version and return it; its aliases move to `successor`, and `previous` never points to it again.

        Doing it again is harmless. Raises NotFound, and Refused where an alias would be left without a version.
        """
        with self.transaction():
            old = self.version(ref)
            new = None if successor is None else self.version(successor)
            self._check_successor(old, new)
            following = new.ref if new else old.successor
            if old.status == RETIRED and old.successor == following:
                return old
            self._hand_over(old, new, reason)
            self._change(old, status=RETIRED, successor=following)
            self._log("retire", old.ref, old.successor or old.status, following, reason=reason, model=old.model)
            return self.version(Reference(old.model, number=old.number))

    def _check_successor(self, old: Version, new: Version | None) -> None:
        if new is not None and new.ref == old.ref:
            raise errors.Refused(f"{old.ref} cannot succeed itself.", f"%sft_versions {old.model}")
        if new is not None and new.status == RETIRED:
            raise errors.Refused(f"{new.ref} is retired itself and can succeed nothing.", f"%sft_versions {new.model}")
        held = [a for a in old.aliases if a != PREVIOUS]
        if held and (new is None or new.model != old.model):
            names = ", ".join(f"@{a}" for a in held)
            need = f"{old.ref} is still {names}" + (f", which {new.ref} of another model cannot be" if new else "")
            raise errors.Refused(f"{need}.", f"%sft_retire {old.ref} --successor {old.model}:NUMBER")

    def _hand_over(self, old: Version, new: Version | None, reason: str) -> None:
        """Move the aliases of `old` to `new`. What was live before a retired version is not worth going back to it."""
        for alias in old.aliases:
            if alias == PREVIOUS or new is None:
                self._unpoint(old.model, alias, old.number, reason)
            else:
                self._point(old.model, alias, new.number, reason)
        pointers = self._pointers(old.model)
        if PREVIOUS in pointers and pointers[PREVIOUS] == pointers.get(LIVE):
            self._unpoint(old.model, PREVIOUS, pointers[PREVIOUS], reason)

    def _newest(self, model: str) -> Version:
        self._check_model(model)
        found = self._rows("versions", Version, model=model)
        ready = [v for v in found if v.status != RETIRED]
        if ready:
            return ready[-1]
        if not found:
            raise errors.NotFound(f"The model '{model}' has no versions yet.", f"%sft_finetune {model}")
        raise errors.NotFound(
            f"Every version of '{model}' is retired; the newest is {found[-1].ref}.", f"%sft_finetune {model}"
        )

    def _of_run(self, run: str) -> Version:
        found = self._rows("versions", Version, run=run)
        if not found:
            raise errors.NotFound(f"No version was made by {run}.", f"%sft_keep {run}")
        return found[-1]

    def _with_aliases(self, versions: list[Version]) -> list[Version]:
        held: dict[tuple[str, int], list[str]] = {}
        for model in {v.model for v in versions}:
            for alias, number in self._pointers(model).items():
                held.setdefault((model, number), []).append(alias)
        return [replace(v, aliases=tuple(held[key])) if (key := (v.model, v.number)) in held else v for v in versions]

    def _change(self, version: Version, **fields: object) -> None:
        self._put("versions", replace(version, aliases=(), **fields), "model", "number")  # type: ignore[arg-type]
