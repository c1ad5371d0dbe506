"""The prediction log: every answer an endpoint gave, and the truth that came later.

One SQLite file an endpoint, in write-ahead mode: the endpoint writes while a notebook reads it or adds feedback, also
when the endpoint is down. A row is written before its answer leaves: `append` returns after SQLite handed the commit to
the operating system. With synchronous=NORMAL this survives a kill -9 of the endpoint at any moment; a power cut may
take the last answers, which is the price of not waiting for the disk in every request.
"""

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_magics.core import errors, label_names
from sft_magics.core.workspace import locked

_SCHEMA_NUMBER = 4
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS predictions(
    id TEXT PRIMARY KEY, at REAL NOT NULL, version TEXT NOT NULL, text TEXT NOT NULL, label TEXT NOT NULL,
    confidence REAL NOT NULL, scores TEXT NOT NULL, latency_ms REAL NOT NULL,
    queue_ms REAL NOT NULL, preprocess_ms REAL NOT NULL, model_ms REAL NOT NULL, inputs INTEGER NOT NULL,
    truncated_tokens INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS predictions_at ON predictions(at);
CREATE TABLE IF NOT EXISTS feedback(id TEXT PRIMARY KEY, label TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS errors(
    minute INTEGER, status INTEGER, n INTEGER NOT NULL, PRIMARY KEY (minute, status)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pictures(
    sha256 TEXT PRIMARY KEY, at REAL NOT NULL, size INTEGER NOT NULL, file BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS pictures_at ON pictures(at, size);
CREATE TABLE IF NOT EXISTS checks(id INTEGER PRIMARY KEY, at REAL NOT NULL);
PRAGMA user_version = {_SCHEMA_NUMBER};
COMMIT;
"""
_TIMES = ("queue_ms", "preprocess_ms", "model_ms")
_COLUMNS = ("id", "at", "version", "label", "confidence", "latency_ms", *_TIMES, "inputs", "truncated_tokens", "truth")
_BUSY_SECONDS = 30.0
MOST_PICTURES = 1 << 30  # bytes; of more the oldest go
_MOST_JOURNAL = 64_000_000  # bytes of it that stay on the disk after a burst
_GO = 0.1  # that share of them at once
_NAMED, _SHOWN = 5, 20  # labels in a sentence
_PICTURE = re.compile(r", sha256 ([0-9a-f]{64})$")
_HASHED = re.compile(r"[\d,]+ characters, sha256 [0-9a-f]{64}")


def log_path(endpoint_folder: Path) -> Path:
    """Return where an endpoint's prediction log lies."""
    return endpoint_folder / "predictions.db"


def hashed(text: str) -> str:
    """Return what the log has in the place of an input that it may not keep."""
    return f"{len(text):,} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def is_hashed(text: str) -> bool:
    """Say whether a logged input is such a hash."""
    return _HASHED.fullmatch(text) is not None


def picture_hash(text: str) -> str:
    """Return the SHA-256 (hex digits) of a picture's file by what the log says of it; empty where it says none."""
    named = _PICTURE.search(text)
    return named[1] if named else ""


@dataclass(frozen=True)
class LogRow:
    """One answer: `at` in seconds since the epoch, `scores` by label, `latency_ms` from the request's arrival.

    `queue_ms`, `preprocess_ms` and `model_ms` are parts of it, of the whole request, which had so many `inputs`. Of a
    picture `text` says what it is, with its hash, and `picture` is its file, which is kept once. `truncated_tokens` at
    the end of a text were not read.
    """

    id: str
    at: float
    version: str
    text: str
    label: str
    confidence: float
    scores: Mapping[str, float]
    latency_ms: float
    picture: bytes = field(default=b"", repr=False, compare=False)
    queue_ms: float = 0.0
    preprocess_ms: float = 0.0
    model_ms: float = 0.0
    inputs: int = 1
    truncated_tokens: int = 0


@dataclass(frozen=True)
class LabeledRow:
    """An answer whose truth is known."""

    id: str
    at: float
    version: str
    text: str
    predicted: str
    truth: str


@dataclass(frozen=True)
class FeedbackResult:
    """How many labels were stored, and what became of the others.

    `mended` counts those among the `added` that were spelled otherwise than the version's own labels. `unknown` are ids
    that name no logged answer. `refused` maps ids to what is no label of the version that answered, and changes
    nothing; `labels` are then those that it has.
    """

    added: int
    unknown: tuple[str, ...] = ()
    mended: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        lost = f", {len(self.unknown):,} ids are not in the log" if self.unknown else ""
        return f"{self.added:,} labels added{lost}{f', {self.refusal}' if self.refused else ''}"

    @property
    def refusal(self) -> str:
        """What was refused, and what would have been right."""
        given = sorted(set(self.refused.values()))
        named = ", ".join(f"'{name[:40]}'" for name in given[:_NAMED]) + (", ..." if len(given) > _NAMED else "")
        known = ", ".join(self.labels[:_SHOWN]) + (", ..." if len(self.labels) > _SHOWN else "")
        return f"{len(self.refused):,} refused ({named}): the labels are {known}"


@dataclass(frozen=True)
class Counts:
    """How much is in the log; `errors` counts refused requests by HTTP status."""

    requests: int = 0
    labeled: int = 0
    first_at: float | None = None
    last_at: float | None = None
    versions: dict[str, int] = field(default_factory=dict)
    errors: dict[int, int] = field(default_factory=dict)


class PredictionLog:
    """The log at `path`, made (0600) if missing; safe from several threads and processes; raises WorkspaceProblem."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pictures = MOST_PICTURES  # bytes of them, at most
        with self._told("opening the prediction log"):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._prepare()

    def _prepare(self) -> None:
        number = self._db.execute("PRAGMA user_version").fetchone()[0]
        if number not in (0, _SCHEMA_NUMBER):
            by, step = ("an older", "move it away") if number < _SCHEMA_NUMBER else ("a newer", "update sft_magics")
            raise errors.WorkspaceProblem(
                f"The prediction log {self.path} was written by {by} release (schema {number}).", f"{step}, then go on."
            )
        if not number:
            # SQLite refuses, rather than waits, when two processes switch to write-ahead mode at once.
            with locked(self.path.with_suffix(".lock")):
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.executescript(_SCHEMA)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA journal_size_limit = {_MOST_JOURNAL}")

    def append(self, rows: Sequence[LogRow]) -> list[int]:
        """Write `rows` in one transaction; they survive the process on return.

        Returns the places of rows that were refused because another text or version was logged under their id before.
        The same id with the same text and version is a client's second try and keeps the first row.
        """
        values = [
            (r.id, r.at, r.version, r.text, r.label, r.confidence, json.dumps(r.scores), r.latency_ms, r.queue_ms,
             r.preprocess_ms, r.model_ms, r.inputs, r.truncated_tokens) for r in rows
        ]  # fmt: skip
        with self._told("writing the prediction log"), self._transaction() as db:
            self._keep(db, rows)
            before = db.total_changes
            db.executemany("INSERT INTO predictions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", values)
            if db.total_changes - before == len(values):
                return []
            known = "SELECT 1 FROM predictions WHERE id = ? AND text = ? AND version = ?"
            return [i for i, r in enumerate(rows) if db.execute(known, (r.id, r.text, r.version)).fetchone() is None]

    def add_feedback(self, pairs: Iterable[tuple[str, str]]) -> FeedbackResult:
        """Store true labels of logged answers from (id, label) pairs in one transaction; the newest label counts.

        A label has to be one that the answer could have been (`core.label_names.meant`), where answers have labels.
        """
        store = (
            "INSERT INTO feedback VALUES (?, ?, ?) "
            "ON CONFLICT(id) DO UPDATE SET label = excluded.label, at = excluded.at"
        )
        now, added, mended = time.time(), 0, 0
        unknown: list[str] = []
        refused: dict[str, str] = {}
        possible: dict[str, tuple[str, ...]] = {}  # labels by version
        known: tuple[str, ...] = ()
        with self._told("writing the feedback"), self._transaction() as db:
            for key, given in pairs:
                labels = _labels(db, key, possible)
                label = given if not labels else label_names.meant(given, labels)
                if labels is None:
                    unknown.append(key)
                elif label is None:
                    refused[key], known = given, labels
                else:
                    db.execute(store, (key, label, now))
                    added, mended = added + 1, mended + (label != given)
        return FeedbackResult(added, tuple(unknown), mended, refused, known)

    def add_errors(self, by_status: Mapping[int, int]) -> None:
        """Add refused requests to the count of this minute."""
        minute = int(time.time() // 60)
        store = "INSERT INTO errors VALUES (?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
        with self._told("writing the prediction log"), self._transaction() as db:
            db.executemany(store, [(minute, status, n) for status, n in by_status.items()])

    def check_writable(self) -> None:
        """Write a moment down, to see whether anything can be; raises WorkspaceProblem."""
        with self._told("writing the prediction log"), self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO checks VALUES (1, ?)", [time.time()])

    def window(self, since: float | None = None, *, version: str | None = None) -> dict[str, list[Any]]:
        """Return the answers since `since` (seconds since the epoch), oldest first, as columns.

        The columns are id, at, version, label, confidence, latency_ms and its parts, inputs (of the request),
        truncated_tokens, and truth (None where no feedback came).
        """
        where, values = _filter(since, version)
        rows = self._read(
            f"SELECT {', '.join(f'p.{name}' for name in _COLUMNS[:-1])}, f.label "
            f"FROM predictions p LEFT JOIN feedback f ON f.id = p.id {where} ORDER BY p.at, p.rowid",
            values,
        )
        return {name: [row[i] for row in rows] for i, name in enumerate(_COLUMNS)}

    def labeled(self, since: float | None = None, *, version: str | None = None) -> list[LabeledRow]:
        """Return the answers whose truth is known, oldest first."""
        where, values = _filter(since, version)
        rows = self._read(
            "SELECT p.id, p.at, p.version, p.text, p.label, f.label "
            f"FROM predictions p JOIN feedback f ON f.id = p.id {where} ORDER BY p.at, p.rowid",
            values,
        )
        return [LabeledRow(*row) for row in rows]

    def picture(self, text: str) -> bytes:
        """Return the file of a picture by what the log says of it; empty where it is not kept, or not any more."""
        named = picture_hash(text)
        found = self._read("SELECT file FROM pictures WHERE sha256 = ?", [named]) if named else []
        return bytes(found[0][0]) if found else b""

    def answers(self, limit: int = 20) -> list[LogRow]:
        """Return the newest `limit` answers, newest first."""
        rows = self._read("SELECT * FROM predictions ORDER BY at DESC, rowid DESC LIMIT ?", [limit])
        return [
            LogRow(i, at, by, text, label, p, json.loads(scores), ms, b"", *rest)
            for i, at, by, text, label, p, scores, ms, *rest in rows
        ]

    def requests(self) -> int:
        """Return how many answers were logged."""
        return int(self._read("SELECT count(*) FROM predictions")[0][0])

    def counts(self, since: float | None = None) -> Counts:
        """Return how many answers, labels and errors there are since `since`."""
        where, values = _filter(since, None)
        total, first, last = self._read(f"SELECT count(*), min(p.at), max(p.at) FROM predictions p {where}", values)[0]
        labeled = self._read(f"SELECT count(*) FROM feedback f JOIN predictions p ON p.id = f.id {where}", values)[0][0]
        versions = self._read(f"SELECT p.version, count(*) FROM predictions p {where} GROUP BY 1 ORDER BY 1", values)
        refused = self._read(
            "SELECT status, sum(n) FROM errors WHERE minute >= ? GROUP BY 1 ORDER BY 1", [int((since or 0) // 60)]
        )
        return Counts(total, labeled, first, last, dict(versions), dict(refused))

    def close(self) -> None:
        """Close this process's handle."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> "PredictionLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, db: sqlite3.Connection, rows: Sequence[LogRow]) -> None:
        """Keep the pictures of rows, each once."""
        values = [(hashlib.sha256(r.picture).hexdigest(), r.at, len(r.picture), r.picture) for r in rows if r.picture]
        if not values:
            return
        db.executemany("INSERT INTO pictures VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET at = excluded.at", values)
        self._pictures += sum(len(r.picture) for r in rows)  # no less than there are: they are counted when it matters
        if self._pictures > MOST_PICTURES:
            self._pictures = _go(db)

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._told("reading the prediction log"), self._lock:
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._pictures = MOST_PICTURES  # what went is back
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise errors.from_os_error(error, doing) from error
        except sqlite3.Error as error:
            raise _problem(error, self.path, doing) from error


def _labels(db: sqlite3.Connection, key: str, possible: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the labels that a logged answer could have had; () where answers have none, None where there is none.

    They are those of its scores, the same for all answers of a version.
    """
    found = db.execute("SELECT version FROM predictions WHERE id = ?", [key]).fetchone()
    if found is None:
        return None
    if found[0] not in possible:
        scores = db.execute("SELECT scores FROM predictions WHERE id = ?", [key]).fetchone()[0]
        possible[found[0]] = tuple(json.loads(scores))
    return possible[found[0]]


def _go(db: sqlite3.Connection) -> int:
    """Let the oldest pictures go where all are too many; return how many bytes are left."""
    size: int = db.execute("SELECT coalesce(sum(size), 0) FROM pictures").fetchone()[0]
    if size <= MOST_PICTURES:
        return size
    going, last = 0, 0.0
    for at, one in db.execute("SELECT at, size FROM pictures ORDER BY at"):
        if size - going <= MOST_PICTURES * (1 - _GO):
            break
        going, last = going + one, at
    db.execute("DELETE FROM pictures WHERE at <= ?", [last])
    return size - going


def _filter(since: float | None, version: str | None) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if since is not None:
        conditions.append("p.at >= ?")
        values.append(since)
    if version is not None:
        conditions.append("p.version = ?")
        values.append(version)
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), values


def _problem(error: sqlite3.Error, path: Path, doing: str) -> errors.WorkspaceProblem:
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith("SQLITE_FULL"):
        return errors.WorkspaceProblem(
            f"The disk is full ({path}): nothing was changed while {doing}.",
            "free some space (%sft shows what the workspace uses), then type the same line again.",
        )
    if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return errors.WorkspaceProblem(
            f"The prediction log {path} is damaged: SQLite says '{error}'.",
            "move that file away; the endpoint starts a new log, and what can be read of the old one stays in it.",
        )
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return errors.WorkspaceProblem(
            f"Another process held the prediction log {path} for {_BUSY_SECONDS:.0f} seconds while {doing}.",
            "type the same line again.",
        )
    return errors.WorkspaceProblem(
        f"The prediction log {path} cannot be used while {doing}: SQLite says '{error}'.",
        "see that its folder may be read and written: %sft_doctor",
    )
