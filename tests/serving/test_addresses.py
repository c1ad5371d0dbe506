"""Who may come in, and what: tokens, hosts, bodies. One running endpoint, left as it was found."""

import http.client
import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core.errors import DataProblem, EndpointProblem
from sft_magics.core.records import Endpoint
from sft_magics.serving.app import routes
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from sft_magics.serving.http import parsing
from sft_magics.serving.protocols.table import TABLE
from tests.serving.house import FEEDBACK, LABELS, House, ask, sentence

EVERY_ROUTE = [(sorted((r.methods or set()) - {"HEAD"})[0], r.path) for r in routes(None)]  # type: ignore[arg-type]
HTML = "<img src=x onerror=alert(1)> & \N{GRINNING FACE} \0 '\"; DROP TABLE"


def test_the_walk_covers_the_routes() -> None:
    assert {path for _, path in EVERY_ROUTE} == {
        "/predict", "/feedback", "/health", "/ready", "/stats", "/admin/swap", "/admin/traffic", "/admin/stop",
        *(path for path, _, _ in TABLE),
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path"), [*EVERY_ROUTE, ("GET", "/"), ("GET", "/nowhere"), ("PUT", "/predict")])
@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer ",
        "Bearer wrong",
        "Basic {token}",
        "Bearer x{token}",
        "Bearer {token}x",
        "{token}",
        "bearer\t{token}",
    ],
)
def test_no_route_answers_without_the_token(shared: House, method: str, path: str, authorization: str) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    token = Path(endpoint.token_file).read_text()
    headers = {"Authorization": authorization.format(token=token)} if authorization else {}
    status, reply = ask(endpoint, method, path, {"inputs": "x"}, token="", headers=headers)
    assert status == 401
    assert "token" in sentence(reply)
    assert token not in json.dumps(reply)
    assert ask(endpoint, "GET", "/ready")[0] == 200


def test_two_tokens_are_no_token(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    token = Path(endpoint.token_file).read_text()
    lines = [
        "GET /health HTTP/1.1", f"Host: 127.0.0.1:{endpoint.port}", "Authorization: Bearer wrong",
        f"Authorization: Bearer {token}", "Connection: close", "", "",
    ]  # fmt: skip
    assert raw(endpoint.port, "\r\n".join(lines).encode()).startswith(b"HTTP/1.1 401")


def raw(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        received = b""
        while block := connection.recv(65536):
            received += block
    return received


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST:{port}", 200),
        ("127.0.0.1", 421),
        ("localhost", 421),
        ("127.0.0.1:1", 421),
        ("evil.example:{port}", 421),
        ("127.0.0.1.evil.example:{port}", 421),
        ("localhost:{port}@evil.example", 421),
        ("0.0.0.0:{port}", 421),
        ("[::1]:{port}", 421),
    ],
)
def test_only_its_own_host_names_are_answered(shared: House, host: str, status: int) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    assert ask(endpoint, "GET", "/health", host=host.format(port=endpoint.port))[0] == status


