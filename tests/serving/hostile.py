"""Inputs meant to do harm, by kind: numbers, structures, texts, tensors, pictures, headers, paths."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image, PngImagePlugin

from tests.serving.house import png

V2, CHAT, TF, ROWS = "/v2/models/demo/infer", "/v1/chat/completions", "/v1/models/demo:predict", "/invocations"
JSON, CSV = {"Content-Type": "application/json"}, {"Content-Type": "text/csv"}
FORGED = "\ud83d"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claimed(wide: int, high: int) -> bytes:
    """The head of a PNG that claims this size, and nearly nothing behind it."""
    head = struct.pack(">IIBBBBB", wide, high, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 4096)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def packed(size: int) -> bytes:
    """A real PNG of so many pixels a side in very few bytes."""
    file = io.BytesIO()
    Image.new("1", (size, size)).save(file, "PNG")
    return file.getvalue()


def text_bomb() -> bytes:
    """A PNG whose comment unpacks to 64 MB."""
    about = PngImagePlugin.PngInfo()
    about.add_itxt("comment", "a" * (64 << 20), zip=True)
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG", pnginfo=about)
    return file.getvalue()


def frames(count: int) -> bytes:
    """A GIF of this many frames that are larger than what a picture may be."""
    file = io.BytesIO()
    first = Image.new("P", (9000, 9000))
    first.save(file, "GIF", save_all=True, append_images=[first] * (count - 1))
    return file.getvalue()


def nested(depth: int) -> bytes:
    return b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]} | changes]}


def raw_tensor(size: int, tail: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(tensor(data=None, parameters={"binary_data_size": size})).encode()
    return head + tail, {"Inference-Header-Content-Length": str(len(head))}


def chat(**changes: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}]} | changes


IMAGE = {"Content-Type": "image/png"}


MANY = (16 << 20) // 3 - 20


Body = Any


Case = tuple[str, str, str, Body, dict[str, str]]  # what it is, the endpoint, the path, the body, the headers


def _numbers() -> Iterator[Case]:
    for path, body in (("/predict", '{"inputs": %s}'), (TF, '{"instances": [%s]}')):
        for value in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 4000, "9" * 5000):
            yield f"{value[:9]} {len(value)} at {path}", "demo", path, (body % value).encode(), {}
    for field in ("temperature", "top_p", "max_tokens", "seed"):
        for value in ("NaN", "1e999", "-1e999", "9" * 4000, '"1"', "[]", "true"):
            body = json.dumps(chat())[:-1] + f', "{field}": {value}}}'
            yield f"{field} {value[:9]}", "causal-lm", CHAT, body.encode(), {}
    for value in ("1e999", "-1", "9" * 4000, "1.5", "true", "[]", "null"):
        body = json.dumps(tensor(shape="?")).replace('"?"', f"[{value}]")
        yield f"shape {value[:9]}", "demo", V2, body.encode(), {}


def _structures() -> Iterator[Case]:
    for path in ("/predict", "/", ROWS, TF, V2, CHAT, "/feedback", "/admin/swap"):
        for depth in (65, 1000, 200_000):
            yield f"{depth} deep at {path}", "demo", path, nested(depth), JSON
        yield f"many lists at {path}", "demo", path, b'{"inputs": [' + b",".join([b"[]"] * MANY) + b"]}", JSON
    yield "many numbers", "demo", "/predict", b'{"inputs": [' + b"1," * (7 << 20) + b"1]}", {}
    yield "many keys", "demo", "/predict", b"{" + b",".join(b'"%07d":1' % i for i in range(1_300_000)) + b"}", {}
    yield "many quotes", "demo", "/predict", b'{"inputs": "' + b'\\"' * (7 << 20) + b'"}', {}
    yield "a text without end", "demo", "/predict", b'{"inputs": "' + b"," * (15 << 20), {}
    yield "a row of commas", "demo", ROWS, b"text\n" + b"," * (15 << 20), CSV
    yield "many rows", "demo", ROWS, b"text\n" + b"a\n" * (7 << 20), CSV
    yield "a quote without end", "demo", ROWS, b'text\n"' + b"a" * (15 << 20), CSV


def _texts() -> Iterator[Case]:
    half = b'"\\ud83d"'
    for path, body in (
        ("/predict", b'{"inputs": [%s]}'), ("/predict", b'{"inputs": ["x"], "ids": [%s]}'), ("/", b'{"inputs": %s}'),
        (TF, b'{"instances": [%s]}'), (TF, b'{"instances": [{%s: 1}]}'), (ROWS, b'{"inputs": [%s]}'),
        (ROWS, b'{"dataframe_records": [{%s: "x"}, {}]}'), (ROWS, b'{"inputs": {%s: ["x"], "b": []}}'),
        (V2, b'{"inputs": [{"name": %s}]}'), ("/feedback", b'{"labels": [{"id": "x", "label": %s}]}'),
        (V2, b'{"id": %s, "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}'),
        ("/admin/swap", b'{"version": %s, "folder": "/x"}'), ("/admin/swap", b'{"version": "v", "folder": %s}'),
        ("/admin/traffic", b'{"abort": %s}'),
    ):  # fmt: skip
        yield f"half a character in {body[:30]!r}", "demo", path, body % half, JSON
    for body in (b'{"model": %s, "messages": []}', b'{"model": "m", "messages": [{"role": "user", "content": %s}]}',
                 b'{"model": "m", "messages": [{"role": %s, "content": "x"}]}',
                 b'{"model": "m", "stop": %s, "messages": [{"role": "user", "content": "x"}]}'):  # fmt: skip
        yield f"half a character in {body[:40]!r}", "causal-lm", CHAT, body % half, JSON
    long = "i" * (1 << 20)
    yield "a gigantic id", "demo", "/predict", {"inputs": ["x"], "ids": [long]}, {}
    yield "a gigantic request id", "demo", V2, tensor() | {"id": long}, {}
    yield "a gigantic model", "causal-lm", CHAT, chat(model=long), {}
    yield "a gigantic role", "causal-lm", CHAT, chat(messages=[{"role": long, "content": "x"}]), {}
    yield "a gigantic tensor name", "demo", V2, tensor(name=long), {}
    yield "a gigantic datatype", "demo", V2, tensor(datatype=long), {}
    yield "a gigantic output", "demo", V2, tensor() | {"outputs": [{"name": long}]}, {}
    yield "a gigantic column", "demo", ROWS, {"dataframe_records": [{long: "x"}, {}]}, JSON
    yield "a gigantic stop", "causal-lm", CHAT, chat(stop=[long]), {}
    yield "a text in a wrong code", "demo", "/predict", '{"inputs": "\xe9"}'.encode("latin-1"), {}


def _tensors() -> Iterator[Case]:
    for size, tail in ((0, b""), (4, b"\xff\xff\xff\xff"), (8, b"\xff\xff\xff\x7fabcd"), (1 << 40, b"x"), (5, b""),
                       (12 << 20, bytes(12 << 20)), (3, b"\0\0\0"), (5, b"\1\0\0\0\xff")):  # fmt: skip
        body, head = raw_tensor(size, tail)
        yield f"{size} bytes that are {len(tail)}", "demo", V2, body, head
    for length in ("-1", "1e9", "0x10", " ", "9" * 100, "\xb2", "1,1"):
        yield f"a head of {length[:9]!r}", "demo", V2, tensor(), {"Inference-Header-Content-Length": length}
    types: tuple[Any, ...] = ("FP32", "INT64", "BOOL", "", None, 3, [], "bytes")
    for datatype in types:
        yield f"datatype {datatype!r}", "demo", V2, tensor(datatype=datatype), {}
    for shape in ([10**9], [2**63], [10**30, 10**30], [0], [1] * 1000, [[1]], {"0": 1}, "1", [None]):
        yield f"shape {str(shape)[:20]}", "demo", V2, tensor(shape=shape), {}
    for key in ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"):
        yield key, "demo", V2, tensor(parameters={key: "/dev/shm/x"}), {}


def _pictures() -> Iterator[Case]:
    import base64

    files = {
        "a claim of 2^31 pixels a side": claimed(2**31 - 1, 2**31 - 1),
        "a claim of 100,000 a side": claimed(10**5, 10**5),
        "10,000 a side": packed(10_000), "a comment of 64 MB": text_bomb(), "three huge frames": frames(3),
        "a thread of pixels": png(1, 60_000), "a cut file": png()[:-30],
        "a torn file": png().replace(b"IDAT", b"IDAX"), "no size": claimed(0, 0),
        "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "a PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "a PDF": b"%PDF-1.4\n", "a TIFF": b"II*\0\x08\0\0\0\0\0", "nothing": b"", "a text": b"hello",
    }  # fmt: skip
    for name, data in files.items():
        yield name, "image-classification", "/predict", data, IMAGE
        yield f"{name}, in base 64", "image-classification", "/", {"inputs": base64.b64encode(data).decode()}, {}
    seven = packed(7_000)
    rows = [{"b64": base64.b64encode(seven).decode()}] * 200
    yield "two hundred of 49 million", "image-classification", "/v1/models/m:predict", {"instances": rows}, {}
    for where in (
        "http://127.0.0.1:9/a.png",
        "file:///etc/passwd",
        "https://example.com/a.png",
        "ftp://x/a.png",
        "gopher://x",
        "//127.0.0.1/a.png",
        "data:image/png;base64,http://x/",
        "/etc/passwd",
        "\\\\host\\a.png",
    ):
        yield f"an address {where}", "image-classification", "/predict", {"inputs": [where]}, {}  # fmt: skip
        yield f"an address {where} as HF's", "image-classification", "/", {"inputs": where}, JSON
        yield f"an address {where} as TF's", "image-classification", "/v1/models/m:predict", {"instances": [where]}, {}


def _headers() -> Iterator[Case]:
    good = {"inputs": ["x"]}
    for kind in ("text/html", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "image/", "*/*",
                 "application/json, image/png", "x" * 5000, ";", "text/plain"):  # fmt: skip
        yield f"content type {kind[:30]}", "demo", "/predict", good, {"Content-Type": kind}
    yield "an image for a text", "demo", "/predict", png(), IMAGE
    yield "text for an image", "image-classification", "/predict", good, JSON
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "x", "\xff"):
        body = zlib.compress(bytes(64 << 20)) if coding == "deflate" else good
        for path in ("/predict", V2, CHAT, ROWS, TF, "/", "/feedback", "/admin/swap", "/admin/traffic"):
            yield f"coding {coding} at {path}", "demo", path, body, JSON | {"Content-Encoding": coding}
    for ms in ("0", "-1", "1e9", "NaN", "9" * 50, "\xb2", ""):
        yield f"a time of {ms[:9]!r}", "demo", "/predict", good, {"X-Timeout-Ms": ms}
    for origin in ("https://evil.example", "null", "file://", "http://127.0.0.1", "http://localhost:1"):
        yield f"origin {origin}", "demo", "/predict", good, {"Origin": origin}
    for host in ("evil.example", "127.0.0.1", "127.0.0.1:1", "[::1]:80", "x" * 9000, "127.0.0.1:80@evil.example"):
        yield f"host {host[:30]}", "demo", "/predict", good, {"Host": host}


def _paths() -> Iterator[Case]:
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/predict/..%2fadmin%2fstop", "//predict",
                 "/predict//", "/predict%00", "/PREDICT", "/predict;x=1", "/./predict", "/%70redict/",
                 "/" + "a" * 30_000, "/%ff%fe",
                 "/v2/models/..%2f..%2fetc/infer", "/v2/models//infer", "/v2/models/%00/infer",
                 "/v2/models/%ud83d/infer",
                 "/models/%0d%0aX-Evil:%201", "/v1/models/" + "b" * 9000 + ":predict", "/v1/models/a%3apredict",
                 "/\\..\\..\\windows", "/v2/models/{name}/infer", "/v2/models/demo/versions/1e0/infer",
                 "/v2/models/demo/versions/%31%20/infer"):  # fmt: skip
        yield f"path {path[:40]}", "demo", path, {"inputs": ["x"]}, {}


def corpus() -> list[Case]:
    parts: list[Callable[[], Iterator[Case]]] = [
        _numbers, _structures, _texts, _tensors, _pictures, _headers, _paths
    ]  # fmt: skip
    return [case for part in parts for case in part()]
