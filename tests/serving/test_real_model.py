"""The real encoder behind a real endpoint: the same numbers as in process, and another version while it is asked."""

import threading
import time
from pathlib import Path

import pytest

from sft_magics.core.records import Prediction
from sft_magics.core.runtime.fetching import fetch
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from tests.serving.house import LABELS, House

TEXTS = ["a moving, funny film", "dull", "", "<b>bold</b> \N{SNOWMAN} \0", "never a boring moment " * 60]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two version folders: the encoder as it was published, with heads that begin from different seeds."""
    from sft_magics.engine import tasks

    base = {"kind": "folder", "path": str(fetch("minilm"))}
    folders = {seed: tmp_path_factory.mktemp("versions") / f"m-{seed}" for seed in (1, 2)}
    for seed, folder in folders.items():
        tasks.find("text-classification").load(base, list(LABELS), {"seed": seed}).save(folder)
    return folders


def in_process(folder: Path) -> list[list[float]]:
    from sft_magics.engine.inference.predictor import Predictor

    return Predictor(folder, threads=1).scores(TEXTS)


def test_the_endpoint_gives_the_models_own_numbers_across_a_swap(house: House, versions: dict[int, Path]) -> None:
    endpoint = house.start(folder=versions[1], threads=1, seconds=180.0)
    answers: list[tuple[str, Prediction]] = []
    go_on = threading.Event()
    go_on.set()

    def work() -> None:
        with EndpointClient(endpoint) as client:
            while go_on.is_set():
                answers.extend((client.version, row) for row in client.predict(TEXTS))

    asker = threading.Thread(target=work)
    asker.start()
    while len(answers) < 5 * len(TEXTS) and asker.is_alive():
        time.sleep(0.01)
    lifecycle.swap(house.ws, "demo", ref="m:2", version="m:2", folder=versions[2], labels=LABELS)
    with EndpointClient(endpoint) as client:
        rows = client.predict(TEXTS)
        assert client.version == "m:2"
    go_on.clear()
    asker.join()

    expected = {"m:1": in_process(versions[1]), "m:2": in_process(versions[2])}
    assert expected["m:1"] != expected["m:2"]
    assert [row.text for row in rows] == TEXTS
    assert {version for version, _ in answers} >= {"m:1"}
    # Batches of other shapes round differently in bfloat16.
    for version, row in [*answers, *(("m:2", row) for row in rows)]:
        wanted = expected[version][TEXTS.index(row.text)]
        assert list(row.scores.values()) == pytest.approx(wanted, abs=0.01)
        assert row.confidence == max(row.scores.values())
        assert row.scores[row.label] == row.confidence
    assert house.job().log.read_text() == ""
