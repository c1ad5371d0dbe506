"""The headless face: `sft VERB ...` or `python -m sft_magics VERB ...`.

Progress goes to stderr, the result to stdout. With `--json` stdout carries the events as JSON lines, and its last line
is always one object: what the verb returned, or {"kind": "Error", "what": ..., "next": ..., "code": ...}.

Exit codes: 0 done, 1 a failure, 2 a mistake in the line or in what it names, 3 a gate or check that does not hold,
130 interrupted, 141 the reader of the output has gone.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sft_magics import __version__
from sft_magics.core import arguments, codec, errors, lines, observer
from sft_magics.core.events import Event, encode
from sft_magics.core.jobs import JobFolder
from sft_magics.core.observer import Companion
from sft_magics.core.records import Endpoint
from sft_magics.core.records.documents import document, failure
from sft_magics.core.runtime import streams
from sft_magics.core.views import JobView, LossView
from sft_magics.verbs import VERBS, Verb, defect, find

_FORK_SERVER = "SFT_FORK_SERVER"
_SENTENCES = ("next_step", "why", "text")  # of events, which may name a verb


class Terminal:
    """Shows jobs as one line that is redrawn on a terminal, and as few plain lines where there is none."""

    face = "command line"

    def __init__(self) -> None:
        self._bar: Any = None
        self._remarks: set[tuple[str, str]] = set()
        self._said = ""
        self.unread: BrokenPipeError | None = None

    def hear(self, job: str, event: Event) -> None:
        """Do nothing: the view tells it all."""

    def show(self, view: JobView) -> None:
        """Draw the newest state."""
        for level, text in view.remarks:
            if (level, text) not in self._remarks:  # one that no longer holds is gone from the view
                self._remarks.add((level, text))
                self._print(f"{level}: {errors.headless(text)}")
        if sys.stderr.isatty():
            self._draw(view)
        else:
            self._tell(view)
        if not view.active:
            self._remarks.clear()

    def stay(self, job: JobFolder, view: JobView, companion: Companion, wait: bool) -> None:
        """Follow to the end if asked to wait."""
        if wait:
            observer.follow(job, view, companion.lost)

    def _draw(self, view: JobView) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        if self._bar is None:
            from rich.console import Console

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[tail]}"),
                console=Console(stderr=True),
            )  # fmt: skip
            self._bar.start()
            self._bar.add_task("", total=None, tail="")
        done, total = _amount(view)
        task = self._bar.task_ids[0]
        self._bar.update(task, description=_head(view), completed=done, total=total or None, tail=_tail(view))
        if not view.active:
            self.close()

    def close(self) -> None:
        """Give the terminal back, with its cursor; harmless where nothing is drawn."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _tell(self, view: JobView) -> None:
        line = f"{_head(view)} {_tail(view)}".rstrip()
        mark = f"{view.job}{view.state}{view.what}{int(getattr(view, 'epoch', 0.0) * 4)}"
        if mark != self._said:
            self._said = mark
            self._print(line)

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False)
        else:
            sys.stderr.write(text + "\n")


class JsonLines(Terminal):
    """Writes every event to stdout as one JSON line."""

    face = "command line, JSON"

    def hear(self, job: str, event: Event) -> None:
        """Write the event with the job it belongs to."""
        ours: dict[str, Any] = {
            name: errors.headless(text) for name in _SENTENCES if isinstance(text := getattr(event, name, None), str)
        }
        line = encode(dataclasses.replace(event, **ours))
        if self.unread is None:
            try:
                _write_line(f'{{"job":{codec.dumps(job)},{line[1:]}')
            except BrokenPipeError as error:  # the job goes on; the verb's end says that nobody reads
                self.unread = error

    def show(self, view: JobView) -> None:
        """Do nothing: the events tell it all."""


def _amount(view: JobView) -> tuple[int, int]:
    return (view.step, view.steps) if isinstance(view, LossView) and view.steps else (view.done, view.total)


def _head(view: JobView) -> str:
    return f"{view.job if view.job.startswith('run-') else ''} {view.title} {view.state}".strip()


def _tail(view: JobView) -> str:
    if view.state == "queued":
        return f"behind {view.behind}"
    if not isinstance(view, LossView):
        return f"{view.what} {view.done}/{view.total}" if view.total else view.what
    parts = [view.what] if not view.steps else [f"step {view.step}/{view.steps}"]
    if view.train:
        parts.append(f"loss {view.train[-1][1]:.3f}")
    if (accuracy := view.latest("accuracy")) is not None:
        parts.append(f"accuracy {accuracy:.3f}")
    if view.active and view.seconds_left:
        parts.append(f"{view.seconds_left:.0f} s left")
    return "  ".join(parts)


def main(words: list[str] | None = None) -> int:
    """Run one verb; returns the exit code (see above)."""
    streams.hold()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to stop
    try:
        return _guarded(list(sys.argv[1:] if words is None else words))
    except BrokenPipeError:  # whoever read us has gone (`sft runs | head -1`), and Python would complain at its exit
        _close_outputs()
        return 141


