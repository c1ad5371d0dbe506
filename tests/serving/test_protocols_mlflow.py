"""MLflow's scoring server in its documented forms; its own client has no way to show a token."""

import base64
import http.client
from typing import Any

import pytest

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from tests.serving.house import House, ask, png, sentence, token

JSON = {"Content-Type": "application/json; charset=utf-8"}


@pytest.fixture(scope="module")
def endpoint(shared: House) -> Endpoint:
    return lifecycle.endpoint(shared.ws, "demo")


FORMS: list[dict[str, Any]] = [
    {"dataframe_split": {"columns": ["text"], "data": [["a film"], ["positive"]]}},
    {"dataframe_split": {"index": [0, 1], "columns": ["n", "text"], "data": [[1, "a film"], [2, "positive"]]}},
    {"dataframe_records": [{"text": "a film"}, {"text": "positive"}]},
    {"dataframe_records": [{"text": "a film", "n": 1}, {"n": 2, "text": "positive"}]},
    {"instances": ["a film", "positive"]},
    {"instances": [{"review": "a film"}, {"review": "positive"}]},
    {"instances": [["a film"], ["positive"]]},
    {"inputs": ["a film", "positive"]},
    {"inputs": {"text": ["a film", "positive"]}},
]


@pytest.mark.parametrize("body", FORMS, ids=[f"{i}" for i in range(len(FORMS))])
def test_every_form_of_rows_is_read(endpoint: Endpoint, body: dict[str, Any]) -> None:
    status, reply = ask(endpoint, "POST", "/invocations", body, headers=JSON)
    assert status == 200
    assert [row["label"] for row in reply["predictions"]] == ["negative", "positive"]
    assert reply["predictions"][1]["scores"] == {"negative": pytest.approx(0.2), "positive": 0.8}


def test_csv_is_read(endpoint: Endpoint) -> None:
    rows = 'n,text\r\n1,"a ""film"", and\nmore"\r\n2,positive\r\n'.encode("utf-8-sig")
    status, reply = ask(endpoint, "POST", "/invocations", rows, headers={"Content-Type": "text/csv"})
    assert status == 200
    assert [row["label"] for row in reply["predictions"]] == ["negative", "positive"]


def test_ping_health_and_version(endpoint: Endpoint) -> None:
    for path, said in (("/ping", b"\n"), ("/version", b"0.1.0"), ("/health", b'{"name":"demo","state":"ready"}')):
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token(endpoint)}"})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, said)
        connection.close()


BAD: list[tuple[Any, str, int, str]] = [
    ({}, "application/json", 400, "shall hold one of dataframe_split"),
    ({"inputs": ["x"], "instances": ["x"]}, "application/json", 400, "shall hold one of"),
    ({"inputs": []}, "application/json", 400, "holds no row"),
    ({"inputs": [3]}, "application/json", 400, "rows[0] is a number"),
    ({"inputs": {}}, "application/json", 400, 'named "text"'),
    ({"inputs": ["x"], "params": {"a": 1}}, "application/json", 400, '"params" is not known'),
    ({"dataframe_split": [["x"]]}, "application/json", 400, '"dataframe_split" shall be such as'),
    ({"dataframe_split": {"columns": ["text"], "data": [["x", "y"]]}}, "application/json", 400, "data[0]"),
    ({"dataframe_split": {"columns": ["a", "b"], "data": []}}, "application/json", 400, 'named "text"'),
    ({"dataframe_records": ["x"]}, "application/json", 400, "a list of objects"),
    ({"dataframe_records": [{"text": "x"}, {}]}, "application/json", 400, "dataframe_records[1] has no value"),
    (b"", "text/csv", 400, "holds no row"),
    (b"text\n", "text/csv", 400, "holds no row"),
    (b'text\n"x', "text/csv", 400, "not CSV"),
    (b"a,b\n1,2\n", "text/csv", 400, 'named "text"'),
    (b"a,text\n1\n", "text/csv", 400, "data[0]"),
    (b"text\n\xff\xfe\n", "text/csv", 400, "not text in UTF-8"),
    (b"{}", "text/plain", 415, "application/json or text/csv"),
    (b"{}", "", 415, "application/json or text/csv"),
]


@pytest.mark.parametrize(("body", "kind", "status", "said"), BAD, ids=[f"{i}" for i in range(len(BAD))])
def test_what_does_not_fit_is_refused_in_their_form(
    endpoint: Endpoint, body: Any, kind: str, status: int, said: str
) -> None:
    got, reply = ask(endpoint, "POST", "/invocations", body, headers={"Content-Type": kind})
    assert (got, list(reply), reply["error_code"]) == (status, ["error_code", "message"], "BAD_REQUEST")
    assert said in sentence(reply)


def test_pictures_and_texts(house: House) -> None:
    found = house.start_task("image-classification")
    body = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(png()).decode()]]}}
    status, reply = ask(found, "POST", "/invocations", body, headers=JSON)
    assert (status, reply["predictions"][0]["label"]) == (200, "negative")
    got, reply = ask(found, "POST", "/invocations", b"image\nx\n", headers={"Content-Type": "text/csv"})
    assert (got, "do not come as CSV" in sentence(reply)) == (400, True)
    found = house.start_task("causal-lm")
    chat = [{"role": "user", "content": "four five"}]
    texts = {"inputs": ["one two", chat]}
    assert ask(found, "POST", "/invocations", texts, headers=JSON) == (200, {"predictions": ["one two", "four five"]})
