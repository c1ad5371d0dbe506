"""The seam under the registry: a tinydb Storage that knows transactions and snapshots.

A storage has only to say what the newest state is, to keep others out, and to make a new state durable; what a block of
a thread sees is decided here.
"""

import contextlib
import threading
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tinydb.storages import Storage

from sft_magics.registry.rows import Row
from sft_magics.registry.snapshots import META
from sft_magics.registry.state import State, TableState

Tables = dict[str, dict[str, Any]]


@dataclass
class _Block:
    """What an open transaction (`writable`) or snapshot sees."""

    state: State
    writable: bool


class _OpenBlocks(threading.local):
    """The open blocks of this thread, so that two handles on one file do not wait for each other forever."""

    def __init__(self) -> None:
        self.by_key: dict[Hashable, _Block] = {}


_open = _OpenBlocks()


class RegistryStorage(Storage):
    """Rows in tables, changed in transactions: all of a block or nothing, one writer at a time, readers never wait."""

    @abstractmethod
    def key(self) -> Hashable:
        """Return what this storage shares with every other handle on the same rows."""

    @abstractmethod
    def newest(self) -> State:
        """Return the newest state; raises WorkspaceProblem when it cannot be read."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[State]:
        """Keep every other writer out during the block, and give it the newest state."""

    @abstractmethod
    def publish(self, old: State, new: State) -> None:
        """Make `new` the newest state, durably; called within `exclusive`. Raises WorkspaceProblem: `old` stays."""

    def state(self) -> State:
        """Return what a read sees now: the open block's state, else the newest one."""
        block = _open.by_key.get(self.key())
        return block.state if block else self.newest()

    def put(self, table: str, number: int, row: Row | None) -> None:
        """Put a row in the place of the one of that number, or take it away."""
        block = _open.by_key.get(self.key())
        if block is not None and block.writable:
            block.state = block.state.put(table, number, row)
            return
        with self.transaction():
            self.put(table, number, row)

    def append(self, table: str, row: Row) -> int:
        """Put a row after all others and return its number."""
        block = _open.by_key.get(self.key())
        if block is not None and block.writable:
            number = block.state.table(table).last + 1
            block.state = block.state.put(table, number, row)
            return number
        with self.transaction():
            return self.append(table, row)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make one read-modify-write of the block: alone among all writers, and nothing is written if it raises.

        Re-entrant in one thread: an inner block that raises takes back its own changes and leaves the outer one whole.
        """
        block = _open.by_key.get(self.key())
        if block is not None and block.writable:
            before = block.state
            try:
                yield
            except BaseException:
                block.state = before
                raise
            return
        with self.exclusive() as old:
            block = _Block(old, writable=True)
            with self._opened(block):
                yield
            if block.state is not old:
                self.publish(old, block.state.numbered(old.sequence + 1))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every read in the block see one state, without a lock; inside a transaction, the transaction's."""
        if self.key() in _open.by_key:
            yield
            return
        with self._opened(_Block(self.newest(), writable=False)):
            yield

    @contextlib.contextmanager
    def _opened(self, block: _Block) -> Iterator[None]:
        key = self.key()
        outer = _open.by_key.get(key)
        _open.by_key[key] = block
        try:
            yield
        finally:
            if outer is None:
                del _open.by_key[key]
            else:
                _open.by_key[key] = outer

    def read(self) -> Tables:
        """Return all tables as plain TinyDB wants them, for the caller alone."""
        return self.state().plain()

    def write(self, data: Mapping[str, Mapping[Any, Any]]) -> None:
        """Let the tables be `data`; rows that are the same stay what they are."""
        with self.transaction():
            block = _open.by_key[self.key()]
            tables = {
                str(name): _replaced(block.state.table(str(name)), rows) for name, rows in data.items() if name != META
            }
            block.state = State(tables, block.state.sequence)

    def swap(self, table: str, rows: TableState) -> None:
        """Let a table have `rows`."""
        with self.transaction():
            block = _open.by_key[self.key()]
            block.state = block.state.with_table(table, rows)


def _replaced(table: TableState, rows: Mapping[Any, Any]) -> TableState:
    wanted = {int(number): data for number, data in rows.items()}
    for number, _ in table.in_order():
        if number not in wanted:
            table = table.without(number)
    for number, data in wanted.items():
        row, old = Row.of(data), table.rows.get(number)
        if old is None or old.raw != row.raw:
            table = table.put(number, row)
    return table
