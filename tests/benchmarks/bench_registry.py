"""The registry beside MLflow's on sqlite: the same operations on the same number of versions, in turn.

    python -m tests.benchmarks registry                                ours alone
    python -m tests.benchmarks registry --peer PYTHON                  beside MLflow, which PYTHON can import
    make bench-registry                                                makes such an environment first

Each side is a process of its own that answers one operation at a time; the operations alternate between them. Ours are
on the disk when they return (fdatasync); MLflow's are as sqlite's defaults leave them. A version of ours has its run,
data, options, metrics, environment and lineage in the row; MLflow's has a source, a run id, tags and a description.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("ours", "mlflow")
GOALS = {"create": 10, "list": 2, "alias": 10, "search": 25, "open": 150}
AHEAD = {"create": 5.0, "list": 5.0, "writers": 10.0}


def main(argv: list[str] | None = None) -> None:
    """Measure and print a table: medians in milliseconds, and the ratios."""
    options = _options(argv if argv is not None else [])
    if options.child:
        _serve(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        sides = SIDES if options.peer else SIDES[:1]
        times = {side: _Side(side, Path(folder) / side, options) for side in sides}
        for side in times.values():
            print(f"{side.name}: filling {options.versions:,} versions took {side.ask('fill'):.1f} s", flush=True)
        found = {
            side: _measured(times, side, options.repeats) for side in ("create", "list", "alias", "search", "open")
        }
        found["writers"] = _writers(times, options)
    _print(found)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks registry")
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--peer", help="a Python that can import mlflow")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _measured(sides: "dict[str, _Side]", operation: str, repeats: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(repeats):
        for name in sorted(sides, reverse=bool(turn % 2)):
            found[name].append(sides[name].ask(operation) * 1e3)
    return found


def _writers(sides: "dict[str, _Side]", options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the milliseconds a version that four processes at once need, a few rounds each."""
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(3):
        for name, side in sides.items():
            four = [_Side(name, side.folder, options) for _ in range(4)]
            for one in four:
                one.ask("warm")
            begun = time.perf_counter()
            for one in four:
                one.tell("many")
            done = sum(one.hear() for one in four)
            found[name].append((time.perf_counter() - begun) * 1e3 / done)
            for one in four:
                one.end()
    return found


def _print(found: dict[str, dict[str, list[float]]]) -> None:
    print(f"\n{'operation':<10}{'ours ms':>10}{'goal':>8}{'MLflow ms':>12}{'ratio':>8}{'at least':>10}")
    for operation, times in found.items():
        ours = statistics.median(times["ours"])
        goal = f"{GOALS[operation]}" if operation in GOALS else ""
        line = f"{operation:<10}{ours:>10.2f}{goal:>8}"
        if "mlflow" in times:
            ratio = statistics.median(b / a for a, b in zip(times["ours"], times["mlflow"], strict=True))
            line += f"{statistics.median(times['mlflow']):>12.2f}{ratio:>8.1f}{AHEAD.get(operation, ''):>10}"
        print(line)


