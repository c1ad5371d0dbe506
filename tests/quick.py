"""The tests of what changed, closest first, for the minutes between two edits: `make quick`.

What changed is everything since the branch left main, on main itself since the last commit but one, and what is not
committed yet. A test file is close to a module when it bears its name in the same room, when it imports it, or when it
imports a module that does. Tests that need the whole machine or a browser are left to `make test`.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sft_magics"
SECONDS = 200  # of the four minutes: what was begun is still finished
_MAIN = ("origin/main", "main")
_ROOM_DEPTH = 2  # sft_magics/room/module.py
_STEPS = 3  # from a test to a module, through what imports it


def changed() -> set[str]:
    """The paths that changed, from the root of the repository."""
    found = _lines("diff", "--name-only", _base()) | _lines("ls-files", "--others", "--exclude-standard")
    return {path for path in found if (ROOT / path).exists()}


def _base() -> str:
    head = _lines("rev-parse", "HEAD")
    for name in _MAIN:
        base = _lines("merge-base", "HEAD", name)
        if base and base != head:
            return base.pop()
    return "HEAD~1" if _lines("rev-parse", "--verify", "--quiet", "HEAD~1") else "HEAD"


def _lines(*words: str) -> set[str]:
    said = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return set(said.stdout.split()) if said.returncode == 0 else set()


def module_of(path: str) -> str:
    """The dotted name of a Python file."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The modules of ours that a file names in an import, wherever in the file that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith((PACKAGE, "tests"))}


def closest(paths: Iterable[str]) -> list[str]:
    """The test files for these paths, closest first."""
    edited = {path for path in paths if path.endswith(".py")}
    modules = {module_of(path) for path in edited}
    tests = {str(p.relative_to(ROOT)): imports(p) for p in sorted((ROOT / "tests").rglob("test_*.py"))}
    sources = {module_of(str(p.relative_to(ROOT))): imports(p) for p in (ROOT / PACKAGE).rglob("*.py")}
    ordered = dict.fromkeys(test for test in tests if test in edited)
    ordered |= dict.fromkeys(test for test in tests if any(_mirrors(test, path) for path in edited))
    for _ in range(_STEPS):
        ordered |= dict.fromkeys(test for test, named in tests.items() if named & modules)
        modules |= {name for name, named in sources.items() if named & modules}
    rooms = {Path(path).parts[1] for path in edited if len(Path(path).parts) > _ROOM_DEPTH}
    return sorted(ordered, key=lambda test: Path(test).parts[1] not in rooms)


def _mirrors(test: str, path: str) -> bool:
    """Whether a test stands where a module's test stands: the same room, and its name within the test's."""
    there, here = Path(path).parts, Path(test).parts
    same_room = there[0] == PACKAGE and len(there) > _ROOM_DEPTH and there[1] == here[1]
    return same_room and Path(path).stem in Path(test).stem


def main() -> int:
    """Run them; what pytest returns, or 0 where nothing changed that has a test."""
    found = closest(changed())
    if not found:
        sys.stdout.write("Nothing changed that has a test.\n")
        return 0
    sys.stdout.write(f"{len(found)} test files, closest first; after {SECONDS} s no more are begun.\n")
    sys.stdout.flush()
    options = ["-q", "--together", "-n", "2", "--dist", "loadfile", f"--session-timeout={SECONDS}"]
    command = [sys.executable, "-m", "pytest", *options, *found, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
