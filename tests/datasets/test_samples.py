from collections import Counter

import pytest

from sft_magics.core.errors import NotFound, UsageProblem
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import SAMPLES, build, load

pytestmark = pytest.mark.network
POSITIVE_SHARE = {"reviews": 0.496, "amazon": 0.586, "tweets": 0.684, "nyt": 0.395}


@pytest.mark.parametrize("name", SAMPLES)
def test_counts_and_shares_are_the_known_ones(name: str) -> None:
    loaded = load(f"sample:{name}")
    assert len(loaded) == SAMPLES[name][2]
    shares = Counter(loaded.labels)
    assert set(shares) == {"negative", "positive"}
    assert shares["positive"] / len(loaded) == pytest.approx(POSITIVE_SHARE[name], abs=0.0006)
    assert all(text.strip() == text and text for text in loaded.texts)
    assert loaded.license.startswith("MIT")


def test_known_sentences_have_their_labels() -> None:
    loaded = load("sample:reviews")
    truth = dict(zip(loaded.texts, loaded.labels, strict=True))
    assert truth["Effective but too tepid biopic"] == "negative"
    assert (
        truth["If you sometimes like to go to the movies to have fun, Wasabi is a good place to start."] == "positive"
    )


def test_the_film_reviews_become_a_dataset(ws: Workspace) -> None:
    dataset = build("reviews", "sample:reviews", workspace=ws)
    assert dataset.labels == ("negative", "positive")
    assert sum(dataset.counts.values()) == 10_043
    assert dataset.counts["validation"] / 10_043 == pytest.approx(0.15, abs=0.015)
    for label in dataset.labels:  # stratified in expectation
        n = dataset.class_counts["train"][label] + dataset.class_counts["validation"][label]
        assert dataset.class_counts["validation"][label] / n == pytest.approx(0.15, abs=0.015)
    assert [f.code for f in dataset.findings] == ["duplicates"]
    assert dataset.source == "sample:reviews"
    # The split and the rows are a promise: versions that were trained earlier are measured on them.
    assert dataset.fingerprint.startswith("e797830f55e2")


def test_a_misspelled_sample() -> None:
    with pytest.raises(NotFound, match="Did you mean 'reviews'"):
        load("sample:revews")
    with pytest.raises(NotFound, match="Did you mean 'sample:reviews'"):
        load("reviews")


def test_columns_of_a_sample_cannot_be_named() -> None:
    with pytest.raises(UsageProblem):
        load("sample:reviews", text="x")