def test_a_page_from_elsewhere_is_refused(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    for origin, status in [("https://evil.example", 403), ("null", 403), (endpoint.url, 200)]:
        assert ask(endpoint, "GET", "/health", headers={"Origin": origin})[0] == status


BAD_QUESTIONS: list[tuple[Any, int, str]] = [
    (b"", 400, "not JSON"),
    (b"{", 400, "not JSON"),
    (b"inputs=x", 400, "not JSON"),
    (b"\xff\xfe\xfd", 400, "not JSON"),
    (b'{"inputs": NaN}', 400, "not JSON"),
    (b"[" * 200_000, 400, "nested more than 64 deep"),
    (b'{"inputs": ' + b"9" * 10_000 + b"}", 400, "not JSON"),
    (["a"], 400, "not a JSON object"),
    ("a", 400, "not a JSON object"),
    (None, 400, "not JSON"),
    ({}, 400, '"inputs" is missing'),
    ({"input": "a"}, 400, '"inputs" is missing'),
    ({"inputs": None}, 400, '"inputs" is null'),
    ({"inputs": 3}, 400, '"inputs" is a number'),
    ({"inputs": {"text": "a"}}, 400, '"inputs" is an object'),
    ({"inputs": True}, 400, '"inputs" is true or false'),
    ({"inputs": []}, 400, '"inputs" is empty'),
    ({"inputs": ["a", 1]}, 400, "inputs[1] is a number"),
    ({"inputs": ["a", ["b"]]}, 400, "inputs[1] is a list"),
    ({"inputs": [None]}, 400, "inputs[0] is null"),
    ({"inputs": ["a"] * (parsing.MAX_INPUTS + 1)}, 413, "1,024 at most"),
    ({"inputs": "a" * (parsing.MAX_TEXT + 1)}, 400, "100,001 characters long"),
    (b'{"inputs": "\\ud83d"}', 400, "half of a surrogate pair"),
    ({"inputs": ["a", "b"], "ids": ["1"]}, 400, "1 ids for 2 inputs"),
    ({"inputs": ["a", "b"], "ids": ["1", "1"]}, 400, "the same id twice"),
    ({"inputs": ["a"], "ids": "1"}, 400, '"ids" is a text'),
    ({"inputs": ["a"], "ids": [1]}, 400, "ids[0] is a number"),
    ({"inputs": ["a"], "ids": [""]}, 400, "ids[0] is empty"),
    ({"inputs": ["a"], "ids": ["i" * 201]}, 400, "201 characters long"),
    (b'{"inputs": "' + b"a" * (17 << 20) + b'"}', 413, "larger than 16 MB"),
]


@pytest.mark.parametrize(("body", "status", "said"), BAD_QUESTIONS, ids=[f"{i}" for i in range(len(BAD_QUESTIONS))])
def test_a_bad_question_gets_one_sentence(shared: House, body: Any, status: int, said: str) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    before = ask(endpoint, "GET", "/stats")[1]["answered"]
    got, reply = ask(endpoint, "POST", "/predict", body)
    assert (got, list(reply)) == (status, ["error"])
    assert said in reply["error"]
    assert "\n" not in reply["error"]
    assert ask(endpoint, "GET", "/stats")[1]["answered"] == before


def test_a_body_without_a_length_is_bounded_too(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    token = Path(endpoint.token_file).read_text()
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    block = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    try:
        for _ in range(17 * 16):
            connection.send(block)
        connection.send(b"0\r\n\r\n")
    except OSError:
        pass  # the endpoint may close the door while we still push
    assert connection.getresponse().status == 413
    assert ask(endpoint, "GET", "/ready")[0] == 200


BAD_LABELS: list[tuple[Any, str]] = [
    ({}, '"labels" shall be a list'),
    ({"labels": []}, '"labels" shall be a list'),
    ({"labels": ["positive"]}, "labels[0] shall be an object"),
    ({"labels": [{"id": "a"}]}, "labels[0] shall be an object"),
    ({"labels": [{"id": 3, "label": "positive"}]}, "labels[0].id is a number"),
    ({"labels": [{"id": "a", "label": None}]}, "labels[0].label is null"),
    ({"labels": [{"id": "a", "label": ""}]}, "labels[0].label is empty"),
]


@pytest.mark.parametrize(("body", "said"), BAD_LABELS)
def test_bad_feedback_gets_one_sentence(shared: House, body: Any, said: str) -> None:
    status, reply = ask(lifecycle.endpoint(shared.ws, "demo"), "POST", "/feedback", body)
    assert status == 400
    assert said in reply["error"]


BAD_SWAPS: list[tuple[Any, int, str]] = [
    ({}, 400, "folder is null"),
    ({"folder": "relative", "version": "m:2"}, 400, "absolute path"),
    ({"folder": "/nul\0", "version": "m:2"}, 400, "absolute path"),
    ({"folder": "/x"}, 400, "version is null"),
    ({"folder": "/x", "version": "m:2", "labels": "ab"}, 400, '"labels" is a text'),
    ({"folder": "/nowhere", "version": "m:2"}, 409, "no folder /nowhere"),
]


@pytest.mark.parametrize(("body", "status", "said"), BAD_SWAPS)
def test_a_bad_swap_changes_nothing(shared: House, body: Any, status: int, said: str) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    got, reply = ask(endpoint, "POST", "/admin/swap", body)
    assert got == status
    assert said in reply["error"]
    assert ask(endpoint, "GET", "/ready")[1]["version"] == "m:1"


def test_unknown_paths_and_methods(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    assert ask(endpoint, "GET", "/../../etc/passwd")[0] == 404
    status, reply = ask(endpoint, "GET", "/predict")
    assert status == 405
    assert "POST /predict" in reply["error"]


def test_the_forms_of_a_question(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    status, reply = ask(endpoint, "POST", "/predict", {"inputs": ["positive", "a film"], "ids": ["form-1", "form-2"]})
    assert status == 200
    assert reply["version"] == "m:1"
    assert reply["predictions"] == [
        {"id": "form-1", "label": "positive", "confidence": 0.8, "scores": {"negative": 0.2, "positive": 0.8}},
        {"id": "form-2", "label": "negative", "confidence": 0.8, "scores": {"negative": 0.8, "positive": 0.2}},
    ]
    single = ask(endpoint, "POST", "/predict", {"inputs": "positive", "ids": "form-3"})[1]["predictions"]
    assert [p["id"] for p in single] == ["form-3"]
    made = ask(endpoint, "POST", "/predict", {"inputs": "positive"})[1]["predictions"]
    assert len(made[0]["id"]) == 16


def test_an_id_used_for_another_text_is_a_conflict(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    for text, status in [("a film", 200), ("a film", 200), ("another film", 409)]:
        got, reply = ask(endpoint, "POST", "/predict", {"inputs": [text], "ids": ["conflict"]})
        assert got == status
    assert "'conflict' was used before" in reply["error"]


def test_markup_passes_through_as_text(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    with EndpointClient(endpoint) as client, lifecycle.prediction_log(shared.ws, "demo") as log:
        answer = client.predict([HTML])[0]
        assert answer.text == HTML
        logged = next(r for r in log.answers() if r.id == answer.id)
    assert logged.text == HTML
    assert logged.scores == answer.scores
    assert (logged.version, logged.label, logged.confidence) == ("m:1", answer.label, answer.confidence)
    assert 0 < logged.latency_ms < 60_000


def test_feedback_through_http_and_through_the_file(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    with EndpointClient(endpoint) as client:
        first, second = client.predict(["one", "two"])
        told = client.feedback([(first.id, "positive"), ("unheard-of", "positive")])
        assert told == FEEDBACK | {"added": 1, "unknown": ["unheard-of"]}
    with lifecycle.prediction_log(shared.ws, "demo") as log:
        assert log.add_feedback([(second.id, "negative")]).added == 1
        truths = {r.id: (r.predicted, r.truth) for r in log.labeled()}
    assert truths[first.id] == ("negative", "positive")
    assert truths[second.id] == ("negative", "negative")


def test_a_long_list_comes_back_in_order(shared: House) -> None:
    texts = [LABELS[i % 3 % 2] for i in range(3000)]
    heard: list[tuple[int, int]] = []
    with EndpointClient(lifecycle.endpoint(shared.ws, "demo")) as client:
        answers = client.predict(texts, batch=1000, progress=lambda done, total: heard.append((done, total)))
        assert client.predict([]) == []
    assert [a.label for a in answers] == texts
    assert heard == [(1000, 3000), (2000, 3000), (3000, 3000)]
    assert len({a.id for a in answers}) == 3000


def test_long_texts_are_sent_in_bodies_that_fit(shared: House) -> None:
    texts = ["\N{GRINNING FACE}" * 99_999] * 100
    with EndpointClient(lifecycle.endpoint(shared.ws, "demo")) as client:
        assert len(client.predict(texts, batch=1000)) == 100


def test_a_row_that_is_not_text_is_named(shared: House) -> None:
    with (
        EndpointClient(lifecycle.endpoint(shared.ws, "demo")) as client,
        pytest.raises(DataProblem, match="Row 1 is float"),
    ):
        client.predict(["a", float("nan")])  # type: ignore[list-item]


def test_refusals_reach_the_log(shared: House) -> None:
    import time

    endpoint = lifecycle.endpoint(shared.ws, "demo")
    with lifecycle.prediction_log(shared.ws, "demo") as log:
        before = log.counts().errors.get(404, 0)
        for _ in range(3):
            ask(endpoint, "GET", "/nowhere")
        deadline = time.monotonic() + 10
        while log.counts().errors.get(404, 0) < before + 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert log.counts().errors[404] == before + 3


def test_the_wrong_token_is_a_sentence(shared: House, tmp_path: Path) -> None:
    from dataclasses import replace

    endpoint = lifecycle.endpoint(shared.ws, "demo")
    forged = tmp_path / "token"
    forged.write_text("wrong")
    with pytest.raises(EndpointProblem, match="This is not the token") as caught:
        EndpointClient(replace(endpoint, token_file=str(forged))).health()
    assert "%sft_endpoints" in caught.value.next_step
    with pytest.raises(EndpointProblem, match="cannot be read"):
        EndpointClient(replace(endpoint, token_file=str(tmp_path / "none")))


def test_the_token_is_private_and_written_nowhere_else(shared: House) -> None:
    folder = shared.job().path
    token = (folder / "token").read_text()
    assert len(token) >= 43
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        if path.name != "token":
            assert token.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "given", ["no-such-class", "1", 1, 0, 1.5, True, None, ["positive"], {"label": "positive"}, ""]
)
def test_a_label_that_is_none_is_refused_and_overwrites_nothing(shared: House, given: Any) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    key = ask(endpoint, "POST", "/predict", {"inputs": "a"})[1]["predictions"][0]["id"]
    right = {"labels": [{"id": key, "label": "positive"}]}
    assert ask(endpoint, "POST", "/feedback", right) == (200, FEEDBACK | {"added": 1})
    status, reply = ask(endpoint, "POST", "/feedback", {"labels": [{"id": key, "label": given}]})
    assert status == 400
    if isinstance(given, int | str) and given and not isinstance(given, bool):
        assert reply["error"] == f"No label was stored; 1 refused ('{given}'): the labels are negative, positive."
    with lifecycle.prediction_log(shared.ws, "demo") as log:
        assert {r.id: r.truth for r in log.labeled()}[key] == "positive"


def test_a_reply_says_what_was_mended_and_what_was_refused(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    rows = ask(endpoint, "POST", "/predict", {"inputs": ["a", "b", "c"]})[1]["predictions"]
    keys = [row["id"] for row in rows]
    pairs = zip([*keys, "nobody"], [" Positive ", "NEGATIVE", "cat", "positive"], strict=True)
    told = ask(endpoint, "POST", "/feedback", {"labels": [{"id": key, "label": label} for key, label in pairs]})
    assert told == (200, {
        "added": 2, "mended": 2, "refused": {keys[2]: "cat"}, "unknown": ["nobody"], "labels": ["negative", "positive"],
    })  # fmt: skip


def _browsed(endpoint: Endpoint, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Ask as a browser does that follows a link: without a token."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_the_link_of_an_endpoint_opens_its_description_and_nothing_else(shared: House) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo")
    place, _, key = endpoint.docs.partition("?")
    assert place == f"http://127.0.0.1:{endpoint.port}/docs"
    secret = Path(endpoint.token_file).read_text()
    assert secret not in endpoint.docs
    status, page = _browsed(endpoint, f"/docs?{key}")
    assert (status, "POST</b> <code>/predict" in page) == (200, True)
    assert _browsed(endpoint, f"/openapi.json?{key}")[0] == 200
    for path in ("/stats", "/ready", "/metrics", "/health", "/admin/stop", "/docs/", "//docs", "/predict"):
        assert _browsed(endpoint, f"{path}?{key}")[0] == 401, path
    for method in ("POST", "HEAD", "OPTIONS", "PUT"):
        assert _browsed(endpoint, f"/docs?{key}", method)[0] == 401, method
    for wrong in ("", "?key=", f"?key={secret}", f"?{key}x", f"?{key[:-1]}", f"?{key}&{key}", f"?{key.upper()}"):
        assert _browsed(endpoint, f"/docs{wrong}")[0] == 401, wrong
    assert _browsed(endpoint, f"/docs?{key}", Authorization="Bearer wrong-token-of-somebody")[0] == 401
    assert _browsed(endpoint, f"/docs?{key}", Authorization=f"Bearer {key.partition('=')[2]}")[0] == 401
    assert _browsed(endpoint, f"/docs?{key}", Origin="http://example.org")[0] == 403
    assert _browsed(endpoint, f"/docs?{key}", Host="example.org")[0] == 421
    assert ask(endpoint, "GET", "/ready", token=key.partition("=")[2])[0] == 401
