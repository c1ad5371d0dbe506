"""The identity of a row: hashes of its content, by which a version knows again what it was trained on.

Names of datasets, files and splits play no part. A text is identified by its normalized form (see `splits.normalized`),
an image by the SHA-256 of its file, a dialogue by prompt and answer together. Two rows are near-duplicates when their
texts differ only in case, spaces, punctuation or a leading "RT:", or their files show the same pixels.
"""

import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Overlap
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS
from sft_magics.core.workspace import write_durably
from sft_magics.datasets.splits import TRAIN, normalized

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame

    Hashes = np.ndarray[Any, np.dtype[np.uint64]]
    Mask = np.ndarray[Any, np.dtype[np.bool_]]
FILE = "trained_on.bin"
_FORMAT = 1
_KEY = "<u8"
_LARGEST_HEAD = 1000  # bytes
_RETWEET = re.compile(r"(?:rt\s*(?::|@\w+\s*:?)\s*)+")
_APOSTROPHES = "'’"


def _none() -> "Hashes":
    import numpy as np

    return np.empty(0, _KEY)


@dataclass(frozen=True)
class TrainedOn:
    """The rows that weights were trained on, with those of all their ancestors: sorted 8-byte hashes without repeats.

    `rows` identify content exactly, `near` by the words alone, or by the pixels that a picture's file shows. Not
    `complete` where the rows of an ancestor are not known.
    """

    rows: "Hashes" = field(default_factory=_none)
    near: "Hashes" = field(default_factory=_none)
    complete: bool = True

    def __or__(self, other: "TrainedOn") -> "TrainedOn":
        import numpy as np

        return TrainedOn(
            np.union1d(self.rows, other.rows), np.union1d(self.near, other.near), self.complete and other.complete
        )

    def has(self, rows: "Hashes") -> "Mask":
        """Say of each hash of `exact` whether that row was trained on."""
        import numpy as np

        return np.isin(rows, self.rows)

    def resembles(self, near: "Hashes") -> "Mask":
        """Say of each hash of `near` whether such a row was trained on."""
        import numpy as np

        return np.isin(near, self.near)


def of_rows(frame: "DataFrame", task: str) -> TrainedOn:
    """Return the identities of rows with the columns text, label and, of images, sha256 and pixels."""
    import numpy as np

    return TrainedOn(np.unique(exact(frame, task)), np.unique(near(frame, task)))


def training_rows(frame: "DataFrame", task: str) -> TrainedOn:
    """Return the identities of those rows whose split is train."""
    return of_rows(frame[frame["split"] == TRAIN], task)


@dataclass(frozen=True)
class Marks:
    """Which rows of a frame each version was trained on (`by` its reference), and which resemble such rows."""

    by: "dict[str, Mask]"
    alike: "Mask"
    unknown: tuple[str, ...] = ()
    pictures: bool = False

    @property
    def seen(self) -> "Mask":
        """Which rows any of the versions was trained on, (rows,), bool."""
        import numpy as np

        found = np.zeros(len(self.alike), bool)
        for here in self.by.values():
            found |= here
        return found

    def overlap(self, keep: "Mask | None" = None, *, include: bool = False) -> Overlap:
        """Count the marks of the rows in `keep`, of all without it; `include` says that seen rows are measured too."""
        import numpy as np

        chosen = np.ones(len(self.alike), bool) if keep is None else keep
        seen = self.seen & chosen
        by = {name: n for name, here in self.by.items() if name and (n := int((here & chosen).sum()))}
        alike = int((self.alike & chosen & ~seen).sum())
        return Overlap(int(chosen.sum()), int(seen.sum()), by, alike, include, self.unknown, self.pictures)


def marks(frame: "DataFrame", task: str, known: "Mapping[str, TrainedOn | None]") -> Marks:
    """Return which rows of a frame were trained on.

    `known` has what each version was trained on, by its reference; None where that is not known. A version that has no
    reference yet goes by an empty one and is not named.
    """
    import numpy as np

    rows, resembling = exact(frame, task), near(frame, task)
    there = {name: trained for name, trained in known.items() if trained is not None}
    alike = np.zeros(len(rows), bool)
    for trained in there.values():
        alike |= trained.resembles(resembling)
    unknown = tuple(name for name, trained in known.items() if trained is None or not trained.complete)
    return Marks({name: trained.has(rows) for name, trained in there.items()}, alike, unknown, task in IMAGE_TASKS)


