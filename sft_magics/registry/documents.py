"""TinyDB's own interface and query language over the registry's rows.

    db = database(JournalStorage(path))
    db.table("versions").search(Query().metrics.accuracy.value > 0.9)

A plain `TinyDB(path, storage=JournalStorage)` works as well, but it copies every row at each call and its query cache
does not hear of other processes.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, cast

from tinydb import TinyDB
from tinydb.queries import QueryLike
from tinydb.table import Document, Table

from sft_magics.registry.rows import Row
from sft_magics.registry.storage import RegistryStorage


class RowTable(Table):
    """A TinyDB table that reads rows where they lie and writes only those that changed. It caches nothing."""

    def __init__(self, storage: RegistryStorage, name: str, **_: object) -> None:
        super().__init__(storage, name, cache_size=0)
        self._rows = storage

    def insert(self, document: Mapping[str, Any]) -> int:
        """Insert a document and return its number; raises ValueError when its own number is taken."""
        if not isinstance(document, Mapping):
            raise ValueError("Document is not a Mapping")
        with self._rows.transaction():
            number = document.doc_id if isinstance(document, Document) else self._get_next_id()
            if self._rows.state().table(self.name).rows.get(number) is not None:
                raise ValueError(f"Document with ID {number} already exists")
            self._rows.put(self.name, number, Row.of(document))
        return number

    def insert_multiple(self, documents: Any) -> list[int]:
        """Insert documents, all or none, and return their numbers."""
        with self._rows.transaction():
            return [self.insert(document) for document in documents]

    def search(self, cond: QueryLike) -> list[Document]:
        """Return the documents for which `cond` holds, by number."""
        table = self._rows.state().table(self.name)
        table.parse()
        return [Document(row.copy(), number) for number, row in table.in_order() if cond(row.data)]

    def upsert(self, document: Mapping[str, Any], cond: QueryLike | None = None) -> list[int]:
        """Update what `cond` (or the document's own number) finds, else insert, in one transaction."""
        with self._rows.transaction():
            return super().upsert(document, cond)

    def __len__(self) -> int:
        return len(self._rows.state().table(self.name).rows)

    def __iter__(self) -> Iterator[Document]:
        for number, row in self._rows.state().table(self.name).in_order():
            yield Document(row.copy(), number)

    def _get_next_id(self) -> int:
        return self._rows.state().table(self.name).last + 1  # never kept: another process may have inserted

    def _read_table(self) -> dict[str, Mapping[str, Any]]:
        return {str(n): row.copy() for n, row in self._rows.state().table(self.name).in_order()}

    def _update_table(self, updater: Callable[[dict[int, Mapping[str, Any]]], None]) -> None:
        with self._rows.transaction():
            table = self._rows.state().table(self.name)
            working = _Working(dict(table.in_order()))
            updater(cast(dict[int, Mapping[str, Any]], working))
            for number, row in working.changes():
                table = table.without(number) if row is None else table.put(number, row)
            self._rows.swap(self.name, table)


class _Working(MutableMapping[int, Any]):
    """What an updater of TinyDB gets to change in place: copies of the rows it looks at."""

    def __init__(self, rows: dict[int, Row]) -> None:
        self._rows = rows
        self._touched: dict[int, Any] = {}
        self._gone: set[int] = set()

    def __getitem__(self, number: int) -> Any:
        if number in self._touched:
            return self._touched[number]
        if number in self._gone or number not in self._rows:
            raise KeyError(number)
        self._touched[number] = self._rows[number].copy()
        return self._touched[number]

    def __setitem__(self, number: int, document: Any) -> None:
        self._touched[number] = document
        self._gone.discard(number)

    def __delitem__(self, number: int) -> None:
        if number not in self:
            raise KeyError(number)
        self._touched.pop(number, None)
        self._gone.add(number)

    def __contains__(self, number: object) -> bool:
        return number in self._touched or (number in self._rows and number not in self._gone)

    def __iter__(self) -> Iterator[int]:
        yield from [n for n in self._rows if n not in self._gone]
        yield from [n for n in self._touched if n not in self._rows]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def changes(self) -> Iterator[tuple[int, Row | None]]:
        """Yield number and row of all that changed; None for what has gone."""
        yield from ((number, None) for number in self._gone if number in self._rows)
        for number, document in self._touched.items():
            row = Row.of(document)
            if number not in self._rows or self._rows[number].raw != row.raw:
                yield number, row


class RowDatabase(TinyDB):
    """A TinyDB whose tables are `RowTable`s."""

    table_class = RowTable  # type: ignore[assignment]


def database(storage: RegistryStorage) -> RowDatabase:
    """Return TinyDB's interface to the rows of `storage`."""
    return RowDatabase(storage=lambda: storage)
