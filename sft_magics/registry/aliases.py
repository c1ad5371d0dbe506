"""Aliases: names that point to a version and may move. Every move is in the log, so it is known what was live when."""

import enum
from dataclasses import dataclass

from sft_magics.core import errors, references
from sft_magics.core.records import Version
from sft_magics.registry.audit import AuditEntry
from sft_magics.registry.catalog import Catalog

LIVE = "live"
PREVIOUS = "previous"
ROLLBACK = "rollback"


class Unset(enum.Enum):
    """The type of `UNSET`: None is an answer of its own ("the alias did not exist")."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True)
class _Alias:
    model: str
    alias: str
    number: int


class Aliases(Catalog):
    """Sets, moves, drops and lists the aliases of a model."""

    def aliases(self, model: str) -> dict[str, int]:
        """Return alias -> version number, by name; raises NotFound for an unknown model."""
        with self.snapshot():
            self._check_model(model)
            return self._pointers(model)

    def set_alias(
        self,
        model: str,
        alias: str,
        number: int,
        *,
        reason: str = "",
        expected: int | Unset | None = UNSET,
        action: str = "alias",
    ) -> int | None:
        """Let `alias` point to version `number`; return the number it pointed to before (None: none).

        `expected` is what the caller saw: the alias moves only if it still points there (None: if it does not exist).
        `action` is what the log calls the move.
        Moving `live` lets `previous` point to what was live. Raises UsageProblem for a bad name, NotFound, Refused
        when the version is retired or the alias has moved meanwhile.
        """
        references.check_name(alias, "alias")
        with self.transaction():
            version = self._numbered(model, number)
            before = self._pointers(model).get(alias)
            if expected is not UNSET and expected != before:
                raise errors.Refused(
                    f"The alias '{alias}' of {model} has moved meanwhile: it was {_said(expected)}, it is "
                    f"{_said(before)} now.",
                    f"%sft_versions {model}, then type the line again if it is still what you want.",
                )
            if version.status == "retired":
                other = version.successor or f"{model}:NUMBER"
                raise errors.Refused(
                    f"{version.ref} is retired and cannot become @{alias}.", f"%sft_alias {other} {alias}"
                )
            self._move(model, alias, number, reason, action)
        return before

    def drop_alias(self, model: str, alias: str, *, reason: str = "") -> int:
        """Take an alias away and return the number it pointed to; raises NotFound."""
        with self.transaction():
            self._check_model(model)
            number = self._pointed(model, alias)
            self._unpoint(model, alias, number, reason)
        return number

    def alias_moves(self, model: str, alias: str) -> list[AuditEntry]:
        """Return every move of an alias, oldest first."""
        return self._rows("audit", AuditEntry, subject=f"{model}@{alias}")

    def was_before(self, model: str, alias: str) -> list[str]:
        """Return the versions an alias pointed to before this one, the latest first; a rollback takes one away.

        So a second rollback goes further back, and does not return to what the first one left.
        """
        trail: list[str | None] = []
        for move in self.alias_moves(model, alias):
            if move.action == ROLLBACK and move.after in trail:
                while trail[-1] != move.after:
                    trail.pop()
            elif not trail or trail[-1] != move.after:
                trail.append(move.after)
        return [ref for ref in reversed(trail[:-1]) if ref is not None]

    def _pointers(self, model: str) -> dict[str, int]:
        return {a.alias: a.number for a in sorted(self._rows("aliases", _Alias, model=model), key=lambda a: a.alias)}

    def _pointed(self, model: str, alias: str) -> int:
        known = self._pointers(model)
        if alias in known:
            return known[alias]
        listed = ", ".join(f"{a} (version {n})" for a, n in known.items())
        what = f"The model '{model}' has no alias '{alias}'.{errors.did_you_mean(alias, known)}"
        raise errors.NotFound(f"{what} It has {listed or 'none'}.", f"%sft_alias {model}:NUMBER {alias}")

    def _move(self, model: str, alias: str, number: int, reason: str, action: str = "alias") -> None:
        """Point `alias` to a version; `live` leaves where it was to `previous`."""
        before = self._point(model, alias, number, reason, action)
        if alias == LIVE and before is not None and before != number:
            self._point(model, PREVIOUS, before, reason)

    def _point(self, model: str, alias: str, number: int, reason: str, action: str = "alias") -> int | None:
        """Point `alias` to a version, log it if that is a change, and return where it pointed."""
        before = self._pointers(model).get(alias)
        if before == number:
            return before
        self._put("aliases", _Alias(model, alias, number), "model", "alias")
        was = None if before is None else f"{model}:{before}"
        self._log(action, f"{model}@{alias}", was, f"{model}:{number}", reason=reason, model=model)
        return before

    def _unpoint(self, model: str, alias: str, number: int, reason: str) -> None:
        self._remove("aliases", model=model, alias=alias)
        self._log("drop alias", f"{model}@{alias}", f"{model}:{number}", None, reason=reason, model=model)

    def _numbered(self, model: str, number: int) -> Version:
        """Return one version without its aliases; raises NotFound with the numbers there are."""
        found = self._rows("versions", Version, model=model, number=number)
        if found:
            return found[0]
        self._check_model(model)
        last = self._count("versions", model=model)
        if not last:
            raise errors.NotFound(f"The model '{model}' has no versions yet.", f"%sft_finetune {model}")
        there = "only version 1" if last == 1 else f"versions 1 to {last}"
        raise errors.NotFound(f"The model '{model}' has no version {number}: it has {there}.", f"%sft_versions {model}")


def _said(number: object) -> str:
    return "not set" if number is None else f"version {number}"
