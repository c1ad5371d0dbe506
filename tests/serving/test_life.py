"""An endpoint from its start to each of its ends."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sft_magics.core import codec
from sft_magics.core.errors import EndpointProblem, Interrupted, NotFound, UsageProblem, WorkspaceProblem
from sft_magics.core.records import Endpoint
from sft_magics.core.views import JobView
from sft_magics.core.workspace import write_durably
from sft_magics.serving.client import lifecycle
from sft_magics.serving.client.client import EndpointClient
from sft_magics.serving.testing import FAILS_ON
from tests.serving.house import LABELS, Crowd, House, Reply, ask, until


def test_it_starts_answers_and_stops(house: House) -> None:
    heard: list[str] = []
    endpoint = house.start(progress=heard.append)
    assert (endpoint.state, endpoint.version, endpoint.ref, endpoint.model) == ("ready", "m:1", "m@live", "m")
    assert endpoint.url == f"http://127.0.0.1:{endpoint.port}"
    assert heard == ["loading m:1", "ready"]
    with EndpointClient(endpoint) as client:
        assert client.ready()["labels"] == list(LABELS)
        assert [p.label for p in client.predict(["a film", "positive"])] == ["negative", "positive"]
    assert lifecycle.endpoint(house.ws, "demo").requests == 2
    stopped = lifecycle.stop(house.ws, "demo")
    assert (stopped.state, stopped.why, stopped.requests) == ("stopped", "stopped when asked", 2)
    assert not house.job().alive()
    assert lifecycle.stop(house.ws, "demo") == stopped
    view = JobView("demo")
    for event in house.job().history():
        view.apply(event)
    assert (view.state, view.why) == ("done", "stopped when asked")
    assert house.job().log.read_text() == ""
    with pytest.raises(EndpointProblem, match="demo does not answer"):
        EndpointClient(endpoint).health()


def test_the_stop_route_ends_it(house: House) -> None:
    endpoint = house.start()
    with EndpointClient(endpoint) as client:
        assert client.stop()["state"] == "draining"
    until(lambda: not house.job().alive())
    assert lifecycle.endpoint(house.ws, "demo").state == "stopped"


def test_a_second_start_has_a_new_token_and_the_old_log(house: House) -> None:
    first = house.start()
    old_token = Path(first.token_file).read_text()
    with EndpointClient(first) as client:
        asked = client.predict(["a film"])[0]
    lifecycle.stop(house.ws, "demo")
    second = house.start(version="m:2", folder=house.version(2))
    assert Path(second.token_file).read_text() != old_token
    assert ask(second, "GET", "/ready", token=old_token)[0] == 401
    assert second.requests == 1
    with lifecycle.prediction_log(house.ws, "demo") as log:
        assert log.add_feedback([(asked.id, "positive")]).added == 1


def test_a_new_start_is_not_mistaken_for_the_old_one(house: House) -> None:
    house.start()
    lifecycle.stop(house.ws, "demo")
    job = house.job()
    order = job.spec() | {"launch": "another", "version": "m:9"}
    write_durably(job.path / "spec.json", codec.dumps(order).encode())
    life = job.claim()  # as the launcher has it before the new process has said a word
    assert life is not None
    starting = lifecycle.endpoint(house.ws, "demo")
    os.close(life)
    assert (starting.state, starting.version, starting.port) == ("starting", "m:9", 0)
    assert lifecycle.endpoint(house.ws, "demo").state == "lost"


def test_a_connection_that_was_closed_meanwhile_is_opened_again(house: House) -> None:
    with EndpointClient(house.start()) as client:
        client.health()
        client._connection.sock.shutdown(socket.SHUT_RDWR)
        assert client.predict(["a film"])[0].label == "negative"


def test_feedback_is_taken_while_the_endpoint_is_down(house: House) -> None:
    with EndpointClient(house.start()) as client:
        asked = client.predict(["a film"])[0]
    lifecycle.stop(house.ws, "demo")
    with lifecycle.prediction_log(house.ws, "demo") as log:
        assert log.add_feedback([(asked.id, "positive"), ("nobody", "positive")]).unknown == ("nobody",)


def test_a_running_name_is_not_started_twice(house: House) -> None:
    first = house.start()
    with pytest.raises(EndpointProblem, match="demo runs already"):
        house.start()
    assert ask(first, "GET", "/ready")[0] == 200


def test_a_taken_port_is_named_and_can_be_avoided(house: House) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EndpointProblem, match=f"port {port}: another program has it") as caught:
            house.start(port=port)
        assert "--port auto" in caught.value.next_step
    failed = lifecycle.endpoint(house.ws, "demo")
    assert failed.state == "failed"
    assert f"port {port}" in failed.why
    assert house.start(port=port).port == port


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port(house: House, port: int) -> None:
    with pytest.raises(EndpointProblem, match="is not a port"):
        house.start(port=port)


def test_names_are_checked_and_unknown_ones_are_told_apart(house: House) -> None:
    for name in ("../demo", "run-7f3a", "", "a/b", "x" * 101):
        with pytest.raises(UsageProblem, match="cannot name a"):
            house.start(name)
        with pytest.raises(UsageProblem, match="cannot name a"):
            lifecycle.endpoint(house.ws, name)
    house.start("reviews")
    with pytest.raises(NotFound, match="Did you mean 'reviews'"):
        lifecycle.stop(house.ws, "review")
    assert [e.name for e in lifecycle.endpoints(house.ws)] == ["reviews"]


def test_a_version_that_does_not_load_says_why(house: House) -> None:
    with pytest.raises(EndpointProblem, match="There is no folder"):
        house.start(folder=house.root / "nowhere")
    with pytest.raises(EndpointProblem, match="recorded with the labels positive, negative"):
        house.start(labels=LABELS[::-1])
    (house.root / "broken").mkdir()
    (house.root / "broken" / "echo.json").write_text("{")
    with pytest.raises(EndpointProblem, match="JSONDecodeError"):
        house.start(folder=house.root / "broken")
    assert not house.job().alive()
    assert lifecycle.endpoint(house.ws, "demo").state == "failed"


def test_a_damaged_log_is_named_and_not_thrown_away(house: House) -> None:
    house.start()
    lifecycle.stop(house.ws, "demo")
    log = house.job().path / "predictions.db"
    log.write_bytes(b"not a database" * 1000)
    with pytest.raises(EndpointProblem, match=r"predictions\.db is damaged"):
        house.start()
    assert log.read_bytes() == b"not a database" * 1000
    with pytest.raises(WorkspaceProblem, match="damaged"):
        lifecycle.prediction_log(house.ws, "demo")


def test_it_is_ended_when_it_takes_too_long(house: House) -> None:
    with pytest.raises(EndpointProblem, match=r"did not answer within 1 seconds and was ended"):
        house.start(folder=house.version(1, load_seconds=60), seconds=1.0)
    assert not house.job().alive()
    assert lifecycle.endpoint(house.ws, "demo").state == "failed"


def test_starting_is_visible_from_outside_and_answers_503(house: House) -> None:
    folder = house.version(1, load_seconds=3)
    starter = threading.Thread(target=lambda: house.start(folder=folder))
    starter.start()
    until(lambda: house.job().path.exists() and house.job().spec() and lifecycle.endpoint(house.ws, "demo").port)
    starting = lifecycle.endpoint(house.ws, "demo")
    assert starting.state == "starting"
    until(lambda: _listens(starting))
    status, reply = ask(starting, "POST", "/predict", {"inputs": "a film"})
    assert (status, "starting" in reply["error"]) == (503, True)
    assert ask(starting, "GET", "/ready")[0] == 503
    assert ask(starting, "GET", "/health") == (200, {"name": "demo", "state": "starting"})
    starter.join()
    assert ask(lifecycle.endpoint(house.ws, "demo"), "GET", "/ready")[0] == 200


def _listens(endpoint: Endpoint) -> bool:
    try:
        ask(endpoint, "GET", "/health")
    except OSError:
        return False
    return True


def test_stop_while_it_loads(house: House) -> None:
    errors: list[Exception] = []

    def start() -> None:
        try:
            house.start(folder=house.version(1, load_seconds=2))
        except EndpointProblem as error:
            errors.append(error)

    starter = threading.Thread(target=start)
    starter.start()
    until(lambda: house.job().path.exists() and house.job().spec() and lifecycle.endpoint(house.ws, "demo").port)
    time.sleep(0.5)
    assert lifecycle.stop(house.ws, "demo").state == "stopped"
    starter.join()
    assert "stopped when asked" in str(errors[0])


def test_questions_inside_are_answered_before_it_stops(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=2.0))
    answers: list[Reply] = []
    asker = threading.Thread(target=lambda: answers.append(ask(endpoint, "POST", "/predict", {"inputs": "a film"})))
    asker.start()
    time.sleep(0.3)
    stopper = threading.Thread(target=lambda: lifecycle.stop(house.ws, "demo"))
    stopper.start()
    until(lambda: lifecycle.endpoint(house.ws, "demo").state == "draining")
    time.sleep(0.5)  # the door stays open while someone is inside: whoever comes is told
    status, reply = ask(endpoint, "POST", "/predict", {"inputs": "too late"})
    assert (status, "draining" in reply["error"]) == (503, True)
    asker.join()
    stopper.join()
    assert [status for status, _ in answers] == [200]
    assert lifecycle.endpoint(house.ws, "demo").requests == 1


def test_a_full_queue_says_so_and_a_patient_client_gets_through(house: House) -> None:
    gate = house.root / "gate"
    endpoint = house.start(folder=house.version(1, gate=gate))
    gate.touch()  # the model is at its first batch until it goes
    thousand = {"inputs": ["a film"] * 1024}
    replies: list[Reply] = []
    askers = [
        threading.Thread(target=lambda: replies.append(ask(endpoint, "POST", "/predict", thousand))) for _ in range(5)
    ]
    for asker in askers:
        asker.start()
    until(lambda: ask(endpoint, "GET", "/stats")[1]["waiting"] == 4096)
    status, reply = ask(endpoint, "POST", "/predict", {"inputs": "one more"})
    assert status == 429
    assert "4,096 inputs wait" in reply["error"]
    threading.Timer(0.5, gate.unlink).start()
    with EndpointClient(endpoint) as client:
        assert client.predict(["patiently"])[0].label == "negative"
    for asker in askers:
        asker.join()
    assert [status for status, _ in replies] == [200] * 5


def test_one_text_that_breaks_the_model_does_not_take_its_neighbors(house: House) -> None:
    endpoint = house.start(folder=house.version(1, seconds=0.3))
    texts = ["first", *["good"] * 6, FAILS_ON]
    replies: dict[int, int] = {}

    def work(i: int) -> None:
        replies[i] = ask(endpoint, "POST", "/predict", {"inputs": texts[i]})[0]

    askers = [threading.Thread(target=work, args=(i,)) for i in range(len(texts))]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert [replies[i] for i in range(len(texts))] == [200] * 7 + [500]
    assert "asked to fail" in house.job().log.read_text()


@pytest.mark.crash
def test_killed_it_is_lost_and_every_answered_id_is_in_the_log(house: House) -> None:
    endpoint = house.start()
    crowd = Crowd(endpoint, 4)
    crowd.wait_for(300)
    os.kill(house.job().pid() or 0, signal.SIGKILL)
    crowd.go_home()
    answered = {row.id for _, row in crowd.answers}
    until(lambda: not house.job().alive())
    lost = lifecycle.endpoint(house.ws, "demo")
    assert lost.state == "lost"
    assert "gone without a word" in lost.why
    with lifecycle.prediction_log(house.ws, "demo") as log:
        logged = set(log.window()["id"])
    assert len(answered) >= 300, "so many were waited for"
    assert answered <= logged
    assert lifecycle.stop(house.ws, "demo").state == "stopped"
    assert house.start().requests == len(logged)


def test_it_stops_when_nobody_uses_it(house: House) -> None:
    endpoint = house.start(idle_stop=1.5)
    with EndpointClient(endpoint) as client:
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            client.predict(["still here"])
            time.sleep(0.1)
        used = time.monotonic()
        while house.job().alive():
            try:
                client.health()  # looking at it is not using it
            except EndpointProblem:
                break
            assert time.monotonic() - used < 10
            time.sleep(0.1)
    until(lambda: not house.job().alive())
    assert time.monotonic() - used >= 1.2
    stopped = lifecycle.endpoint(house.ws, "demo")
    assert (stopped.state, stopped.why) == ("stopped", "nobody used it for 1.5 seconds")


PARENT = """
import sys, time
from pathlib import Path
from tests.serving.house import House, until
print(House(Path(sys.argv[1])).start(keep=sys.argv[2] == "keep").port, flush=True)
time.sleep(600)
"""


def parent(house: House, keep: str) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", PARENT, str(house.root), keep], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert int(child.stdout.readline()) > 0
    return child


@pytest.mark.crash
@pytest.mark.parametrize("bury", [True, False])
def test_it_stops_when_its_notebook_is_killed(house: House, bury: bool) -> None:
    child = parent(house, "")
    child.kill()
    if bury:  # else the dead parent stays in the process table as a zombie, which is gone just as well
        child.wait()
    until(lambda: not house.job().alive())
    stopped = lifecycle.endpoint(house.ws, "demo")
    assert (stopped.state, stopped.why) == ("stopped", "stopped with the process that started it")
    child.wait()


@pytest.mark.crash
def test_kept_it_outlives_its_notebook(house: House) -> None:
    child = parent(house, "keep")
    child.kill()
    child.wait()
    time.sleep(1.0)
    kept = lifecycle.endpoint(house.ws, "demo")
    assert (kept.state, kept.keep) == ("ready", True)
    with EndpointClient(kept) as client:
        assert client.predict(["a film"])[0].label == "negative"
    assert lifecycle.stop(house.ws, "demo").state == "stopped"


def test_an_interrupted_start_leaves_no_process(house: House) -> None:
    def interrupt(what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="nothing of it runs"):
        house.start(folder=house.version(1, load_seconds=30), progress=interrupt)
    assert not house.job().alive()
    assert lifecycle.endpoint(house.ws, "demo").state == "stopped"


def test_nothing_is_left_of_a_stopped_endpoint(house: House) -> None:
    endpoint = house.start()
    process = psutil.Process(house.job().pid())
    lifecycle.stop(house.ws, "demo")
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=5)
    assert not list(house.job().path.glob("*-wal"))
    assert not list(house.job().path.glob(".*"))
