import hashlib
import json
import multiprocessing
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from sft_magics.core.errors import WorkspaceProblem
from sft_magics.serving.log import log_writer
from sft_magics.serving.log import prediction_log as logs
from sft_magics.serving.log.prediction_log import FeedbackResult, LabeledRow, LogRow, PredictionLog, hashed, is_hashed
from tests.serving.house import until

NASTY = "<script>alert('x')</script> \0 \N{SNOWMAN} ' ; DROP TABLE predictions; --"


def row(key: str, *, at: float = 1.0, version: str = "m:1", text: str = "a film", label: str = "positive") -> LogRow:
    return LogRow(key, at, version, text, label, 0.75, {"positive": 0.75, "negative": 0.25}, 2.5, truncated_tokens=3)


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    return PredictionLog(tmp_path / "predictions.db")


def test_what_goes_in_comes_out(log: PredictionLog) -> None:
    rows = [row("a", text=NASTY), row("b", at=2.0, version="m:2", label="negative")]
    assert log.append(rows) == []
    assert log.answers() == rows[::-1]
    assert log.window() == {
        "id": ["a", "b"],
        "at": [1.0, 2.0],
        "version": ["m:1", "m:2"],
        "label": ["positive", "negative"],
        "confidence": [0.75, 0.75],
        "latency_ms": [2.5, 2.5],
        "queue_ms": [0.0, 0.0],
        "preprocess_ms": [0.0, 0.0],
        "model_ms": [0.0, 0.0],
        "inputs": [1, 1],
        "truncated_tokens": [3, 3],
        "truth": [None, None],
    }
    assert log.window(1.5)["id"] == ["b"]
    assert log.window(version="m:1")["id"] == ["a"]
    assert log.window(1.5, version="m:1")["id"] == []


def test_feedback_finds_its_answer_and_names_the_ids_that_have_none(log: PredictionLog) -> None:
    log.append([row("a", text=NASTY), row("b"), row("c")])
    assert log.add_feedback([("a", "negative"), ("zz", "negative"), ("b", "positive")]) == FeedbackResult(2, ("zz",))
    assert log.labeled() == [
        LabeledRow("a", 1.0, "m:1", NASTY, "positive", "negative"),
        LabeledRow("b", 1.0, "m:1", "a film", "positive", "positive"),
    ]
    assert log.window()["truth"] == ["negative", "positive", None]


def shown(key: str, file: bytes, at: float = 1.0) -> LogRow:
    text = f"PNG of 8 x 8 pixels, sha256 {hashlib.sha256(file).hexdigest()}"
    return LogRow(key, at, "m:1", text, "positive", 0.75, {"positive": 0.75}, 2.5, file)


def test_a_picture_is_kept_once_and_found_by_what_the_log_says_of_it(tmp_path: Path) -> None:
    rows = [shown("a", b"one"), shown("b", b"two" * 9000), shown("c", b"one")]
    with PredictionLog(tmp_path / "predictions.db") as log:
        log.append(rows)
    with PredictionLog(tmp_path / "predictions.db") as again:
        again.append([shown("d", b"one")])
        assert [again.picture(r.text) for r in rows] == [b"one", b"two" * 9000, b"one"]
        assert again.picture(shown("x", b"three").text) == again.picture("a film") == b""
        assert again._read("SELECT count(*), sum(size) FROM pictures") == [(2, 3 + 27_000)]


def test_the_oldest_pictures_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_PICTURES", 1000)
    rows = [shown(f"{i}", bytes([i]) * 100, at=float(i)) for i in range(30)]
    with PredictionLog(tmp_path / "predictions.db") as log:
        for one in rows:
            log.append([one])
        log.append([shown("again", bytes([22]) * 100, at=40.0)])
        log.append([shown(f"x{i}", bytes([i]) * 100, at=float(i + 11)) for i in range(30, 33)])
        kept = [i for i, one in enumerate(rows) if log.picture(one.text)]
        assert log._read("SELECT sum(size) FROM pictures")[0][0] <= 1000
        assert log.requests() == 34
    assert 22 in kept  # it was asked once more
    assert kept[0] > 20
    assert kept[-1] == 29


