"""The shape of the tree, and the calls that the design forbids."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sft_magics"
LONGEST = 400
MOST_MODULES = 16  # in one folder
TOP_LEVEL = {
    "pyproject.toml",
    "sft_magics",
    "notebooks",
    "tests",
    "binder",
    "docs",
    "README.md",
    "Makefile",
    "CHANGELOG.md",
    "LICENSE",
}
VAGUE = {"utils", "util", "helpers", "misc", "common"}
LOCK_FILES = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pylock.toml"}
# Modules whose files run code when they are read, and the readers and writers of the same in friendly clothes.
PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
PICKLING_CALLS = {"read_pickle", "to_pickle"}

SOURCES = sorted(PACKAGE.rglob("*.py"))
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def forbidden(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the sin, for each thing a source file may not do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in PICKLES:
                    yield node.lineno, f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            yield from forbidden_from(node)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, sin) for sin in forbidden_call(node))


def forbidden_from(node: ast.ImportFrom) -> Iterator[tuple[int, str]]:
    names = {alias.name for alias in node.names}
    if (node.module or "").partition(".")[0] in PICKLES:
        yield node.lineno, f"from {node.module} import ..."
    if node.module == "torch" and "load" in names:
        yield node.lineno, "from torch import load: spell it torch.load, so that its arguments can be checked"


def forbidden_call(call: ast.Call) -> Iterator[str]:
    keywords = {word.arg: word.value for word in call.keywords}
    name = ast.unparse(call.func)
    if name in {"eval", "exec", "builtins.eval", "builtins.exec"}:
        yield f"{name}()"
    if isinstance(call.func, ast.Attribute) and call.func.attr in PICKLING_CALLS:
        yield f"{name}()"
    if name == "torch.load" and not is_constant(keywords.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if "trust_remote_code" in keywords and not is_constant(keywords["trust_remote_code"], False):
        yield "trust_remote_code that is not False"
    if "allow_pickle" in keywords and not is_constant(keywords["allow_pickle"], False):
        yield "allow_pickle that is not False"


def is_constant(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def tracked() -> list[str]:
    """The files git knows, relative to the root; none outside a checkout."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return []
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listing.stdout.split("\0") if name]


@pytest.mark.parametrize(
    "path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_no_file_is_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{lines} lines: part it by subject"


@pytest.mark.parametrize("room", ["lifecycle", "engine", "serving", "datasets"])
def test_no_folder_holds_more_modules_than_one_looks_through(room: str) -> None:
    folders = {path.parent for path in (PACKAGE / room).rglob("*.py")}
    counts = {folder: sum(path.name != "__init__.py" for path in folder.glob("*.py")) for folder in folders}
    crowded = {folder.relative_to(PACKAGE).as_posix(): n for folder, n in counts.items() if n > MOST_MODULES}
    assert crowded == {}


def test_no_module_has_a_vague_name() -> None:
    everything = [*SOURCES, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    assert [path.relative_to(ROOT).as_posix() for path in everything if path.stem in VAGUE] == []


@each_source
def test_no_forbidden_call(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    assert [f"line {line}: {sin}" for line, sin in forbidden(tree)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import joblib.memory",
        "from cloudpickle import dumps",
        "eval(text)",
        "exec(text, {})",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "from torch import load",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert list(forbidden(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()",
        "cursor.exec(text)",
        "torch.load(path, map_location='cpu', weights_only=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "json.load(file)",
        "'a comment on pickle and eval(x)'",
    ],
)
def test_the_search_lets_pass(line: str) -> None:
    assert list(forbidden(ast.parse(line))) == []


def test_the_top_level_is_as_designed() -> None:
    files = tracked()
    if not files:
        pytest.skip("not a git checkout, or nothing is tracked yet")
    tops = {name.partition("/")[0] for name in files}
    assert sorted(top for top in tops if not top.startswith(".") and top not in TOP_LEVEL) == []
    assert sorted(TOP_LEVEL - tops) == []


def test_no_lock_file_is_tracked() -> None:
    assert [name for name in tracked() if name.rpartition("/")[2] in LOCK_FILES] == []
