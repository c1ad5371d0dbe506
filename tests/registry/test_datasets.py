"""Versions of datasets: numbered, found by content, dropped and found again."""

import pytest

from sft_magics.core import errors
from sft_magics.registry import Registry
from sft_magics.registry.testing import a_dataset, a_model, a_version


def put(registry: Registry, mark: str, **fields: object) -> str:
    return registry.put_dataset(a_dataset(fingerprint=mark * 64, **fields)).ref


def test_other_content_is_the_next_version_and_the_same_content_the_same(registry: Registry) -> None:
    assert [put(registry, mark) for mark in "abab"] == ["films:1", "films:2", "films:1", "films:2"]
    assert put(registry, "a", labels=("positive", "negative")) == "films:3", "another order of labels is another head"
    assert put(registry, "a", task="causal-lm") == "films:4"
    assert [d.ref for d in registry.datasets()] == ["films:1", "films:2", "films:3", "films:4"]
    assert registry.dataset("films").ref == "films:4"


def test_the_same_content_keeps_when_it_was_made_and_takes_the_new_source(registry: Registry) -> None:
    put(registry, "a", created_at=5.0, source="old.csv")
    put(registry, "a", created_at=9.0, source="new.csv")
    found = registry.dataset("films:1")
    assert (found.created_at, found.source) == (5.0, "new.csv")
    assert [e.action for e in registry.history()][:2] == ["data, loaded again", "data"]


def test_a_dropped_version_keeps_its_number_and_comes_back_with_its_rows(registry: Registry) -> None:
    put(registry, "a")
    put(registry, "b")
    registry.drop_dataset("films:2", reason="not needed")
    assert registry.dataset("films").ref == "films:1"
    with pytest.raises(errors.NotFound, match="films:2 was dropped on") as caught:
        registry.dataset("films:2")
    assert "%sft_data films SOURCE" in caught.value.next_step
    assert put(registry, "c") == "films:3", "a number is never given twice"
    assert put(registry, "b") == "films:2"
    assert registry.dataset("films:2").dropped_at is None


def test_a_name_all_of_whose_versions_were_dropped(registry: Registry) -> None:
    put(registry, "a")
    registry.drop_dataset("films")
    assert registry.datasets() == []
    with pytest.raises(errors.NotFound, match="films:1 was dropped"):
        registry.dataset("films")


@pytest.mark.parametrize(
    ("ref", "said"), [("films:7", "has no version 7; there are: films:1"), ("flims", "mean 'films'")]
)
def test_what_is_not_there(registry: Registry, ref: str, said: str) -> None:
    put(registry, "a")
    with pytest.raises(errors.NotFound, match=said):
        registry.dataset(ref)


def test_the_data_of_a_version_is_found_by_its_rows(registry: Registry) -> None:
    registry.add_model(a_model("pets"))
    put(registry, "a")
    put(registry, "b")
    made = registry.commit_version(a_version("pets", data="films:1", data_fingerprint="a" * 64))
    assert registry.data_of(made).ref == "films:1"
    elsewhere = a_version("pets", data="films:1", data_fingerprint="b" * 64)
    assert registry.data_of(elsewhere).ref == "films:2", "films:1 of another workspace holds what is films:2 here"
    stranger = a_version("pets", data="films:1", data_fingerprint="c" * 64)
    with pytest.raises(errors.NotFound, match="not in this workspace"):
        registry.data_of(stranger)
