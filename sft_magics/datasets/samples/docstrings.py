"""A sample to learn the form of an answer from: what a function of Python's own library does, in its first sentence.

It is read from the source files of the Python that runs, so its rows differ a little between versions. It teaches the
form, not the facts: no model learns a library by it.
"""

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

LICENSE = "PSF-2.0"
ROWS = 3_200  # about
_SHORTEST, _LONGEST = 20, 200
_LEFT_OUT = {"test", "idlelib", "lib2to3", "turtledemo", "ensurepip", "site-packages", "__pycache__", "pydoc_data"}


def read() -> tuple[list[str], list[str]]:
    """Return prompts and answers, each prompt once, in the order of the modules' names."""
    found: dict[str, str] = {}
    root = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        for module, file in _files(root, name):
            for path, sentence in _documented(file):
                found.setdefault(f"What does {module}.{path} do?", sentence)
    return list(found), list(found.values())


def _files(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    if name.startswith("_") or name in _LEFT_OUT:
        return
    if (root / f"{name}.py").is_file():
        yield name, root / f"{name}.py"
    elif (root / name).is_dir():
        for file in sorted((root / name).rglob("*.py")):
            parts = [name, *file.relative_to(root / name).with_suffix("").parts]
            if not any(part in _LEFT_OUT or part.startswith("_") for part in parts if part != "__init__"):
                yield ".".join(part for part in parts if part != "__init__"), file


def _documented(file: Path) -> Iterator[tuple[str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node, path in _public(tree, ""):
        sentence = _first_sentence(ast.get_docstring(node) or "")
        if _SHORTEST <= len(sentence) <= _LONGEST:
            yield path, sentence


def _public(
    parent: ast.AST, prefix: str
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, str]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node, f"{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _public(node, f"{prefix}{node.name}.")


def _first_sentence(text: str) -> str:
    first = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    end = first.find(". ")
    return first if end < 0 else first[: end + 1]