def _close_outputs() -> None:
    """Lead stdout to the null device, so that Python's own flush at the exit has nothing to complain about."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _guarded(words: list[str]) -> int:
    """Obey, and turn whatever goes wrong into two lines on stderr, an object under `--json`, and an exit code."""
    end = words.index("--") if "--" in words else len(words)
    as_json = "--json" in words[:end]
    words = [w for w in words[:end] if w != "--json"] + words[end:]
    try:
        with _without_fork_server():
            code = _obey(words, as_json)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except errors.TwoLines as error:
        return _fail(error, as_json)
    except KeyboardInterrupt:
        return _fail(errors.Interrupted("Stopped.", "%sft_runs"), as_json)
    except OSError as error:
        _close_outputs()
        return _fail(errors.from_os_error(error, "writing the output"), as_json)
    except Exception as error:  # noqa: BLE001 - whatever it is, a script reads two lines and an object
        return _fail(defect("board", error), as_json)


def _fail(error: errors.TwoLines, as_json: bool) -> int:
    if isinstance(error, errors.CheckFailed) and error.result is not None and not as_json:
        _print(error.result, as_json)
    if as_json:
        _write_line(codec.dumps(failure(error)))
    sys.stderr.write("\n".join(error.lines) + "\n")
    return error.code


@contextlib.contextmanager
def _without_fork_server() -> Iterator[None]:
    """Start none meanwhile, unless the user asked: one line is over before it would be of use.

    The variable is gone after it: whoever calls `main` from a notebook or a test goes on and has use for one.
    """
    unsaid = _FORK_SERVER not in os.environ
    os.environ.setdefault(_FORK_SERVER, "0")
    try:
        yield
    finally:
        if unsaid:
            os.environ.pop(_FORK_SERVER, None)


def _obey(words: list[str], as_json: bool) -> int:
    ours = words[: words.index("--")] if "--" in words else words
    if ours[:1] in (["--version"], ["-V"]):
        _show({"kind": "Program", "name": "sft_magics", "version": __version__}, f"sft_magics {__version__}", as_json)
    elif not ours or ours[0] in ("-h", "--help", "help"):
        _show(*_help(ours[1:2]), as_json)
    else:
        verb = find(ours[0])
        if "-h" in ours or "--help" in ours:
            _show(*_help([verb.name]), as_json)
        else:
            _run(verb, words[1:], as_json)
    return 0


def _show(found: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        _write_line(codec.dumps(found))
    else:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()


def _run(verb: Verb, words: list[str], as_json: bool) -> None:
    options = arguments.parse(verb.signature, lines.from_shell(words), say=_note)
    watcher = JsonLines() if as_json else Terminal()
    with observer.watched_by(watcher):
        try:
            result = verb(**options)
        finally:
            watcher.close()
        if watcher.unread is not None:
            raise watcher.unread
        _print(result, as_json)
        if isinstance(result, Endpoint) and verb.name == "deploy" and not options.get("keep"):
            _stay_in_front(result, options, as_json)


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


def _print(result: Any, as_json: bool) -> None:
    _show(document(result) if as_json else {}, errors.headless(str(result)), as_json)


def _write_line(line: str) -> None:
    """Write a line of JSON; where stdout is not UTF-8, letters are escaped as JSON does, so that it stays legal."""
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        line = re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], line)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _stay_in_front(endpoint: Endpoint, options: dict[str, Any], as_json: bool) -> None:
    """Keep a deployed endpoint in the foreground: Ctrl-C stops it, and we end when it ends."""
    sys.stderr.write("Serving; Ctrl-C stops it (with --keep it would stay).\n")
    job = JobFolder(Path(endpoint.folder))
    try:
        while job.alive():
            time.sleep(0.3)
    except KeyboardInterrupt:
        stop: Callable[..., Any] = VERBS["stop"].function
        stopped = stop(endpoint.name, workspace=options.get("workspace"))
        if as_json:
            _print(stopped, as_json)
        else:
            sys.stderr.write(f"{errors.headless(str(stopped))}\n")


def _help(words: list[str]) -> tuple[dict[str, Any], str]:
    """Return the help of a verb, or of all, as an object and as text."""
    if words:
        verb = find(words[0])
        text = errors.headless(verb.signature.help())
        text += "\n\n  --json                       events as JSON lines, the result as the last line\n"
        options = [
            {"name": o.parameter if o.positional else o.flag, "help": o.help, "required": o.required}
            for o in verb.signature.options
        ]
        return {"kind": "Help", "verb": verb.word, "summary": verb.signature.summary, "options": options}, text
    groups: dict[str, list[Verb]] = {}
    for verb in VERBS.values():
        groups.setdefault(verb.group, []).append(verb)
    rows = ["sft VERB ...: supervised fine-tuning and the whole life cycle of a model.", ""]
    for group, verbs in groups.items():
        rows += [group, *(f"  {v.word:<11} {v.summary}" for v in verbs), ""]
    rows += ["sft VERB --help shows the options of a verb, sft --version the version of this program.", ""]
    known = [{"verb": v.word, "group": v.group, "summary": v.summary} for v in VERBS.values()]
    return {"kind": "Help", "verbs": known}, "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
