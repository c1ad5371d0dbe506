"""Inputs meant to do harm: each gets a refusal in one sentence within a second, and the endpoint stays as it was."""

import http.client
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image, PngImagePlugin

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from sft_magics.serving.http import parsing
from tests.serving.house import House, ask, png, resident, sentence, token

pytestmark = pytest.mark.alone

SECONDS = 1.0
ROUNDS = 3
GROWTH = 48 << 20  # bytes, after the first round; the largest body is 16 MB
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


V2, CHAT, TF, ROWS = "/v2/models/demo/infer", "/v1/chat/completions", "/v1/models/demo:predict", "/invocations"
JSON, CSV = {"Content-Type": "application/json"}, {"Content-Type": "text/csv"}
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


@pytest.fixture(scope="module")
def three(shared: House) -> dict[str, Endpoint]:
    found = {"demo": lifecycle.endpoint(shared.ws, "demo")}
    return found | {task: shared.start_task(task) for task in ("image-classification", "causal-lm")}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return corpus()


def send(endpoint: Endpoint, case: Case) -> tuple[int, dict[str, Any], float]:
    _, _, path, body, headers = case
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    sent = {"Host": f"127.0.0.1:{endpoint.port}", "Authorization": f"Bearer {token(endpoint)}", **headers}
    connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        connection.putheader(name, value.encode("latin-1"))
    connection.putheader("Content-Length", str(len(data)))
    began = time.perf_counter()
    try:
        connection.endheaders(data)
        response = connection.getresponse()
        status, text = response.status, response.read().decode()
    finally:
        connection.close()
    seconds = time.perf_counter() - began
    said = json.loads(text) if text.startswith("{") else {"error": f"It is no refusal: {text[:80]!r}"}
    return status, said, seconds


def test_each_is_refused_in_a_sentence_and_at_once(three: dict[str, Endpoint], cases: list[Case]) -> None:
    wrong, slow = [], []
    for case in cases:
        status, said, seconds = send(three[case[1]], case)
        if not 400 <= status < 500 or len(sentence(said)) > 400:
            wrong.append((case[0], status, str(said)[:200]))
        if seconds > SECONDS:
            slow.append((case[0], round(seconds, 2)))
    assert (len(cases) > 300, wrong, slow) == (True, [], [])


def test_memory_does_not_grow(three: dict[str, Endpoint], cases: list[Case], shared: House) -> None:
    sizes = []
    for _ in range(ROUNDS):
        for case in cases:
            send(three[case[1]], case)
        sizes.append([resident(endpoint) for endpoint in three.values()])
    growth = [last - first for first, last in zip(sizes[0], sizes[-1], strict=True)]
    assert max(growth) < GROWTH, sizes
    for endpoint in three.values():
        assert ask(endpoint, "GET", "/ready")[0] == 200
        assert ask(endpoint, "GET", "/stats")[1]["waiting"] == 0
    for name in three:
        assert "Traceback" not in shared.job(name).log.read_text()


def test_no_address_is_fetched(three: dict[str, Endpoint]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        for path, body in (("/predict", {"inputs": [where]}), ("/", {"inputs": where})):
            status, reply = ask(three["image-classification"], "POST", path, body)
            assert (status, "nothing is fetched" in sentence(reply)) == (400, True)
        part = [{"type": "image_url", "image_url": {"url": where}}]
        asked = chat(messages=[{"role": "user", "content": part}])
        assert ask(three["causal-lm"], "POST", CHAT, asked)[0] == 400
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"POST / HTTP/1.1\r\n"])
def test_a_head_without_end_is_cut(three: dict[str, Endpoint], shared: House, head: bytes) -> None:
    process = psutil.Process(shared.job("demo").pid() or 0)
    before = process.memory_info().rss
    block = b"X-A: b\r\n" * 8192 if head.endswith(b"\n") else b"a" * 65536
    with socket.create_connection(("127.0.0.1", three["demo"].port), timeout=10) as connection:
        connection.sendall(head)
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012  it is closed while we push
            for _ in range(500):
                connection.sendall(block)
    assert process.memory_info().rss - before < 16 << 20
    assert ask(three["demo"], "GET", "/ready")[0] == 200


def test_what_follows_a_body_has_an_end(three: dict[str, Endpoint]) -> None:
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{three['demo'].port}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with socket.create_connection(("127.0.0.1", three["demo"].port), timeout=10) as connection:
        connection.sendall(head.encode())
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            for _ in range(500):
                connection.sendall(b"X-A: b\r\n" * 8192)


def test_a_long_head_is_told_so(three: dict[str, Endpoint]) -> None:
    with socket.create_connection(("127.0.0.1", three["demo"].port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000)
        received = connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 431 ")
    assert "larger than 64 KB" in json.loads(received.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://evil.example HTTP/1.1", b"GET http://evil.example/health HTTP/1.1", b"CONNECT x:1 HTTP/1.1",
        b"OPTIONS * HTTP/1.1", b"GET health HTTP/1.1", b"GET /health HTTP/9.9", b"GET /health", b"\x16\x03\x01\x02\0",
        b"PRI * HTTP/2.0", b"GET /\xff HTTP/1.1", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", b"GET / HTTP/1.1\r\nContent-Length: -1",
        b"GET / HTTP/1.1\r\n folded: x", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b",
    ],
)  # fmt: skip
def test_lines_that_are_not_http_are_refused(three: dict[str, Endpoint], line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", three["demo"].port), timeout=10) as connection:
        connection.sendall(line + b"\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while block := connection.recv(65536):
            received += block
    assert received == b"" or received.startswith(b"HTTP/1.1 4"), received
    assert ask(three["demo"], "GET", "/ready")[0] == 200


def test_slow_bodies_and_half_open_connections_hold_up_nobody(three: dict[str, Endpoint]) -> None:
    endpoint = three["demo"]
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\nAuthorization: Bearer {token(endpoint)}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    held = []
    try:
        for i in range(100):
            held.append(socket.create_connection(("127.0.0.1", endpoint.port), timeout=10))
            held[-1].sendall(head.encode() if i % 2 else b"GET /")
        for _ in range(5):
            for connection in held:
                connection.sendall(b"a")
            began = time.perf_counter()
            assert ask(endpoint, "POST", "/predict", {"inputs": "x"})[0] == 200
            assert time.perf_counter() - began < SECONDS
    finally:
        for connection in held:
            connection.close()


@pytest.mark.slow
def test_what_does_not_come_is_not_waited_for(three: dict[str, Endpoint]) -> None:
    endpoint = three["demo"]
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\nAuthorization: Bearer {token(endpoint)}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    with (
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=60) as body,
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=60) as line,
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=60) as nothing,
    ):
        body.sendall(head.encode())
        line.sendall(b"GET / HT")
        assert body.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert (line.recv(1), nothing.recv(1)) == (b"", b"")


def test_a_bound_is_no_bound_for_honest_questions(three: dict[str, Endpoint]) -> None:
    table = ",".join("1" for _ in range(40_000))  # commas within a text are not values
    body = {"inputs": [table] * 20}
    assert ask(three["demo"], "POST", "/predict", body)[0] == 200
    labels = {"labels": [{"id": f"{i}", "label": "x"} for i in range(parsing.MAX_LABELS)]}
    assert ask(three["demo"], "POST", "/feedback", labels)[0] == 200
    folder = Path(three["demo"].folder)
    assert (folder / "token").read_text() not in (folder / "output.log").read_text()
