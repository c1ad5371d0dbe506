"""What comes packed: compressed bodies over every protocol, and pictures in every spelling of base 64."""

import base64
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from sft_magics.core import picture_formats
from sft_magics.core.records import Endpoint
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_CLASSIFICATION
from sft_magics.serving.client import lifecycle
from sft_magics.serving.http import bodies, decompression
from sft_magics.serving.problems import HttpProblem
from tests.serving.house import House, ask, png, sentence

DATA = bytes(range(256)) * 3 + b"\xfb\xff\xfe"  # has every letter of both alphabets
PLAIN = base64.b64encode(DATA).decode()
SAFE = base64.urlsafe_b64encode(DATA).decode()


def _wrapped(end: str, width: int = 76, indent: str = "") -> str:
    return end.join(indent + PLAIN[i : i + width] for i in range(0, len(PLAIN), width)) + end


SPELLINGS = {
    "plain": PLAIN,
    "lines": _wrapped("\n"),
    "mime": base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
    "pem": _wrapped("\r\n", 64),
    "indented": _wrapped("\n", 60, "    "),
    "around": f" \n{PLAIN}\t\n",
    "url-safe": SAFE,
    "no padding": PLAIN.rstrip("="),
    "url-safe, no padding": SAFE.rstrip("="),
    "data": f"data:image/png;base64,{PLAIN}",
    "DATA": f"DATA:IMAGE/PNG;BASE64,{PLAIN}",
    "parameters": f"data:image/png;charset=utf-8;name=a.png;base64,{SAFE.rstrip('=')}",
    "no kind": f"data:;base64,{PLAIN}",
    "escaped": f"data:image/png;base64,{quote(PLAIN, safe='')}",
    "data in lines": f"data:image/png;base64,\n{_wrapped(chr(10))}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("size", [len(DATA), len(DATA) - 1, len(DATA) - 2, 1, 2])
def test_base_64_is_read_in_every_spelling(spelling: str, size: int) -> None:
    given = SPELLINGS[spelling]
    if size == len(DATA):
        assert decompression.from_base64(given) == DATA
    short = base64.b64encode(DATA[:size]).decode()
    assert decompression.from_base64(short.rstrip("=")) == decompression.from_base64(short) == DATA[:size]


@pytest.mark.parametrize(
    "given",
    [
        "a b c d",  # a form made blanks of its "+"
        PLAIN.replace("+", " ", 1) if "+" in PLAIN else "AA A",
        "A",
        "AAAAA",
        "AA=A",
        "AAA=A===",
        "AAAA====A",
        "AAA==",
        "data:image/png,%89PNG",
        "data:image/png;base64",
        "not base 64!",
        "w\u00e4re",
        "AAAA\u00a0AAAA",
        "AAAA\0AAAA",
        "b'AAAA'",
        '"AAAA"',
    ],
)
def test_what_has_no_meaning_or_two_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decompression.from_base64(given)


# Compressed bodies


def _bare(data: bytes) -> bytes:
    packed = zlib.compressobj(wbits=-15)
    return packed.compress(data) + packed.flush()


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "two members": ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(b"") + gzip.compress(data[9:])),
    "stored": ("gzip", lambda data: gzip.compress(data, 0)),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("Deflate", _bare),
    "with identity": ("identity, gzip", gzip.compress),
    "identity": ("identity", bytes),
    "none": ("", bytes),
}


@pytest.mark.parametrize("way", PACKED)
@pytest.mark.parametrize("data", [b"", b"{}", json.dumps(["a film"] * 9000).encode(), os.urandom(5000)], ids=range(4))
def test_a_packed_body_is_what_it_was(way: str, data: bytes) -> None:
    given, pack = PACKED[way]
    how = decompression.coding(given)
    packed = pack(data)
    assert (decompression.inflated(packed, how, 10**7) if how else packed) == data


@pytest.mark.parametrize(
    "given", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "gzip;q=1", "*", "aws-chunked"]
)
def test_other_codings_are_refused(given: str) -> None:
    with pytest.raises(HttpProblem, match="Content-Encoding gzip or deflate") as caught:
        decompression.coding(given)
    assert caught.value.status == 415


BOMB = gzip.compress(bytes(64 << 20), 9)


@pytest.mark.parametrize(
    ("packed", "how", "status"),
    [
        (BOMB, "gzip", 413),
        (gzip.compress(bytes(15 << 20)) * 9, "gzip", 413),
        (zlib.compress(bytes(64 << 20), 9), "deflate", 413),
        (gzip.compress(b"") * 5000, "gzip", 400),
        (gzip.compress(b"whole")[:-1], "gzip", 400),
        (gzip.compress(b"whole")[:-8] + bytes(8), "gzip", 400),
        (gzip.compress(b"whole") + b"more", "gzip", 400),
        (zlib.compress(b"whole") + b"more", "deflate", 400),
        (zlib.compress(b"whole"), "gzip", 400),
        (b"whole", "gzip", 400),
        (b"", "gzip", 400),
        (b"", "deflate", 400),
    ],
    ids=range(12),  # a packed body has its time in it, and a test's name stays what it is
)
def test_bombs_and_broken_bodies_are_refused(packed: bytes, how: str, status: int) -> None:
    with pytest.raises(HttpProblem) as caught:
        decompression.inflated(packed, how, bodies.MAX_BODY)
    assert caught.value.status == status


