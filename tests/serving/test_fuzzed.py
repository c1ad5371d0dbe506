"""Every route asked with what its own description allows, and with what it does not: no answer is a failure of the
endpoint, and each is one that the description names.
"""

import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sft_magics.core.records import Endpoint
from sft_magics.serving.client import lifecycle
from tests.serving.house import House, ask, token

pytestmark = pytest.mark.alone

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 30  # of each route in each mode
SECONDS = 10.0  # for an endpoint in each mode; what is not reached in this time is left out
LEAST = 50  # cases in each mode, and answers 200, however slow the machine
LEFT_OUT = {"/admin/stop", "/admin/swap", "/admin/traffic"}  # one ends the test, the others import torch first


def operations(endpoint: Endpoint) -> Iterator[Any]:
    schema = schemathesis.openapi.from_dict(ask(endpoint, "GET", "/openapi.json")[1])
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        if operation.path not in LEFT_OUT:
            yield operation


@pytest.mark.parametrize("task", ["text-classification", "image-classification", "causal-lm"])
def test_every_answer_is_one_that_is_described(shared: House, task: str) -> None:
    endpoint = lifecycle.endpoint(shared.ws, "demo") if task == "text-classification" else shared.start_task(task)
    asked = dict.fromkeys(GenerationMode, 0)
    statuses: dict[int, int] = {}
    end = 0.0
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token(endpoint)}"

        def enough(mode: GenerationMode) -> bool:
            answered = mode is not GenerationMode.POSITIVE or statuses.get(200, 0) > LEAST
            return time.monotonic() > end and asked[mode] > LEAST and answered

        def send(case: Any, mode: GenerationMode) -> None:
            if enough(mode):
                return
            case.headers.pop("Authorization", None)
            case.headers.pop("Host", None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                response = case.call(base_url=endpoint.url, session=session, timeout=30)
                in_time = response.status_code != 504 or "X-Timeout-Ms" not in case.headers
                case.validate_response(response, checks=CHECKS if in_time else CHECKS[1:])  # it got what it asked for
            asked[mode] += 1
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1

        for mode in GenerationMode:
            end = time.monotonic() + SECONDS
            for operation in operations(endpoint):
                if not enough(mode):
                    fuzz(operation, mode, send)
    assert min(asked.values()) > LEAST, (asked, statuses)
    assert statuses[200] > LEAST, statuses
    assert ask(endpoint, "GET", "/ready")[0] == 200
    assert "Traceback" not in shared.job(endpoint.name).log.read_text()


def fuzz(operation: Any, mode: GenerationMode, send: Any) -> None:
    try:
        strategy = operation.as_strategy(generation_mode=mode)
    except ValueError:  # nothing can be wrong with it
        return
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=quiet,
        phases=[Phase.generate],
    )  # fmt: skip
    @given(case=strategy)
    def each(case: Any) -> None:
        send(case, mode)

    each()
