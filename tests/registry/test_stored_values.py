"""What a table of the registry keeps, as TinyDB would, and what it refuses by name."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydb import Query, TinyDB, where
from tinydb.operations import delete, increment

from sft_magics.core import errors
from sft_magics.registry import journal
from sft_magics.registry.documents import database
from sft_magics.registry.journal import JournalStorage


@pytest.mark.parametrize("ours", [True, False], ids=["our tables", "plain TinyDB"])
def test_tinydb_s_interface_is_unchanged(tmp_path: Path, ours: bool) -> None:
    """What is done here is done with plain TinyDB as well, and must come out the same, step by step."""

    def play(db: TinyDB, again: Callable[[], TinyDB]) -> list[Any]:
        seen: list[Any] = [db.insert({"name": "a", "n": 1, "deep": {"list": [1]}})]
        seen.append(db.insert_multiple([{"name": "b", "n": 2}, {"name": "c", "n": 3}]))
        seen.append(db.update({"name": "z"}, Query().name == "a"))
        seen.append(db.update(increment("n"), where("n") >= 2))
        seen.append(db.update(delete("n"), doc_ids=[3]))
        seen.append(db.update_multiple([({"x": 1}, where("name") == "b"), ({"x": 2}, where("name") == "c")]))
        seen.append(db.upsert({"name": "b", "y": 1}, Query().name == "b"))
        seen.append(db.upsert({"name": "new"}, Query().name == "new"))
        db.search(Query().deep.list.any([1]))[0]["deep"]["list"].append(9)  # theirs, not ours
        seen.append(again().all())
        seen.append(db.search((Query().n > 1) | Query().y.exists()))
        seen.append(
            [
                db.get(doc_id=4),
                db.get(Query().name == "none"),
                db.contains(where("x") == 2),
                db.count(where("x").exists()),
            ]
        )
        seen.append(db.remove(Query().name == "b"))
        seen.append([len(db), [dict(d) for d in db], db.get(doc_id=1)])
        other = db.table("other")
        seen.append(other.insert_multiple([{"n": 1}, {"n": 2}]))
        seen.append(sorted(db.tables()))
        other.truncate()
        seen.append([other.all(), other.insert({"n": 5})])
        db.drop_table("other")
        seen.append([again().tables(), again().all()])
        db.drop_tables()
        return [*seen, again().tables(), again().all()]

    ours_at, plain_at = tmp_path / "ours.json", tmp_path / "plain.json"
    make = (lambda: database(JournalStorage(ours_at))) if ours else (lambda: TinyDB(ours_at, storage=JournalStorage))
    expected = play(TinyDB(plain_at), lambda: TinyDB(plain_at))
    assert play(make(), make) == expected


def test_an_update_that_fails_changes_nothing(tmp_path: Path) -> None:
    db = database(JournalStorage(tmp_path / "any.json"))
    db.insert_multiple([{"n": 1}, {"n": "text"}])
    with pytest.raises(TypeError):
        db.update(increment("n"))
    with pytest.raises(ValueError, match="not a Mapping"):
        db.insert_multiple([{"n": 3}, "no document"])  # type: ignore[list-item]
    assert db.all() == [{"n": 1}, {"n": "text"}]


LONG = "n" * 300_000


KEPT: list[Any] = [float("inf"), -0.0, 1e308, 2**63, -(10**3000), True, None, [], {}, (), (1, (2, "x")), Path("a/b")]


KEPT += ["", "../../etc", "a\x00b", "a\nb\r\u2028", "\ud800 half", LONG]


KEPT += [{"$float": "nan"}, {"$": 1}, {"$dict": []}, {1: "number", (1, 2): "tuple"}, {"a": {"b": [None, (1,)]}}]


@pytest.mark.parametrize("value", KEPT, ids=lambda value: repr(value)[:24])
def test_a_value_comes_back_as_it_was_put_in(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "any.json"
    storage = JournalStorage(path)
    database(storage).insert({"value": value, "rest": 1})
    for step in (lambda: None, storage.compact):
        step()
        journal._cache.put(path, None)
        found = database(JournalStorage(path)).all()[0]["value"]
        assert (found, type(found)) == (value, type(value))
        assert math.copysign(1, found) == math.copysign(1, value) if isinstance(value, float) else True


def test_nan_and_numpy_scalars_become_numbers(tmp_path: Path) -> None:
    path = tmp_path / "any.json"
    storage = JournalStorage(path)
    database(storage).insert({"nan": math.nan, "f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)})
    storage.compact()
    journal._cache.put(path, None)
    found = database(JournalStorage(path)).all()[0]
    assert math.isnan(found.pop("nan"))
    assert found == {"f": 0.5, "i": 3, "b": True}

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads(path.read_bytes(), parse_constant=refuse)


class Deep(list[Any]):
    def __repr__(self) -> str:
        return "deep"


DEEP: Any = Deep()


for _ in range(100):
    DEEP = Deep([DEEP])


REFUSED = [object(), {1, 2}, b"bytes", np.zeros(2), 10**5000, DEEP, len]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_cannot_be_kept_is_refused_by_name_and_changes_nothing(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "any.json"
    db = database(JournalStorage(path))
    db.insert({"a": 1})
    before = path.with_suffix(".journal").read_bytes()
    with pytest.raises(errors.UsageProblem, match="cannot keep a "):
        db.insert({"a": {"b": value}})
    with pytest.raises(errors.UsageProblem, match="name of a field"):
        db.insert({3: "a"})  # type: ignore[dict-item]
    assert path.with_suffix(".journal").read_bytes() == before
    assert db.all() == [{"a": 1}]


@pytest.mark.parametrize("name", ["x" * 5000, "a/b", "a\\b", "..", 'q"uote', "line\nfeed", "$tag", "\u00e4"])
def test_a_table_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "any.json"
    storage = JournalStorage(path)
    database(storage).table(name).insert({"n": 1})
    storage.compact()
    database(storage).table(name).insert({"n": 2})
    journal._cache.put(path, None)
    assert database(JournalStorage(path)).table(name).all() == [{"n": 1}, {"n": 2}]
    assert {p.name.split(".")[0] for p in tmp_path.iterdir()} == {"any"}
