"""Typed rows: what every part of the registry stands on."""

from collections.abc import Hashable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sft_magics.core import codec
from sft_magics.core.workspace import Workspace

if TYPE_CHECKING:  # tinydb takes 15 ms to import; a process that only asks for help does not pay for it
    from sft_magics.registry.rows import Row
    from sft_magics.registry.storage import RegistryStorage

T = TypeVar("T")


class Tables:
    """The tables of one workspace's registry, over `storage` or else the workspace's own `registry.json`."""

    def __init__(self, workspace: Workspace, storage: "RegistryStorage | None" = None) -> None:
        self.workspace = workspace
        self._given = storage

    @property
    def storage(self) -> "RegistryStorage":
        """The storage, a tinydb Storage; `documents.database` gives TinyDB's interface to it."""
        if self._given is None:
            from sft_magics.registry.journal import JournalStorage

            self._given = JournalStorage(self.workspace.registry / "registry.json")
        return self._given

    def transaction(self) -> AbstractContextManager[None]:
        """Make everything in the block one change: seen by others whole or not at all, and undone if it raises.

        Writers of all processes take turns; blocks nest within one thread. Raises WorkspaceProblem when the disk
        refuses; then nothing has changed.
        """
        return self.storage.transaction()

    def snapshot(self) -> AbstractContextManager[None]:
        """Let every read in the block see the same state, without a lock."""
        return self.storage.snapshot()

    def _rows(self, table: str, cls: type[T], **match: Hashable) -> list[T]:
        """Return the records whose fields equal `match`, oldest first."""
        from sft_magics.registry.rows import parse, uncollected

        found = [row for _, row in self.storage.state().table(table).find(match)]
        with uncollected():
            if len(found) > 1:
                parse(found)
            return [_record(cls, row) for row in found]

    def _count(self, table: str, **match: Hashable) -> int:
        return self.storage.state().table(table).count(match)

    def _put(self, table: str, record: Any, *keys: str) -> None:
        """Insert `record`, or replace the one whose `keys` are the same; without keys, always insert."""
        from sft_magics.registry.rows import Row

        data = codec.fields(record)
        with self.transaction():
            found = self.storage.state().table(table).find({k: data[k] for k in keys}) if keys else []
            if found:
                self.storage.put(table, found[0][0], Row.of(data))
            else:
                self.storage.append(table, Row.of(data))

    def _remove(self, table: str, **match: Hashable) -> None:
        with self.transaction():
            for number, _ in self.storage.state().table(table).find(match):
                self.storage.put(table, number, None)


def _record(cls: type[T], row: "Row") -> T:
    """Return the record of a row, with dictionaries of its own: to change those must not change the row."""
    if not isinstance(row.record, cls):
        row.record = codec.build(cls, row.data)
    fields = codec.open_fields(cast(Hashable, cls))
    if not fields:
        return cast(T, row.record)
    found = object.__new__(cls)  # `replace` would take ten times as long, and a list has hundreds of records
    found.__dict__.update(row.record.__dict__)
    found.__dict__.update({name: codec.copied(getattr(row.record, name)) for name in fields})
    return found
