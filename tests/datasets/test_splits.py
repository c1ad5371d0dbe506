import random
from collections import Counter

import pytest

from sft_magics.datasets import load
from sft_magics.datasets.fingerprints import fingerprint, ids
from sft_magics.datasets.splits import assign, normalized, position


@pytest.fixture(scope="module")
def films() -> tuple[list[str], list[str]]:
    loaded = load("sample:reviews")
    return loaded.texts, loaded.labels


def split_of(texts: list[str], labels: list[str], seed: int = 0, validation: float = 0.15) -> dict[str, str]:
    keys = [normalized(text) for text in texts]
    return dict(zip(keys, assign(keys, labels, [None] * len(keys), validation, seed), strict=True))


@pytest.mark.network
def test_rows_stay_in_their_split_when_rows_are_added_removed_and_shuffled(films: tuple[list[str], list[str]]) -> None:
    texts, labels = films
    whole = split_of(texts, labels)
    rows = list(zip(texts, labels, strict=True))
    random.Random(0).shuffle(rows)
    part = split_of([t for t, _ in rows[:3000]], [y for _, y in rows[:3000]])
    assert part == {key: whole[key] for key in part}


@pytest.mark.network
@pytest.mark.parametrize("validation", [0.05, 0.15, 0.5])
def test_the_fraction_is_met(films: tuple[list[str], list[str]], validation: float) -> None:
    splits = list(split_of(*films, validation=validation).values())
    assert splits.count("validation") / len(splits) == pytest.approx(validation, abs=0.02)


@pytest.mark.network
def test_a_larger_fraction_keeps_the_validation_rows_and_another_seed_does_not(
    films: tuple[list[str], list[str]],
) -> None:
    small, large, other = split_of(*films), split_of(*films, validation=0.3), split_of(*films, seed=1)
    held = {key for key, split in small.items() if split == "validation"}
    assert held <= {key for key, split in large.items() if split == "validation"}
    shared = sum(other[key] == "validation" for key in held) / len(held)
    assert shared == pytest.approx(0.15, abs=0.05)


def test_the_hash_is_the_same_everywhere() -> None:
    assert position("a good film", 0) == pytest.approx(0.0752925719120777, abs=1e-12)
    assert position("a good film", 1) != position("a good film", 0)


def test_texts_that_read_alike_go_together() -> None:
    assert normalized("  A  Good\n\tFILM ") == normalized("a good film")
    assert normalized("ﬁne Straße") == normalized("fine STRASSE")
    assert normalized("a good film") != normalized("a good film!")


def test_a_given_split_is_kept_and_its_text_follows_it() -> None:
    keys = ["a", "b", "c", "a", *map(str, range(100))]
    given = ["train", "validation", "test", None, *[None] * 100]
    found = assign(keys, ["x"] * len(keys), given, 0.5, 0)
    assert found[:4] == ["train", "validation", "test", "train"]
    assert 30 < found[4:].count("validation") < 70


def test_validation_comes_out_of_train_where_there_is_only_test() -> None:
    keys = list(map(str, range(200)))
    given = ["train"] * 150 + ["test"] * 50
    found = assign(keys, ["x"] * 200, given, 0.2, 0)
    assert found[150:] == ["test"] * 50
    assert 15 < found[:150].count("validation") < 45


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("n", [2, 3, 5])
def test_tiny_data_trains_every_class_and_validates_something(n: int, seed: int) -> None:
    keys = [f"text {i} {seed}" for i in range(n * 2)]
    labels = ["a", "b"] * n
    found = assign(keys, labels, [None] * len(keys), 0.15, seed)
    assert {label for label, split in zip(labels, found, strict=True) if split == "train"} == {"a", "b"}
    assert "validation" in found


def test_a_fingerprint_knows_rows_not_their_order() -> None:
    rows = [("a", "x", "train"), ("b", "y", "train"), ("a", "x", "train"), ('q"\n', "y", "validation")]
    mark = fingerprint(rows)
    assert mark == fingerprint(reversed(rows))
    assert len(mark) == 64
    assert mark != fingerprint(rows[:3])
    assert mark != fingerprint([("a", "x", "train"), *rows[1:3], ('q"\n', "y", "train")])
    assert fingerprint([("ab", "c", "d")]) != fingerprint([("a", "bc", "d")])


def test_ids_are_short_and_unique() -> None:
    found = ids(["a", "b", "a", "a"])
    assert len(set(found)) == 4
    assert found[2] == found[0] + "-2"
    assert found[3] == found[0] + "-3"
    assert ids(["b"])[0] == found[1]


def test_test_rows_are_a_third_part_that_stays_where_it_is() -> None:
    keys = [f"row {i}" for i in range(4000)]
    labels, given = ["a"] * len(keys), [None] * len(keys)
    found = assign(keys, labels, given, 0.15, 0, 0.2)
    shares = Counter(found)
    assert shares["validation"] / len(keys) == pytest.approx(0.15, abs=0.02)
    assert shares["test"] / len(keys) == pytest.approx(0.2, abs=0.02)
    without = assign(keys, labels, given, 0.15, 0)
    assert [s for s, w in zip(found, without, strict=True) if w == "validation"] == ["validation"] * shares[
        "validation"
    ]
    assert assign(keys[::2], labels[::2], given[::2], 0.15, 0, 0.2) == found[::2]


def test_test_rows_are_taken_from_the_train_rows_of_a_source_that_has_none() -> None:
    keys = [f"row {i}" for i in range(1000)]
    given = ["validation" if i % 5 == 0 else "train" for i in range(1000)]
    found = assign(keys, ["a"] * 1000, given, 0.15, 0, 0.2)
    assert [i for i, split in enumerate(found) if split == "validation"] == list(range(0, 1000, 5))
    assert Counter(found)["test"] == pytest.approx(160, abs=40)


def test_a_class_that_only_test_rows_would_have_is_kept_in_train() -> None:
    keys = [f"row {i}" for i in range(200)]
    labels = [f"class {i}" for i in range(200)]
    assert set(assign(keys, labels, [None] * 200, 0.3, 0, 0.3)) <= {"train", "validation"}
