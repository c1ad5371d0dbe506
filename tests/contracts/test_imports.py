"""Who may know what: the linter's contracts, and what the linter cannot see, looked at while the program runs."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sft_magics"
CORE = PACKAGE / "core"
HEAVY = ("torch", "transformers", "IPython", "ipywidgets", "pandas", "numpy")

# Runs before the product in a child process: the named packages are as good as not installed.
BLOCKER = """
class Blocker:
    def __init__(self, names):
        self.names = names
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is blocked by this test", name=name)
        return None

sys.meta_path.insert(0, Blocker(frozenset(NAMES)))
for name in NAMES:
    sys.modules.pop(name, None)
"""


def run_python(code: str) -> str:
    """What the code prints in a fresh interpreter, started in the root of the repository."""
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert child.returncode == 0, child.stderr[-4000:]
    return child.stdout


def import_all(modules: list[str], *, blocked: tuple[str, ...]) -> None:
    """Import the modules, one after the other, where the blocked packages cannot be imported."""
    assert modules
    run_python(f"import sys\nNAMES = {blocked!r}\n{BLOCKER}\n" + "\n".join(f"import {name}" for name in modules))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_under(folder: Path) -> list[str]:
    """Every module in a folder or, while a room is still one file, that file's; a `__main__` runs when imported."""
    files = sorted(folder.rglob("*.py")) or [folder.with_suffix(".py")]
    return [module_name(path) for path in files if path.name != "__main__.py"]


def imported_names(path: Path) -> list[tuple[int, str]]:
    """The line and full name of each import in a file, those inside functions included."""
    names: list[tuple[int, str]] = []
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names.append((node.lineno, ".".join([*base, *filter(None, [node.module])])))
        elif isinstance(node, ast.ImportFrom):
            # `from sft_magics import core` names sft_magics.core
            whole = node.module == "sft_magics"
            names += [
                (node.lineno, f"{node.module}.{alias.name}" if whole else str(node.module)) for alias in node.names
            ]
    return names


def test_the_import_contracts_hold() -> None:
    child = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == 0, child.stdout + child.stderr


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("sft_magics", exclude_type_checking_imports=True, cache_dir=None)
    ours = {
        name: {found for found in graph.find_modules_directly_imported_by(name) if found.startswith("sft_magics")}
        for name in graph.modules
    }
    ours["sft_magics"] = set()  # the door: what it imports, it imports when it is asked
    graphlib.TopologicalSorter(ours).prepare()


def test_a_circle_is_found() -> None:
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).prepare()


def test_the_package_and_its_verbs_import_without_jupyter_torch_and_pandas() -> None:
    import_all(
        ["sft_magics", "sft_magics.verbs", *modules_under(CORE)],
        blocked=("torch", "transformers", "IPython", "ipywidgets", "pandas"),
    )


def test_the_engine_imports_on_a_bare_machine() -> None:
    import_all(modules_under(PACKAGE / "engine"), blocked=("IPython", "ipywidgets", "tinydb"))


def test_a_model_of_texts_is_trained_without_what_others_need() -> None:
    code = "import sft_magics.engine.jobs.worker, sft_magics.engine.tasks.text_classification, sys"
    found = run_python(f"{code}; print([n for n in ('timm', 'peft', 'torchmetrics', 'pandas') if n in sys.modules])")
    assert found.strip() == "[]"


def test_importing_the_package_brings_in_nothing_heavy() -> None:
    loaded = json.loads(
        run_python(f"import sft_magics, json, sys; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))")
    )
    assert loaded == []


def test_importing_the_package_is_quick() -> None:
    code = "import time; start = time.perf_counter(); import sft_magics; print(time.perf_counter() - start)"
    best = min(float(run_python(code)) for _ in range(5))
    assert best < 0.1, f"import sft_magics took {best:.3f} s at best"


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: path.relative_to(CORE).as_posix())
def test_core_names_only_the_standard_library(path: Path) -> None:
    strangers = [
        f"line {line}: {name}"
        for line, name in imported_names(path)
        if name.partition(".")[0] not in sys.stdlib_module_names and f"{name}.".partition("sft_magics.core.")[0] != ""
    ]
    assert strangers == []
