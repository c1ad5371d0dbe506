"""Tab completion of magic lines: verbs' options, choices, and the names of things in this workspace."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from sft_magics.core import workspace as places
from sft_magics.core.errors import SftError
from sft_magics.core.signatures import Option, Signature, magic_name
from sft_magics.core.workspace import Workspace
from sft_magics.verbs import VERBS

if TYPE_CHECKING:
    from sft_magics.registry import Registry

_MAGICS = {magic_name(name): verb for name, verb in VERBS.items()}
_DATA_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")


@context_matcher()  # type: ignore[untyped-decorator]  # IPython leaves it without types
def complete(context: CompletionContext) -> SimpleMatcherResult:
    """Complete the word under the cursor of a line that begins with one of our magics."""
    line = context.line_with_cursor.lstrip()
    magic, _, _ = line.partition(" ")
    verb = _MAGICS.get("%" + magic.lstrip("%"))
    if verb is None or " " not in line or not magic.startswith("%"):
        return {"completions": []}
    word = "" if line[-1].isspace() else line.split()[-1]
    before = line.split()[1:] if not word else line.split()[1:-1]
    words = [w for w in suggest(verb.signature, before, word) if w.startswith(word)]
    # IPython replaces context.token, which begins after the last delimiter in the word.
    cut = len(word) - len(context.token)
    option = option_at(verb.signature, before, word)
    found = [SimpleCompletion(w[cut:], type=kind_of(option, w)) for w in words if len(w) > cut]
    return {"completions": found, "suppress": bool(words)}


def suggest(signature: Signature, before: list[str], word: str) -> list[str]:
    """Return what could stand at the place of `word` after the words `before`."""
    flags = signature.flags
    if before and before[-1] in ("-o", "--output"):
        return []
    option = option_at(signature, before, word)
    if option is not None:
        return values(option)
    return [*(f for f in flags if f not in before), *["-o"] * word.startswith("-")]


def kind_of(option: Option | None, word: str) -> str:
    """Return what a suggestion is, for the list that the front end shows: param, path, keyword, dataset, version ..."""
    if option is None:
        return "param"
    if word in option.choices:
        return "keyword"
    if option.names == "file" or (option.names == "source" and ":" not in word):
        return "path"
    return option.names or "value"


def option_at(signature: Signature, before: list[str], word: str) -> Option | None:
    """Return the option whose value stands at the place of `word`; None where a flag does."""
    flags = signature.flags
    if before and before[-1] in flags and not flags[before[-1]].boolean:
        return flags[before[-1]]
    if word.startswith("-"):
        return None
    valued = {"-o", "--output", *(f for f, o in flags.items() if not o.boolean)}
    place = 0
    skip = False
    for earlier in before:
        if skip or earlier.startswith("-"):
            skip = not skip and earlier in valued
        else:
            place += 1
    positional = signature.positional
    return positional[place] if place < len(positional) else None


def values(option: Option) -> list[str]:
    """Return the values an option can take: its choices, and the things of its kind that there are."""
    found = list(option.choices)
    find = _NAMES.get(option.names)
    if find is not None:
        with contextlib.suppress(SftError, OSError):
            found += find(places.locate())  # not places.find: the Tab key makes no folders
    return found


def _registry(ws: Workspace) -> "Registry":
    from sft_magics.registry import Registry

    return Registry(ws)


def _datasets(ws: Workspace) -> list[str]:
    found = _registry(ws).datasets()
    return [*sorted({d.name for d in found}), *(d.ref for d in found)]


def _models(ws: Workspace) -> list[str]:
    return [m.name for m in _registry(ws).models()]


def _versions(ws: Workspace) -> list[str]:
    found = _registry(ws).versions()
    aliased = [f"{v.model}@{a}" for v in found for a in v.aliases]
    return [*sorted({v.model for v in found}), *aliased, *(v.ref for v in found)]


def _aliases(ws: Workspace) -> list[str]:
    return sorted({"live", "candidate", *(a for v in _registry(ws).versions() for a in v.aliases)})


def _runs(ws: Workspace) -> list[str]:
    from sft_magics.lifecycle.jobs.run_folders import all_jobs

    return [job.id for job in all_jobs(ws)]


def _endpoints(ws: Workspace) -> list[str]:
    return sorted(p.parent.name for p in ws.endpoints.glob("*/spec.json"))


def _sources(ws: Workspace) -> list[str]:
    return [f"sample:{name}" for name in ("reviews", "amazon", "tweets", "nyt")] + _files(ws)


def _files(_: Workspace) -> list[str]:
    return sorted(p.name for p in Path.cwd().iterdir() if p.suffix in _DATA_SUFFIXES)


def _packages(_: Workspace) -> list[str]:
    from sft_magics.core.runtime.fetching import CATALOG

    return ["all", *CATALOG]


def _bases(_: Workspace) -> list[str]:
    from sft_magics.core.runtime.fetching import CATALOG

    return [key for key, package in CATALOG.items() if package.kind == "model"]


_NAMES: dict[str, Callable[[Workspace], Iterable[str]]] = {
    "dataset": _datasets,
    "model": _models,
    "version": _versions,
    "alias": _aliases,
    "run": _runs,
    "endpoint": _endpoints,
    "origin": lambda ws: [*_versions(ws), *_runs(ws)],
    "stoppable": lambda ws: [*_runs(ws), *_endpoints(ws)],
    "droppable": lambda ws: [*_runs(ws), *(d.ref for d in _registry(ws).datasets())],
    "source": _sources,
    "file": _files,
    "package": _packages,
    "base": _bases,
}