class _Side:
    """A process that does one side's operations, and says how many seconds each took."""

    def __init__(self, name: str, folder: Path, options: argparse.Namespace) -> None:
        self.name, self.folder = name, folder
        folder.mkdir(exist_ok=True)
        python = options.peer if name == "mlflow" else sys.executable
        line = [python, "-m", "tests.benchmarks.bench_registry", "--child", name, "--folder", str(folder)]
        line += ["--versions", str(options.versions), "--models", str(options.models)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env, cwd=ROOT
        )

    def ask(self, operation: str) -> float:
        self.tell(operation)
        return self.hear()

    def tell(self, operation: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{operation}\n")
        self._process.stdin.flush()

    def hear(self) -> float:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("took "):
                return float(line.split()[1])
        sys.exit(f"the process of {self.name} ended; run it by hand to see why")

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# the two sides: each returns a table of operations


def _ours(folder: Path, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    from sft_magics.core.workspace import Workspace
    from sft_magics.registry import Registry
    from sft_magics.registry.testing import a_model, a_version

    place = Workspace(folder).prepare()
    registry = Registry(place)
    names = [f"model-{n}" for n in range(options.models)]
    chance, least = random.Random(os.getpid()), options.versions // options.models

    def fill() -> None:
        for name in names:
            registry.add_model(a_model(name))
        for number in range(options.versions):
            registry.commit_version(a_version(names[number % len(names)], note=f"note {number}"))

    def search() -> None:
        from tinydb import Query

        from sft_magics.registry.documents import database

        wanted = f"note {chance.randrange(options.versions)}"
        assert database(registry.storage).table("versions").search(Query().note == wanted)  # type: ignore[arg-type]

    def opened() -> None:
        code = "import sys, time; begun = time.perf_counter(); from sft_magics.core.workspace import Workspace; "
        code += "from sft_magics.registry import Registry; from pathlib import Path; "
        code += "Registry(Workspace(Path(sys.argv[1]))).version('model-7'); print(time.perf_counter() - begun)"
        _print_child([sys.executable, "-c", code, str(folder)])

    return {
        "fill": fill,
        "warm": lambda: registry.versions("model-7"),
        "create": lambda: registry.commit_version(a_version(chance.choice(names))),
        "list": lambda: registry.versions(chance.choice(names)),
        "alias": lambda: registry.set_alias(chance.choice(names), "live", chance.randint(1, least)),
        "search": search,
        "open": opened,
        "many": lambda: [registry.commit_version(a_version(chance.choice(names))) for _ in range(100)],
    }


def _open_mlflow(uri: str) -> None:
    code = "import sys, time; begun = time.perf_counter(); from mlflow import MlflowClient; "
    code += "MlflowClient(sys.argv[1], sys.argv[1]).get_registered_model('model-7'); "
    code += "print(time.perf_counter() - begun)"
    _print_child([sys.executable, "-c", code, uri])


def _mlflow(folder: Path, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    from mlflow import MlflowClient  # type: ignore[import-not-found]

    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri, uri)
    names = [f"model-{n}" for n in range(options.models)]
    chance, least = random.Random(os.getpid()), options.versions // options.models

    def create(name: str, note: str = "") -> Any:
        tags = {"data": "films", "fingerprint": "f" * 64, "accuracy": "0.84"}
        return client.create_model_version(name, "file:///nowhere", run_id=None, tags=tags, description=note)

    def fill() -> None:
        for name in names:
            client.create_registered_model(name)
        for number in range(options.versions):
            create(names[number % len(names)], f"note {number}")

    def listed() -> None:
        found = client.search_model_versions(f"name='{chance.choice(names)}'", max_results=1000)
        assert len(found) >= options.versions // len(names)

    def search() -> None:  # its filters know no description
        found = client.search_model_versions("tag.data = 'films'", max_results=10_000)
        assert any(v.description == "note 77" for v in found)

    return {
        "fill": fill,
        "warm": lambda: client.search_model_versions("name='model-7'", max_results=1000),
        "create": lambda: create(chance.choice(names)),
        "list": listed,
        "alias": lambda: client.set_registered_model_alias(chance.choice(names), "live", chance.randint(1, least)),
        "search": search,
        "open": lambda: _open_mlflow(uri),
        "many": lambda: [create(chance.choice(names)) for _ in range(100)],
    }


class _Measured(Exception):
    """Carries the seconds that a process of its own has measured."""


def _print_child(line: list[str]) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    raise _Measured(done.stdout.split()[-1])


def _serve(options: argparse.Namespace) -> None:
    operations = {"ours": _ours, "mlflow": _mlflow}[options.child](Path(options.folder), options)
    for line in sys.stdin:
        begun = time.perf_counter()
        try:
            result = operations[line.strip()]()
            took = len(result) if line.strip() == "many" else time.perf_counter() - begun
        except _Measured as measured:
            took = float(str(measured))
        print(f"took {json.dumps(took)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
