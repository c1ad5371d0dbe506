"""Which rows are for training, for validation and for test: decided by a hash of each row's own content.

A row's split depends on its text, the seed and the fraction alone, so it stays where it is when rows are added, removed
or shuffled, and the same text is never on both sides. In expectation every class is split alike (the hash knows no
labels); rare classes are looked at by `checks`.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_WHOLE = 2**64


def normalized(text: str) -> str:
    """Return `text` as it is compared: NFKC, case folded, white space collapsed."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def position(key: str, seed: int) -> float:
    """Return where the normalized text `key` lies in [0, 1) under `seed`."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _WHOLE


def assign(
    keys: Sequence[str],
    labels: Sequence[str],
    given: Sequence[str | None],
    validation: float,
    seed: int,
    test: float = 0.0,
) -> list[str]:
    """Return the split of each row: the one that was given, else train, validation or test by the hash of its key.

    `validation` and `test` are fractions of all rows; with 0 there are no test rows but those that were given.

    `keys` are normalized texts. A text that has a split in one row has it in every row. Where a source knows train and
    test only, validation is taken out of its train rows; so are test rows where it knows none and `test` is not 0. Two
    exceptions keep tiny data usable: a class that would have no row to train on keeps all of its rows in train, and if
    no row at all fell to validation the one nearest to it does.
    """
    own = validation
    if None not in given and (VALIDATION not in given or (test > 0.0 and TEST not in given)):
        own = 0.0 if VALIDATION in given else validation
        given = [None if split == TRAIN else split for split in given]
    known = {key: split for key, split in zip(keys, given, strict=True) if split is not None}
    splits = [split or known.get(key, TRAIN) for key, split in zip(keys, given, strict=True)]
    places = {i: position(key, seed) for i, key in enumerate(keys) if given[i] is None and key not in known}
    for i, place in places.items():
        splits[i] = VALIDATION if place < own else TEST if place >= 1.0 - test else TRAIN
    _keep_every_class_in_train(splits, labels, places)
    if VALIDATION not in splits:
        _lend_one_row(splits, labels, keys, places)
    return splits


def _keep_every_class_in_train(splits: list[str], labels: Sequence[str], free: Iterable[int]) -> None:
    trained = {label for label, split in zip(labels, splits, strict=True) if split == TRAIN}
    for i in free:
        if splits[i] != TRAIN and labels[i] not in trained:
            splits[i] = TRAIN


def _lend_one_row(splits: list[str], labels: Sequence[str], keys: Sequence[str], places: dict[int, float]) -> None:
    counts = Counter(label for label, split in zip(labels, splits, strict=True) if split == TRAIN)
    texts = Counter(keys[i] for i in places)
    able = [i for i in places if counts[labels[i]] > 1 and texts[keys[i]] == 1]
    if able:
        splits[min(able, key=places.__getitem__)] = VALIDATION