def test_pictures_that_wait_to_be_written_are_bounded_and_rows_are_not_lost(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_MOST_BYTES", 100)
    writer = log_writer.LogWriter(log)
    rows = [shown("a", b"1" * 60), shown("b", b"2" * 60), row("c"), shown("d", b"4" * 40)]
    for one in rows:
        writer.add([one])
    assert not writer.full
    writer.start()
    assert writer.flush()
    until(lambda: not writer._bytes)  # it hears that they are written before it counts what waits
    writer.add([shown("e", b"5" * 60)])
    writer.end()
    assert [bool(log.picture(r.text)) for r in [*rows, shown("e", b"5" * 60)]] == [True, False, False, True, True]
    assert log.requests() == 5


def test_pictures_of_a_call_go_with_its_rows(tmp_path: Path) -> None:
    with PredictionLog(tmp_path / "predictions.db") as log:
        log._db.execute("PRAGMA max_page_count = 30")
        with pytest.raises(WorkspaceProblem, match="disk is full"):
            log.append([shown("a", b"one"), shown("b", os.urandom(300_000))])
        assert log.picture(shown("a", b"one").text) == b""
        assert log.requests() == 0


def test_a_label_is_taken_as_its_version_spells_it_or_refused(log: PredictionLog) -> None:
    keys = "abcdefgh"
    log.append([row(key) for key in keys])
    log.add_feedback([("e", "negative"), ("f", "negative")])
    given = ["negative", " Positive ", "NEGATIVE", "positive\u200b", "no-such-class", "1", "", "cat"]
    found = log.add_feedback(zip(keys, given, strict=True))
    assert (found.added, found.mended, found.unknown) == (4, 3, ())
    assert found.refused == {"e": "no-such-class", "f": "1", "g": "", "h": "cat"}
    assert found.labels == ("positive", "negative")
    assert str(found) == (
        "4 labels added, 4 refused ('', '1', 'cat', 'no-such-class'): the labels are positive, negative"
    )
    truths = {r.id: r.truth for r in log.labeled()}
    assert truths == {"a": "negative", "b": "positive", "c": "negative", "d": "positive", "e": "negative",
                      "f": "negative"}, "what is refused replaces nothing"  # fmt: skip


def test_each_answer_has_the_labels_of_its_own_version(log: PredictionLog) -> None:
    log.append([row("a"), LogRow("b", 2.0, "m:2", "a film", "cat", 0.5, {"cat": 0.5, "dog": 0.5}, 2.5)])
    log.append([LogRow("c", 3.0, "chat:1", "a question", "an answer", 0.5, {}, 2.5)])
    found = log.add_feedback([("a", "cat"), ("b", "Cat"), ("c", "whatever was right")])
    assert (found.added, found.mended, found.refused) == (2, 1, {"a": "cat"})


def test_a_later_label_replaces_an_earlier_one(log: PredictionLog) -> None:
    log.append([row("a")])
    log.add_feedback([("a", "negative")])
    log.add_feedback([("a", "positive")])
    assert [r.truth for r in log.labeled()] == ["positive"]
    assert log.counts().labeled == 1


def test_counts(log: PredictionLog) -> None:
    log.append([row("a"), row("b", at=2.0), row("c", at=3.0, version="m:2")])
    log.add_feedback([("c", "negative")])
    log.add_errors({400: 2})
    log.add_errors({400: 1, 503: 4})
    counts = log.counts()
    assert (counts.requests, counts.labeled, counts.first_at, counts.last_at) == (3, 1, 1.0, 3.0)
    assert counts.versions == {"m:1": 2, "m:2": 1}
    assert counts.errors == {400: 3, 503: 4}
    assert log.counts(2.5).versions == {"m:2": 1}
    assert log.counts(time.time() + 3600).errors == {}


def test_an_empty_log_is_empty(log: PredictionLog) -> None:
    assert log.window()["id"] == []
    assert log.labeled() == []
    assert log.counts().requests == log.requests() == 0
    assert log.counts().first_at is None


def test_an_id_means_one_text_and_version(log: PredictionLog) -> None:
    log.append([row("a")])
    assert log.append([row("a"), row("b")]) == []  # a second try of the same question
    assert log.append([row("a", text="another film"), row("b", version="m:2"), row("c")]) == [0, 1]
    assert log.window()["id"] == ["a", "b", "c"]
    assert log.window()["version"] == ["m:1"] * 3


def test_of_two_that_want_one_id_at_once_the_first_has_it(log: PredictionLog) -> None:
    heard: dict[str, object] = {}
    writer = log_writer.LogWriter(log)
    for name, rows in {"first": [row("a"), row("b")], "late": [row("c"), row("a", text="another film")]}.items():
        writer.add(rows, lambda found, name=name: heard.update({name: found}))
    writer.start()
    writer.end()
    assert heard == {"first": set(), "late": {"a"}}
    assert log.window()["id"] == ["a", "b", "c"]


def test_the_file_is_private_and_can_be_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "predictions.db"
    with PredictionLog(path) as log:
        log.append([row("a")])
        others = [p for p in tmp_path.iterdir() if stat.S_IMODE(p.stat().st_mode) & 0o077]
        assert others == []
    with PredictionLog(path) as log:
        assert log.requests() == 1


def test_a_full_disk_takes_all_rows_of_a_call_or_none(tmp_path: Path) -> None:
    with PredictionLog(tmp_path / "predictions.db") as log:
        log.append([row("kept")])
        log._db.execute("PRAGMA max_page_count = 12")  # SQLite's own limit gives the error that a full disk gives
        with pytest.raises(WorkspaceProblem, match="The disk is full"):
            log.append([row(f"r{i}", text="long " * 400) for i in range(100)])
        assert log.window()["id"] == ["kept"]
        log._db.execute("PRAGMA max_page_count = 100000")
        assert log.append([row("next")]) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.db"
    path.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(WorkspaceProblem, match=r"predictions\.db is damaged"):
        PredictionLog(path)


@pytest.mark.parametrize(("schema", "release"), [(99, "a newer release"), (3, "an older release")])
def test_a_log_of_another_release_is_refused(schema: int, release: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.db"
    with PredictionLog(path) as log:
        log._db.execute(f"PRAGMA user_version = {schema}")
    with pytest.raises(WorkspaceProblem, match=release):
        PredictionLog(path)


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceProblem, match="opening the prediction log"):
        PredictionLog(tmp_path / "nowhere" / "predictions.db")


def _append(path: Path, who: str, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait()
    with PredictionLog(path) as log:
        for i in range(200):
            log.append([row(f"{who}-{i}", at=float(i))])
            log.add_feedback([(f"{who}-{i}", "negative")])


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "predictions.db"
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    writers = [context.Process(target=_append, args=(path, f"w{n}", barrier)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [w.exitcode for w in writers] == [0] * 4
    with PredictionLog(path) as log:
        assert log.requests() == len(log.labeled()) == 800


def test_threads_share_a_log(log: PredictionLog) -> None:
    def work(who: int) -> None:
        for i in range(100):
            log.append([row(f"{who}-{i}")])
            assert log.requests() > 0

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.requests() == 400


def _append_until_killed(path: Path, said: Path) -> None:
    with PredictionLog(path) as log, said.open("a", buffering=1) as out:
        for i in range(1_000_000):
            log.append([row(f"r-{i}")])
            out.write(f"{i}\n")


@pytest.mark.crash
def test_what_was_appended_survives_kill_9(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for n in range(3):
        path, said = tmp_path / f"{n}.db", tmp_path / f"said-{n}"
        said.write_text("")
        writer = context.Process(target=_append_until_killed, args=(path, said))
        writer.start()
        while said.stat().st_size < 500 and writer.is_alive():
            time.sleep(0.005)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        acknowledged = said.read_text().count("\n")
        with PredictionLog(path) as log:
            assert log.requests() >= acknowledged > 50
            assert json.loads(json.dumps(log.window()))["id"][:acknowledged] == [f"r-{i}" for i in range(acknowledged)]


def test_importing_the_room_brings_in_no_server_and_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, sft_magics.serving, sft_magics.serving.client.lifecycle, sft_magics.serving.client.client,"
        "sft_magics.serving.log.prediction_log, sft_magics.serving.predictor, sft_magics.serving.testing;"
        "heavy = 'torch', 'transformers', 'starlette', 'uvicorn', 'httpx', 'numpy', 'pandas', 'psutil';"
        "print([name for name in heavy if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


def test_a_hash_is_told_from_a_text() -> None:
    assert is_hashed(hashed("a secret"))
    assert is_hashed(hashed("x" * 12_345))
    assert hashed("a") != hashed("b")
    assert not is_hashed("8 characters, sha256 of what?")