TEXT_BODIES: dict[str, Any] = {
    "/predict": {"inputs": ["a film"]},
    "/v2/models/demo/infer": {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a film"]}]},
    "/v1/models/demo:predict": {"instances": ["a film"]},
    "/invocations": {"inputs": ["a film"]},
    "/": {"inputs": "a film"},
}


@pytest.mark.parametrize("path", TEXT_BODIES)
@pytest.mark.parametrize("way", ["gzip", "deflate", "bare deflate", "two members"])
def test_every_protocol_takes_packed_bodies(shared: House, path: str, way: str) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    name, pack = PACKED[way]
    sent = {"Content-Type": "application/json", "Content-Encoding": name}
    body = json.dumps(TEXT_BODIES[path]).encode()
    status, reply = ask(endpoint, "POST", path, pack(body), headers=sent)
    assert (status, "negative" in json.dumps(reply)) == (200, True)
    assert ask(endpoint, "POST", path, body, headers=sent)[0] == 400
    assert ask(endpoint, "POST", path, BOMB, headers=sent | {"Content-Encoding": "gzip"})[0] == 413
    status, reply = ask(endpoint, "POST", path, body, headers=sent | {"Content-Encoding": "br"})
    assert (status, "gzip or deflate" in sentence(reply)) == (415, True)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    house = House(tmp_path_factory.mktemp("chat"))
    yield house.start_task(CAUSAL_LM)
    house.end_all()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_chats_come_packed_too(chat: Endpoint, path: str) -> None:
    body = {"model": chat.name, "messages": [{"role": "user", "content": "Hello"}], "prompt": "Hello"}
    body.pop("prompt" if "chat" in path else "messages")
    sent = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    packed = gzip.compress(json.dumps(body).encode())
    assert ask(chat, "POST", path, packed, headers=sent)[0] == 200
    assert ask(chat, "POST", path, BOMB, headers=sent)[0] == 413


# Pictures


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    house = House(tmp_path_factory.mktemp("seer"))
    yield house.start_task(IMAGE_CLASSIFICATION)
    house.end_all()


def _spelled(file: bytes) -> list[str]:
    plain = base64.b64encode(file).decode()
    safe = base64.urlsafe_b64encode(file).decode().rstrip("=")
    return [plain, base64.encodebytes(file).decode(), safe, f"DATA:image/png;a=b;BASE64,{safe}"]


@pytest.mark.parametrize("spelling", range(4))
def test_every_protocol_takes_pictures_in_every_spelling(seer: Endpoint, spelling: int) -> None:
    name, given = seer.name, _spelled(png())[spelling]
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [given]}
    asked: dict[str, Any] = {
        "/predict": {"inputs": [given]},
        f"/v2/models/{name}/infer": {"inputs": [tensor]},
        f"/v1/models/{name}:predict": {"instances": [{"b64": given}]},
        "/invocations": {"dataframe_split": {"columns": ["image"], "data": [[given]]}},
        "/": {"inputs": given},
    }
    for path, body in asked.items():
        status, reply = ask(seer, "POST", path, body, headers={"Content-Type": "application/json"})
        assert status == 200, (path, reply)
    assert ask(seer, "POST", f"/v1/models/{name}:predict", {"inputs": {"image": [{"b64": given}]}})[0] == 200


FILES = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF", ".ppm": "PPM",
         ".pgm": "PPM"}  # fmt: skip


@pytest.mark.parametrize("ending", FILES)
def test_what_a_data_set_may_have_an_endpoint_answers(seer: Endpoint, ending: str, tmp_path: Path) -> None:
    image = Image.open(io.BytesIO(png())).convert("L" if ending == ".pgm" else "RGB")
    image.save(tmp_path / f"a{ending}", FILES[ending])
    file = (tmp_path / f"a{ending}").read_bytes()
    body = {"inputs": [base64.b64encode(file).decode()]}
    assert ask(seer, "POST", "/predict", body)[0] == 200
    assert ask(seer, "POST", "/predict", file, headers={"Content-Type": "application/octet-stream"})[0] == 200


def test_an_endpoint_knows_every_kind_of_picture_that_data_sets_have() -> None:
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in picture_formats.SUFFIXES} <= set(picture_formats.FORMATS)
