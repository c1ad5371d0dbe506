"""An endpoint: state, version, address, and lines to paste that ask it. The token stays in its file."""

import json
import shlex
from collections.abc import Sequence

from sft_magics.core.records import Endpoint
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count, duration, when
from sft_magics.notebook.panels.markup import Child, code, el, facts, head, join, muted, section, shorten
from sft_magics.notebook.panels.tables import stamp

HEADS = ("endpoint", "state", "version", "by", "deployed as", "url", "requests#", "started")
_ASKED = "a text to try"  # where none of the model's own is known
_QUESTION = "Why is the sky blue?"
_UP = ("ready", "starting")


def rows(endpoints: Sequence[Endpoint]) -> list[list[Child]]:
    """Return the rows of the table of endpoints."""
    return [
        [
            join(el("strong", e.name), muted(" public") if e.public else None),
            el("span", badges.badge(e.state), title=e.why or None), e.version, e.engine, e.ref,
            code(e.url), count(e.requests), stamp(e.created_at),
        ]
        for e in endpoints
    ]  # fmt: skip


def card(found: Endpoint) -> list[Child]:
    """Return the parts of an endpoint's card."""
    if found.keep:
        stops = "when asked"
    else:
        stops = "with this kernel" + (f", or {duration(found.idle_stop)} idle" if found.idle_stop else "")
    return [
        head(found.name, before=badges.badge(found.state), detail=code(found.url), right=muted(when(found.created_at))),
        facts(
            ("answers", el("strong", found.version)),
            ("deployed as", found.ref),
            ("computes with", found.engine),
            ("requests", count(found.requests)),
            ("stops", stops),
            ("its process was replaced", _times(found.restarts)),
        ),
        el("p", muted("token file "), code(found.token_file)),
        el("p", muted(shorten(found.engine_why, 400)), class_="sft-u") if found.engine_why else None,
        el("p", shorten(found.why, 2000), class_="sft-u") if found.why else None,
        badges.notes(badges.note("warning", found.exposed)) if found.exposed and found.state in _UP else None,
        _usage(found) if found.state in _UP else None,
    ]


def _times(number: int) -> str | None:
    if not number:
        return None
    return "once" if number == 1 else f"{count(number)} times"


def curl(found: Endpoint) -> str:
    """Return the shell command that asks the endpoint."""
    lines = [
        f"curl -s {_address(found)}",
        f'-H "Authorization: Bearer $(cat {shlex.quote(found.token_file)})"',
    ]
    if found.task in IMAGE_TASKS:
        lines += ["-H 'Content-Type: application/octet-stream'", "--data-binary @picture.png"]
    else:
        body = shlex.quote(json.dumps({"inputs": [_asked(found)]}))
        lines += ["-H 'Content-Type: application/json'", f"-d {body}"]
    return " \\\n  ".join(lines)


def _address(found: Endpoint) -> str:
    if found.socket:
        return f"--unix-socket {shlex.quote(found.socket)} http://localhost/predict"
    return shlex.quote(found.url + "/predict")


def python(found: Endpoint) -> str:
    """Return the Python lines that ask the endpoint: with the standard library only, but for a Unix socket."""
    pictured = found.task in IMAGE_TASKS
    kind = "application/octet-stream" if pictured else "application/json"
    question = (
        'pathlib.Path("picture.png").read_bytes()'
        if pictured
        else f'json.dumps({{"inputs": [{_asked(found)!r}]}}).encode()'
    )
    if found.socket:
        return "\n".join(
            [
                "import json, pathlib, httpx",
                "",
                f"token = pathlib.Path({found.token_file!r}).read_text().strip()",
                f'headers = {{"Authorization": f"Bearer {{token}}", "Content-Type": "{kind}"}}',
                f"question = {question}",
                f"with httpx.Client(transport=httpx.HTTPTransport(uds={found.socket!r})) as client:",
                '    answer = client.post("http://localhost/predict", content=question, headers=headers)',
                'print(answer.json()["predictions"])',
            ]
        )
    return "\n".join(
        [
            "import json, pathlib, urllib.request",
            "",
            f"token = pathlib.Path({found.token_file!r}).read_text().strip()",
            f'headers = {{"Authorization": f"Bearer {{token}}", "Content-Type": "{kind}"}}',
            f"question = {question}",
            f"request = urllib.request.Request({found.url + '/predict'!r}, question, headers)",
            'print(json.load(urllib.request.urlopen(request))["predictions"])',
        ]
    )


def _asked(found: Endpoint) -> str:
    return found.example or (_QUESTION if found.task == CAUSAL_LM else _ASKED)


def _usage(found: Endpoint) -> Child:
    shell, script = el("pre", curl(found)), el("pre", python(found))
    link = el("a", "/docs", href=found.docs, target="_blank", rel="noreferrer")
    about = el("p", muted("every route, for a browser: "), link) if found.docs else None
    return join(section("Ask it from a shell", shell), section("or from Python", script), about)
