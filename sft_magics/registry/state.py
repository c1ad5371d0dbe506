"""The registry in memory: tables of rows that share everything they have in common with the state before.

A state never changes. To change a row gives another state that shares all but a few small dictionaries with the old
one, so a snapshot is a reference, a transaction that fails is forgotten, and what a transaction changed is found by
comparing the two states by identity.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from sft_magics.registry.rows import Row, leading, parse

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Fields = tuple[str, ...]
_MISSING = object()


class PersistentMap(Generic[K, V]):
    """A dictionary in buckets, chosen by `bucket`; `put` and `without` return another one and leave it as it was."""

    __slots__ = ("_bucket", "_buckets")

    def __init__(self, bucket: Callable[[K], int], buckets: dict[int, dict[K, V]] | None = None) -> None:
        self._bucket = bucket
        self._buckets: dict[int, dict[K, V]] = {} if buckets is None else buckets

    @classmethod
    def of(cls, bucket: Callable[[K], int], items: Mapping[K, V]) -> "PersistentMap[K, V]":
        """Return the map of `items`."""
        buckets: dict[int, dict[K, V]] = {}
        for key, value in items.items():
            buckets.setdefault(bucket(key), {})[key] = value
        return cls(bucket, buckets)

    def get(self, key: K) -> V | None:
        """Return the value of `key`, or None."""
        bucket = self._buckets.get(self._bucket(key))
        return None if bucket is None else bucket.get(key)

    def put(self, key: K, value: V) -> "PersistentMap[K, V]":
        """Return a map with `key`."""
        number = self._bucket(key)
        bucket = {**self._buckets.get(number, {}), key: value}
        return PersistentMap(self._bucket, {**self._buckets, number: bucket})

    def without(self, key: K) -> "PersistentMap[K, V]":
        """Return a map without `key`."""
        number = self._bucket(key)
        bucket = {k: v for k, v in self._buckets.get(number, {}).items() if k != key}
        buckets = {**self._buckets, number: bucket}
        if not bucket:
            del buckets[number]
        return PersistentMap(self._bucket, buckets)

    def items(self) -> Iterator[tuple[K, V]]:
        """Yield keys and values, bucket after bucket."""
        for number in sorted(self._buckets):
            yield from self._buckets[number].items()

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def changed(self, old: "PersistentMap[K, V]") -> dict[K, V | None]:
        """Return what differs from `old` by identity: key -> value, or None where it has gone."""
        found: dict[K, V | None] = {}
        for number in self._buckets.keys() | old._buckets.keys():
            mine, before = self._buckets.get(number, {}), old._buckets.get(number, {})
            if mine is before:
                continue
            found.update(dict.fromkeys(before.keys() - mine.keys()))
            found.update({k: v for k, v in mine.items() if before.get(k, _MISSING) is not v})
        return found


def _by_range(number: int) -> int:
    return number >> 7


def _by_hash(key: Hashable) -> int:
    return hash(key) & 255


class TableState:
    """The rows of one table by number, and hash indexes that are built when first asked for and then kept up."""

    __slots__ = ("_indexes", "last", "rows")

    def __init__(
        self,
        rows: PersistentMap[int, Row] | None = None,
        last: int = 0,
        indexes: dict[Fields, PersistentMap[tuple[Any, ...], tuple[int, ...]]] | None = None,
    ) -> None:
        self.rows = PersistentMap(_by_range) if rows is None else rows
        self.last = last  # the highest number in use
        self._indexes = {} if indexes is None else indexes

    @classmethod
    def of(cls, rows: Mapping[int, Row]) -> "TableState":
        """Return the table of `rows`."""
        return cls(PersistentMap.of(_by_range, rows), max(rows, default=0))

    def put(self, number: int, row: Row) -> "TableState":
        """Return a table with `row` under `number`, in place of the one that was there."""
        old = self.rows.get(number)
        indexes = self._reindexed(number, old, row)
        return TableState(self.rows.put(number, row), max(self.last, number), indexes)

    def without(self, number: int) -> "TableState":
        """Return a table without the row `number`."""
        old = self.rows.get(number)
        if old is None:
            return self
        rows = self.rows.without(number)
        last = self.last if number != self.last else max((k for k, _ in rows.items()), default=0)
        return TableState(rows, last, self._reindexed(number, old, None))

    def in_order(self) -> list[tuple[int, Row]]:
        """Return the rows by number."""
        return sorted(self.rows.items(), key=lambda item: item[0])

    def find(self, match: Mapping[str, Hashable]) -> list[tuple[int, Row]]:
        """Return the rows whose fields equal `match`, by number; the first such question builds a hash index."""
        if not match:
            return self.in_order()
        fields = tuple(sorted(match))
        numbers = self._index(fields).get(tuple(match[f] for f in fields)) or ()
        return [(n, row) for n in numbers if (row := self.rows.get(n)) is not None]

    def count(self, match: Mapping[str, Hashable]) -> int:
        """Return how many rows `find` would return."""
        if not match:
            return len(self.rows)
        fields = tuple(sorted(match))
        return len(self._index(fields).get(tuple(match[f] for f in fields)) or ())

    def _index(self, fields: Fields) -> PersistentMap[tuple[Any, ...], tuple[int, ...]]:
        index = self._indexes.get(fields)
        if index is None:
            found: dict[tuple[Any, ...], list[int]] = {}
            ordered = self.in_order()
            heads = leading([row for _, row in ordered])
            for (number, row), head in zip(ordered, heads, strict=True):
                key = _key(row, head, fields)
                if key is not None:
                    found.setdefault(key, []).append(number)
            index = PersistentMap.of(_by_hash, {k: tuple(v) for k, v in found.items()})
            self._indexes[fields] = index  # threads may build it twice; they build the same
        return index

    def _reindexed(
        self, number: int, old: Row | None, new: Row | None
    ) -> dict[Fields, PersistentMap[tuple[Any, ...], tuple[int, ...]]]:
        indexes = dict(self._indexes)
        heads = [None if row is None or not indexes else row.leading() for row in (old, new)]
        for fields, index in self._indexes.items():
            before = None if old is None else _key(old, heads[0], fields)
            after = None if new is None else _key(new, heads[1], fields)
            if before == after:
                continue
            if before is not None:
                rest = tuple(n for n in index.get(before) or () if n != number)
                index = index.put(before, rest) if rest else index.without(before)  # noqa: PLW2901
            if after is not None:
                index = index.put(after, _inserted(index.get(after) or (), number))  # noqa: PLW2901
            indexes[fields] = index
        return indexes

    def parse(self) -> None:
        """Parse all rows at once."""
        parse(row for _, row in self.rows.items())


def _key(row: Row, head: dict[str, Any] | None, fields: Fields) -> tuple[Any, ...] | None:
    """Return the key in an index of a row, `head` being its first fields.

    It is None where the row lacks a field or has one that cannot be looked up.
    """
    data = head
    if data is None or any(f not in data for f in fields):
        data = row.data
    if any(f not in data for f in fields):
        return None
    key = tuple(data[f] for f in fields)
    return key if all(isinstance(v, str | int | float | bool | None) for v in key) else None


def _inserted(numbers: tuple[int, ...], number: int) -> tuple[int, ...]:
    if not numbers or numbers[-1] < number:
        return (*numbers, number)
    return tuple(sorted({*numbers, number}))


class State:
    """All tables, as they are after transaction number `sequence`."""

    __slots__ = ("sequence", "tables")

    def __init__(self, tables: dict[str, TableState] | None = None, sequence: int = 0) -> None:
        self.tables: dict[str, TableState] = {} if tables is None else tables
        self.sequence = sequence

    def table(self, name: str) -> TableState:
        """Return a table, an empty one where there is none."""
        return self.tables.get(name) or TableState()

    def put(self, table: str, number: int, row: Row | None) -> "State":
        """Return a state with `row` under `number` of `table`; None takes the row away."""
        old = self.table(table)
        return self.with_table(table, old.without(number) if row is None else old.put(number, row))

    def with_table(self, name: str, table: TableState) -> "State":
        """Return a state with a table."""
        return State({**self.tables, name: table}, self.sequence)

    def without_table(self, name: str) -> "State":
        """Return a state without a table."""
        return State({k: v for k, v in self.tables.items() if k != name}, self.sequence)

    def numbered(self, sequence: int) -> "State":
        """Return the same tables as the state after transaction `sequence`."""
        return State(self.tables, sequence)

    def apply(self, changes: "Changes", sequence: int) -> "State":
        """Return the state after `changes`."""
        tables = dict(self.tables)
        for name, rows in changes.items():
            if rows is None:
                tables.pop(name, None)
                continue
            table = tables.get(name) or TableState()
            for number, row in rows.items():
                table = table.without(number) if row is None else table.put(number, row)
            tables[name] = table
        return State(tables, sequence)

    def changes(self, old: "State") -> "Changes":
        """Return what differs from `old`, which `apply` turns into this state."""
        found: Changes = dict.fromkeys(old.tables.keys() - self.tables.keys())
        for name, table in self.tables.items():
            before = old.tables.get(name)
            if before is table:
                continue
            rows = table.rows.changed(before.rows if before else TableState().rows)
            if rows or before is None:
                found[name] = dict(sorted(rows.items()))
        return found

    def plain(self) -> dict[str, dict[str, Any]]:
        """Return table -> number in text -> data, for the caller alone."""
        return {name: {str(n): row.copy() for n, row in table.in_order()} for name, table in self.tables.items()}


Changes = dict[str, dict[int, Row | None] | None]
