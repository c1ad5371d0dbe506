"""The headless face: `sft VERB ...` or `python -m sft_magics VERB ...`.

Progress goes to stderr, the result to stdout. With `--json` stdout carries the events as JSON lines and the returned
object as the last line. A user's mistake is two lines on stderr and exit code 2.
"""

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sft_magics.core import audience, codec, errors, signatures
from sft_magics.core.audience import Companion
from sft_magics.core.events import Event, encode
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Endpoint
from sft_magics.core.views import JobView, LossView
from sft_magics.verbs import VERBS, Verb, find

_FORK_SERVER = "SFT_FORK_SERVER"


class Terminal:
    """Shows jobs as one line that is redrawn on a terminal, and as few plain lines where there is none."""

    face = "command line"

    def __init__(self) -> None:
        self._bar: Any = None
        self._remarks: set[tuple[str, str]] = set()
        self._said = ""

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
            audience.follow(job, view, companion.lost)

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
        line = encode(event)
        sys.stdout.write(f'{{"job":{codec.dumps(job)},{line[1:]}\n')
        sys.stdout.flush()

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


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 2 for a user's mistake, 130 for an interrupt."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to stop
    try:
        with _without_fork_server():
            code = _obey(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except errors.SftError as error:
        sys.stderr.write("\n".join(error.lines) + "\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\nNext: sft runs\n")
        return 130
    except BrokenPipeError:  # whoever read us has gone (`sft runs | head -1`), and Python would complain at its exit
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


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


def _obey(words: list[str]) -> int:
    end = words.index("--") if "--" in words else len(words)
    ours, texts = words[:end], words[end:]
    as_json = "--json" in ours
    ours = [w for w in ours if w != "--json"]
    if not ours or ours[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help(ours[1:]))
        return 0
    verb = find(ours[0])
    if "-h" in ours or "--help" in ours:
        sys.stdout.write(_help([verb.name]))
        return 0
    return _run(verb, [*ours[1:], *texts], as_json)


def _run(verb: Verb, words: list[str], as_json: bool) -> int:
    options = signatures.parse(verb.signature, words)
    watcher = JsonLines() if as_json else Terminal()
    with audience.watched_by(watcher):
        try:
            result = verb(**options)
        finally:
            watcher.close()
        _print(result, as_json)
        if isinstance(result, Endpoint) and verb.name == "deploy" and not options.get("keep"):
            _stay_in_front(result, options)
    return 0


def _print(result: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(codec.dumps({"kind": type(result).__name__, **codec.plain(result)}) + "\n")
    else:
        sys.stdout.write(errors.headless(str(result)) + "\n")
    sys.stdout.flush()


def _stay_in_front(endpoint: Endpoint, options: dict[str, Any]) -> None:
    """Keep a deployed endpoint in the foreground: Ctrl-C stops it, and we end when it ends."""
    sys.stderr.write("Serving; Ctrl-C stops it (with --keep it would stay).\n")
    job = JobFolder(Path(endpoint.folder))
    try:
        while job.alive():
            time.sleep(0.3)
    except KeyboardInterrupt:
        stop: Callable[..., Any] = VERBS["stop"].function
        sys.stderr.write(f"{stop(endpoint.name, workspace=options.get('workspace'))}\n")


def _help(words: list[str]) -> str:
    if words:
        text = errors.headless(find(words[0]).signature.help())
        return text + "\n\n  --json                       events as JSON lines, the result as the last line\n"
    groups: dict[str, list[Verb]] = {}
    for verb in VERBS.values():
        groups.setdefault(verb.group, []).append(verb)
    lines = ["sft VERB ...: supervised fine-tuning and the whole life cycle of a model.", ""]
    for group, verbs in groups.items():
        lines += [group, *(f"  {v.word:<11} {v.summary}" for v in verbs), ""]
    return "\n".join([*lines, "sft VERB --help shows the options of a verb.", ""])


if __name__ == "__main__":
    sys.exit(main())
