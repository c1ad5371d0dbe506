"""What a data set is called by its content: a fingerprint of all rows, and an id for each.

Both are functions of the rows as a set: shuffled, on another machine, from another file format, they are the same.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence

Row = tuple[str, str, str]  # text, label, split


def fingerprint(rows: Iterable[Row]) -> str:
    """Return the SHA-256 (64 hex digits) of the sorted rows, each as a JSON array on a line of its own."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    digest = hashlib.sha256()
    for line in sorted(encode(row) for row in rows):
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def ids(texts: Sequence[str]) -> list[str]:
    """Return an id a row: 12 hex digits of a hash of its text, and `-2`, `-3`, ... where the same text comes again."""
    seen: Counter[str] = Counter()
    found = []
    for text in texts:
        name = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found
