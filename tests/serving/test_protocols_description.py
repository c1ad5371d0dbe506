"""What an endpoint says of itself: every route described, a page that needs nothing else, metrics that add up."""

import http.client
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from sft_magics.core.records import Endpoint
from sft_magics.serving.app import routes
from sft_magics.serving.client import lifecycle
from sft_magics.serving.protocols.openapi import DESCRIBED
from tests.serving.house import House, ask, token

_SAMPLE = re.compile(r'^sft_[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\.)*"(,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? [-+0-9.e]+(Inf)?$')


@pytest.fixture(scope="module")
def endpoint(shared: House) -> Endpoint:
    return lifecycle.endpoint(shared.ws, "demo")


def fetch(endpoint: Endpoint, path: str) -> tuple[str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token(endpoint)}"})
    response = connection.getresponse()
    assert response.status == 200
    text = response.read().decode()
    connection.close()
    return text, {name.lower(): value for name, value in response.getheaders()}


def test_every_route_is_described_and_no_other() -> None:
    table = {
        f"{method} {route.path}"
        for route in routes(None)  # type: ignore[arg-type]
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert table == set(DESCRIBED)


def test_the_description_refers_to_what_it_holds(endpoint: Endpoint) -> None:
    found = json.loads(fetch(endpoint, "/openapi.json")[0])
    assert found["openapi"] == "3.1.0"
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)))
    assert used == set(found["components"]["schemas"])
    ids = [operation["operationId"] for methods in found["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids)) == len(DESCRIBED)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]


def test_the_page_needs_nothing_from_elsewhere(endpoint: Endpoint) -> None:
    text, headers = fetch(endpoint, "/docs")
    assert headers["content-type"].startswith("text/html")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    page = _Page()
    page.feed(text)
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)
    assert all(f"<code>{key.split(' ')[1]}</code>" in text for key in DESCRIBED)


def samples(endpoint: Endpoint) -> dict[str, float]:
    text, headers = fetch(endpoint, "/metrics")
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = text.splitlines()
    assert text.endswith("\n")
    found: dict[str, float] = {}
    for line in lines:
        if not line.startswith("# "):
            assert _SAMPLE.match(line), line
            name, _, value = line.rpartition(" ")
            assert name not in found
            found[name] = float(value)
    kinds: dict[str, Any] = dict(line.split(" ")[2:4] for line in lines if line.startswith("# TYPE"))
    assert {re.sub(r"_(bucket|sum|count)$", "", name.partition("{")[0]) for name in found} == set(kinds)
    return found


def test_metrics_add_up(endpoint: Endpoint) -> None:
    before = samples(endpoint)
    for text in ("a film", "b"):
        assert ask(endpoint, "POST", "/predict", {"inputs": [text] * 3})[0] == 200
    for _ in range(2):
        assert ask(endpoint, "POST", "/predict", {})[0] == 400
    assert ask(endpoint, "POST", "/v1/models/m:predict", {"instances": ["x"]})[0] == 200
    assert ask(endpoint, "GET", "/nowhere", token="")[0] == 401
    after = samples(endpoint)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more("sft_predictions_total") == 7
    assert more('sft_requests_total{status="400"}') == 2
    assert more('sft_requests_total{status="401"}') == 1
    assert more('sft_requests_total{status="200"}') == 4  # three, and the metrics themselves
    assert more('sft_request_seconds_count{route="/predict"}') == 2
    assert more('sft_request_seconds_count{route="/v1/models/{name}:predict"}') == 1
    assert 0 < more('sft_request_seconds_sum{route="/predict"}') < 5
    buckets = [v for k, v in after.items() if k.startswith('sft_request_seconds_bucket{route="/predict"')]
    assert buckets == sorted(buckets)
    assert buckets[-1] == after['sft_request_seconds_count{route="/predict"}']
    assert after['sft_info{endpoint="demo",version="m:1",ref="m@live",task="text-classification"}'] == 1
    assert after["sft_ready"] == 1
    assert after["sft_waiting_inputs"] == 0
