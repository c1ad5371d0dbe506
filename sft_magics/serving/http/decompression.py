"""What comes packed: bodies that are compressed, and bytes that are written as text.

Clients write both in several spellings, and a spelling that has one meaning is read. What has two, or none, ends in an
`HttpProblem`.
"""

import base64
import binascii
import re
import zlib
from urllib.parse import unquote_to_bytes

from sft_magics.serving.problems import HttpProblem

CODINGS = ("gzip", "deflate")
_GZIP, _ZLIB, _BARE = 31, 15, -15  # zlib's names for them
_MOST_MEMBERS = 1024  # of a gzip file; each may be empty
_DATA = re.compile(r"\s*data:([^,]*),", re.IGNORECASE)
_BREAK = re.compile(rb"[ \t]*[\r\n]+[ \t]*")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def coding(given: str) -> str:
    """Return the one coding of a Content-Encoding header, "" for none; raises HttpProblem 415."""
    names = [name.strip().lower().removeprefix("x-") for name in given.split(",")]
    named = [name for name in names if name not in ("", "identity")]
    if len(named) > 1 or any(name not in CODINGS for name in named):
        known = " or ".join(CODINGS)
        raise HttpProblem(415, f"The body comes as {given[:40]!r}; send it as it is, or with Content-Encoding {known}.")
    return named[0] if named else ""


def inflated(body: bytes, how: str, most: int) -> bytes:
    """Return a body without its coding; raises HttpProblem: 400 where it is none, 413 for more than `most` bytes."""
    found: list[bytes] = []
    left, rest = most, body
    try:
        for _ in range(_MOST_MEMBERS):
            packed = zlib.decompressobj(_format(rest, how))
            found.append(packed.decompress(rest, left + 1))
            left -= len(found[-1])
            if left < 0:
                raise HttpProblem(413, f"The body is larger than {most // 2**20} MB when it is unpacked; send less.")
            rest = packed.unused_data
            if not packed.eof or (rest and how != "gzip"):
                break
            if not rest:
                return b"".join(found)
    except zlib.error:
        pass
    raise HttpProblem(400, f"The body is not whole {how}, as its Content-Encoding says.")


def _format(body: bytes, how: str) -> int:
    """Return what zlib calls a format: "deflate" means zlib's own, and some clients send it without zlib's head."""
    if how == "gzip":
        return _GZIP
    headed = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0
    return _ZLIB if headed else _BARE


def from_base64(given: str) -> bytes:
    """Return the bytes that a text says in base 64; raises ValueError.

    It may be a data: address, in any case and with any parameters, have line breaks, the alphabet for addresses, and no
    padding. A blank within a line is refused: it is what a form makes of "+".
    """
    if address := _DATA.match(given):
        if not address[1].rstrip().lower().endswith(";base64"):
            raise ValueError("it is a data: address without ;base64")
        given = given[address.end() :]
    plain = unquote_to_bytes(given) if "%" in given else given.encode("ascii")
    plain = _BREAK.sub(b"", plain.strip()).translate(_URL_SAFE)
    bare = plain.rstrip(b"=")
    if len(plain) > len(bare) and len(plain) % 4:
        raise ValueError("its padding does not fit its length")
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("it is not base 64") from error
