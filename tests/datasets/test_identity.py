"""A row is known by its content: exactly, and but for case, spaces and punctuation."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sft_magics.core.errors import ModelProblem
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION
from sft_magics.datasets import identity
from sft_magics.datasets.identity import TrainedOn


def texts(*rows: str) -> pd.DataFrame:
    return pd.DataFrame({"text": rows, "label": ["a"] * len(rows), "split": ["train"] * len(rows)})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A fine film.", "a  fine FILM.", "exact"),
        ("ﬁne film", "fine film", "exact"),
        ("A fine film.", "A fine film", "near"),
        ("A fine film!", "RT: a fine film", "near"),
        ("a fine film", "RT @critic: A fine film...", "near"),
        ("a fine film", "rt @critic a fine film", "near"),
        ("Don't go.", "dont go", "near"),
        ("好极了！", "好极了。", "near"),
        ("RT if you agree", "if you agree", ""),
        ("rtl: a language", "a language", ""),
        ("great 🙂", "great 😡", ""),
        ("!!!", "???", ""),
        ("a fine film", "a fine movie", ""),
    ],
)
def test_texts_that_are_the_same_row(one: str, other: str, same: str) -> None:
    frame = texts(one, other)
    exact, near = identity.exact(frame, TEXT_CLASSIFICATION), identity.near(frame, TEXT_CLASSIFICATION)
    assert (exact[0] == exact[1]) == (same == "exact")
    assert (near[0] == near[1]) == (same in ("exact", "near"))


def test_a_dialogue_is_its_prompt_and_its_answer() -> None:
    frame = pd.DataFrame({"text": ["2+2?", "2+2?", "2+2?"], "label": ["4", "four", "4 "]})
    found = identity.exact(frame, CAUSAL_LM)
    assert found[0] != found[1]
    assert found[0] == found[2]


def test_an_image_is_its_file_not_its_path() -> None:
    frame = pd.DataFrame({"text": ["a.png", "b.png"], "label": ["x", "y"], "sha256": ["0f" * 32, "0f" * 32]})
    found = identity.exact(frame, IMAGE_CLASSIFICATION)
    assert found[0] == found[1] == identity.exact(frame[1:], IMAGE_CLASSIFICATION)[0]


def test_what_is_written_is_read_again_and_is_compact(tmp_path: Path) -> None:
    rows = texts(*(f"row {i}!" for i in range(1000)))
    known = identity.of_rows(rows, TEXT_CLASSIFICATION)
    assert identity.read(tmp_path) is None
    identity.write(tmp_path, known)
    found = identity.read(tmp_path)
    assert found is not None
    assert np.array_equal(found.rows, known.rows)
    assert np.array_equal(found.near, known.near)
    assert found.complete
    assert (tmp_path / identity.FILE).stat().st_size < 1000 * 16 + 100
    assert found.has(identity.exact(texts("ROW 7!", "row 7", "row 1000!"), TEXT_CLASSIFICATION)).tolist() == [
        True, False, False,
    ]  # fmt: skip
    assert found.resembles(identity.near(texts("row 7", "row 1000"), TEXT_CLASSIFICATION)).tolist() == [True, False]


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"no line", b'{"format": 1, "rows": 9, "near": 0}\n12345678'])
def test_a_damaged_list_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / identity.FILE).write_bytes(damage)
    with pytest.raises(ModelProblem, match="is damaged"):
        identity.read(tmp_path)
    (tmp_path / identity.FILE).write_bytes(b'{"format": 2, "rows": 0, "near": 0, "complete": true}\n')
    with pytest.raises(ModelProblem, match="format 2"):
        identity.read(tmp_path)


def test_lists_are_joined_and_one_that_is_not_complete_makes_the_whole_so() -> None:
    a, b = (identity.of_rows(texts(*rows), TEXT_CLASSIFICATION) for rows in (("one", "two"), ("two", "three")))
    both = a | b
    assert (len(both.rows), both.complete) == (3, True)
    assert not (both | TrainedOn(complete=False)).complete


@pytest.mark.parametrize("seed", range(20))
def test_no_row_that_was_trained_on_is_ever_unmarked(seed: int) -> None:
    """Over random splits, renames, merges, spellings: what a version or its ancestor has seen is marked and counted."""
    rng = random.Random(seed)
    world = [f"sentence {i} of {rng.choice('abc')}" for i in range(60)]
    versions: dict[str, tuple[TrainedOn, set[str]]] = {}
    for number in range(1, 6):
        parent = rng.choice([None, *versions])
        chosen = rng.sample(world, rng.randrange(1, 40))
        spelled = [rng.choice([str.upper, str.title, lambda t: f"  {t}\t"])(text) for text in chosen]
        known, truth = versions[parent] if parent else (TrainedOn(), set())
        trained = known | identity.training_rows(texts(*spelled), TEXT_CLASSIFICATION)
        versions[f"m:{number}"] = (trained, truth | set(chosen))
    pair = rng.sample(sorted(versions), 2)
    asked = rng.sample(world, 40) + rng.sample(world, 5)
    marks = identity.marks(texts(*asked), TEXT_CLASSIFICATION, {ref: versions[ref][0] for ref in pair})
    expected = [any(text in versions[ref][1] for ref in pair) for text in asked]
    assert marks.seen.tolist() == expected
    overlap = marks.overlap()
    assert (overlap.rows, overlap.seen, overlap.measured) == (45, sum(expected), 45 - sum(expected))
    assert overlap.by == {ref: n for ref in pair if (n := sum(text in versions[ref][1] for text in asked))}
    assert bool(overlap.remarks) == bool(overlap.seen or overlap.near)
