"""Typed rows over TinyDB: what every part of the registry stands on.

TinyDB objects live for one operation: a table that lived longer would answer from its query cache after another process
has written, and hand out row numbers that are taken.
"""

import copy
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from sft_magics.core import codec
from sft_magics.core.workspace import Workspace

if TYPE_CHECKING:  # tinydb takes 15 ms to import; a process that only asks for help does not pay for it
    from tinydb.queries import QueryInstance
    from tinydb.table import Table

    from sft_magics.registry.storage import RegistryStorage

T = TypeVar("T")


class Tables:
    """The tables of one workspace's registry, over `storage` or else the workspace's own `registry.json`."""

    def __init__(self, workspace: Workspace, storage: "RegistryStorage | None" = None) -> None:
        self.workspace = workspace
        self._given = storage

    @property
    def storage(self) -> "RegistryStorage":
        """The storage under TinyDB."""
        if self._given is None:
            from sft_magics.registry.storage import FileStorage

            self._given = FileStorage(self.workspace.registry / "registry.json")
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

    def _table(self, name: str) -> "Table":
        from tinydb import TinyDB

        return TinyDB(storage=lambda: self.storage).table(name, cache_size=0)

    def _rows(self, table: str, cls: type[T], **match: Any) -> list[T]:
        """Return the records whose fields equal `match`, oldest first."""
        # Copied, because a record holds dictionaries: to change those must not change the open transaction.
        found = sorted(self._table(table).search(_query(match)), key=lambda row: row.doc_id)
        return [codec.build(cls, copy.deepcopy(dict(row))) for row in found]

    def _count(self, table: str, **match: Any) -> int:
        return self._table(table).count(_query(match))

    def _put(self, table: str, record: Any, *keys: str) -> None:
        """Insert `record`, or replace the one whose `keys` are the same; without keys, always insert."""
        row = codec.plain(record)
        if keys:
            self._table(table).upsert(row, _query({k: row[k] for k in keys}))
        else:
            self._table(table).insert(row)

    def _remove(self, table: str, **match: Any) -> None:
        self._table(table).remove(_query(match))


def _query(match: dict[str, Any]) -> "QueryInstance":
    from tinydb import Query

    return Query().fragment(match)