def exact(frame: "DataFrame", task: str) -> "Hashes":
    """Return the hash of each row's content, (rows,), uint64."""
    if task in IMAGE_TASKS:
        return _array(_hash(str(sha256)) for sha256 in frame["sha256"])
    return _array(_hash(words) for words in _words(frame, task))


def near(frame: "DataFrame", task: str) -> "Hashes":
    """Return the hash by which near-duplicates of each row are found, (rows,), uint64."""
    if task in IMAGE_TASKS:
        return _array(_hash(str(digest)) for digest in frame["pixels" if "pixels" in frame.columns else "sha256"])
    return _array(_hash(bare(words)) for words in _words(frame, task))


@functools.lru_cache(maxsize=1 << 12)
def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


def _spaced(punctuation: Iterable[str]) -> dict[int, str]:
    """Return the table by which apostrophes vanish and other punctuation becomes a space."""
    return {ord(c): "" if c in _APOSTROPHES else " " for c in punctuation}


_ASCII = _spaced(c for c in map(chr, range(128)) if _is_punctuation(c))


def bare(text: str) -> str:
    """Return the words of a text: normalized, without a leading "RT:" or "RT @name:", without punctuation.

    A text of nothing else is returned normalized. Symbols and emoji are kept: they may turn a meaning round.
    """
    key = normalized(text)
    body = _RETWEET.sub("", key, count=1) if key.startswith("rt") and _RETWEET.match(key) else key
    table = _ASCII if body.isascii() else _spaced(c for c in set(body) if _is_punctuation(c))
    return " ".join(body.translate(table).split()) or key


def _words(frame: "DataFrame", task: str) -> Iterable[str]:
    if task != CAUSAL_LM:
        return [str(text) for text in frame["text"]]
    return [f"{prompt}\n{answer}" for prompt, answer in zip(frame["text"], frame["label"], strict=True)]


def _hash(text: str) -> int:
    digest = hashlib.sha256(normalized(text).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def _array(keys: Iterable[int]) -> "Hashes":
    import numpy as np

    return np.fromiter(keys, _KEY)


# The file beside the weights: one line of JSON, then the hashes of `rows`, then those of `near`, little-endian.


def write(folder: Path, found: TrainedOn) -> None:
    """Write the identities beside the weights in `folder`, durably."""
    head = {"format": _FORMAT, "rows": len(found.rows), "near": len(found.near), "complete": found.complete}
    body = b"".join(part.astype(_KEY).tobytes() for part in (found.rows, found.near))
    write_durably(folder / FILE, json.dumps(head).encode() + b"\n" + body)


def inherited(start: Mapping[str, Any]) -> TrainedOn | None:
    """Return what the weights that a run starts from were trained on, None where they are a base's; see `read`."""
    return read(Path(start["path"])) if start["kind"] == "folder" else None


def read(folder: Path) -> TrainedOn | None:
    """Return the identities that lie beside the weights in `folder`, None where there are none; raises ModelProblem."""
    import numpy as np

    try:
        data = (folder / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    line = data[:_LARGEST_HEAD].partition(b"\n")[0]
    try:
        head = json.loads(line)
        if head["format"] > _FORMAT:
            raise errors.ModelProblem(
                f"{folder / FILE} has format {head['format']}, which this release does not know.",
                "pip install --upgrade sft-magics",
            )
        keys = np.frombuffer(data[len(line) + 1 :], _KEY)
        rows, known = int(head["rows"]), int(head["near"])
        if rows < 0 or len(keys) != rows + known:
            raise ValueError
        return TrainedOn(keys[:rows], keys[rows:], bool(head["complete"]))
    except (ValueError, KeyError, TypeError) as error:
        raise errors.ModelProblem(
            f"{folder / FILE} is damaged: it lists the rows that these weights were trained on.",
            "bring the folder here again from where it came.",
        ) from error
