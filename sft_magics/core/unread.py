"""Texts that are longer than a model reads, in words."""

from collections.abc import Mapping


def truncated(unread: Mapping[int, int]) -> str:
    """Return a sentence on texts longer than a version reads, "" where there is none.

    `unread` has, by the place of each such text (0 is the first), how many of its tokens were not read.
    """
    if not unread:
        return ""
    first, beyond = next(iter(unread.items()))
    what = "1 text is" if len(unread) == 1 else f"{len(unread):,} texts are"
    last = "its last token was" if beyond == 1 else f"its last {beyond:,} tokens were"
    return f"{what} longer than the version reads. Of text {first + 1:,} {last} not read."
