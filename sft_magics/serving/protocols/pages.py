"""The description of an endpoint as one page that needs nothing else: no script, no address but its own."""

import html
import json
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h2{margin-top:2rem;font-size:1.1rem}
details{border:1px solid #d0d7de;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}
summary{cursor:pointer}code,pre{font:13px ui-monospace,monospace}pre{background:#f6f8fa;padding:.6rem;overflow:auto}
a,b{color:#0550ae}b{display:inline-block;min-width:3rem}td{padding:.1rem 1rem .1rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}pre{background:#161b22}a,b{color:#79c0ff}
details{border-color:#30363d}}
"""


def page(document: dict[str, Any]) -> str:
    """Return an OpenAPI document as HTML."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    routes = "".join(f"<h2>{html.escape(tag)}</h2>{''.join(found)}" for tag, found in by_tag.items())
    shapes = "".join(_shape(name, schema) for name, schema in document["components"]["schemas"].items())
    title = html.escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>Every request shows the token: <code>Authorization: Bearer TOKEN</code>. "
        f"The same for programs: <code>/openapi.json</code>.</p>{routes}<h2>Bodies</h2>{shapes}</html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    statuses = "".join(
        f"<tr><td>{status}<td>{html.escape(said['description'])}<td>{_kinds(said['content'])}"
        for status, said in operation["responses"].items()
    )
    headers = [p["name"] for p in operation["parameters"] if p["in"] == "header"]
    takes = f"<p>Takes {_kinds(operation['requestBody']['content'])}</p>" if "requestBody" in operation else ""
    more = f"<p>May come with {html.escape(', '.join(headers))}</p>" if headers else ""
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{html.escape(path)}</code> "
        f"{html.escape(operation['summary'])}</summary>{takes}{more}<table>{statuses}</table></details>"
    )


def _kinds(content: dict[str, Any]) -> str:
    found = []
    for kind, inner in content.items():
        name = inner["schema"].get("$ref", "").rpartition("/")[2]
        found.append(f'<a href="#{name}">{name}</a> as {html.escape(kind)}' if name else html.escape(kind))
    return ", ".join(found)


def _shape(name: str, schema: dict[str, Any]) -> str:
    shown = html.escape(json.dumps(schema, indent=1))
    return f'<details id="{name}"><summary><code>{name}</code></summary><pre>{shown}</pre></details>'
