"""Any sequence of changes, crashes and compactions by two handles, beside a dictionary that cannot crash."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tinydb import where

from sft_magics.registry import journal
from sft_magics.registry.documents import RowDatabase, database
from sft_magics.registry.journal import JournalStorage

pytestmark = [pytest.mark.alone, pytest.mark.crash]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3), max_leaves=6
)
rows = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3)
tables = st.sampled_from(["one", "two", "name with / and \u00e4"])
handles = st.sampled_from([0, 1])


class Machine(RuleBasedStateMachine):
    """Two handles, of which the second forgets what it knows before each use, as another process would."""

    numbers = Bundle("numbers")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "registry.json"
        self.expected: dict[str, dict[int, Any]] = {}
        self.kept = JournalStorage(self.path)

    def storage(self, handle: int) -> JournalStorage:
        if handle == 0:
            return self.kept
        journal._cache.put(self.path, None)
        return JournalStorage(self.path)

    def db(self, handle: int) -> RowDatabase:
        return database(self.storage(handle))

    @rule(target=numbers, handle=handles, table=tables, row=rows)
    def insert(self, handle: int, table: str, row: dict[str, Any]) -> tuple[str, int]:
        number = self.db(handle).table(table).insert(row)
        there = self.expected.setdefault(table, {})
        assert number == max(there, default=0) + 1
        there[number] = row
        return table, number

    @rule(handle=handles, at=numbers, row=rows)
    def update(self, handle: int, at: tuple[str, int], row: dict[str, Any]) -> None:
        there = self.expected.get(at[0], {})
        if at[1] in there:
            self.db(handle).table(at[0]).update(row, doc_ids=[at[1]])
            there[at[1]] = {**there[at[1]], **row}

    @rule(handle=handles, at=numbers)
    def remove(self, handle: int, at: tuple[str, int]) -> None:
        if at[1] in self.expected.get(at[0], {}):
            self.db(handle).table(at[0]).remove(doc_ids=[at[1]])
            del self.expected[at[0]][at[1]]

    @rule(handle=handles, table=tables)
    def drop(self, handle: int, table: str) -> None:
        self.db(handle).drop_table(table)
        self.expected.pop(table, None)

    @rule(handle=handles, table=tables, row=rows)
    def fail_within(self, handle: int, table: str, row: dict[str, Any]) -> None:
        storage = self.storage(handle)
        with pytest.raises(ZeroDivisionError), storage.transaction():  # noqa: PT012
            database(storage).table(table).insert(row)
            raise ZeroDivisionError

    @rule(handle=handles)
    def compact(self, handle: int) -> None:
        self.storage(handle).compact()

    @rule(data=st.data())
    def crash_while_writing(self, data: st.DataObject) -> None:
        """A frame that was cut short at any byte was never acknowledged."""
        if not self.path.exists():
            return
        journal_at = self.path.with_suffix(".journal")
        before = journal_at.read_bytes()
        copy = self.folder / "copy"
        shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns("copy"))
        JournalStorage(copy / "registry.json").put("torn", 1, None)
        database(JournalStorage(copy / "registry.json")).table("torn").insert({"x": "y" * 50})
        after = (copy / "registry.journal").read_bytes()
        shutil.rmtree(copy)
        if after.startswith(before):
            cut = data.draw(st.integers(len(before), len(after) - 1))
            journal_at.write_bytes(after[:cut])

    @rule(handle=handles, table=tables)
    def query(self, handle: int, table: str) -> None:
        found = self.db(handle).table(table).search(where("a").exists())
        there = self.expected.get(table, {})
        assert {d.doc_id: dict(d) for d in found} == {n: r for n, r in there.items() if "a" in r}

    @invariant()
    def both_handles_see_the_same(self) -> None:
        expected = {name: {str(n): row for n, row in there.items()} for name, there in self.expected.items() if there}
        for handle in (0, 1):
            found = {name: rows for name, rows in self.storage(handle).read().items() if rows}
            assert found == expected

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


def test_any_sequence_of_changes_and_crashes() -> None:
    examples = 10_000 if os.environ.get("SFT_CRASH") == "full" else 200
    chosen = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    run_state_machine_as_test(Machine, settings=chosen)  # type: ignore[no-untyped-call]
