"""What a notebook feels: the import, `%load_ext` in a warm kernel, and `1 + 1` while a background run trains.

    python -m tests.benchmarks kernel

Prints medians (and the slowest) in milliseconds beside the bounds the product promises. Uses a few hundred film
sentences in a workspace of its own.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sft_magics as sft
from tests.journeys.kernels import Kernel

_REPEATS = 7


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    del argv
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _say("import sft_magics (warm files)", _imports("import sft_magics"), 100)
        kernel = Kernel(root, root / ".sft")
        try:
            _say("%load_ext sft_magics, first in a kernel", [_load_in_a_fresh_kernel(root) for _ in range(3)], 300)
            _train_and_ask(kernel, root)
        finally:
            kernel.close()


def _imports(statement: str) -> list[float]:
    code = f"import time; t = time.perf_counter(); {statement}; print((time.perf_counter() - t) * 1000)"
    found = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(_REPEATS + 1)]
    return found[1:]


def _load_in_a_fresh_kernel(root: Path) -> float:
    kernel = Kernel(root, root / ".sft", load=False)
    try:
        kernel.run("import ipywidgets")
        return _timed(kernel, "%load_ext sft_magics")
    finally:
        kernel.close()


def _timed(kernel: Kernel, code: str) -> float:
    began = time.perf_counter()
    outcome = kernel.run(code, seconds=60)
    assert outcome.error is None, outcome.error
    return (time.perf_counter() - began) * 1000


def _train_and_ask(kernel: Kernel, root: Path) -> None:
    from sft_magics.datasets import load

    load("sample:reviews").frame[["text", "label"]].sample(600, random_state=0).to_csv(root / "films.csv", index=False)
    for line in ("%sft_data films films.csv", "%sft_create films --data films --base minilm"):
        assert kernel.run(line).error is None
    idle = [_timed(kernel, "1 + 1") for _ in range(30)]
    kernel.run("%sft_finetune films --epochs 60 --background -o run")
    while sft.runs(workspace=root / ".sft").rows[0].step < 3:
        time.sleep(0.3)
    busy = []
    for _ in range(60):
        busy.append(_timed(kernel, "1 + 1"))
        time.sleep(0.1)
    kernel.run("%sft_stop {run.id}")
    _say("1 + 1 in an idle kernel", idle, 200)
    _say("1 + 1 while a background run trains", busy, 200)


def _say(what: str, found: list[float], bound: float) -> None:
    print(f"{what:<42} median {statistics.median(found):7.1f} ms   slowest {max(found):7.1f} ms   bound {bound:.0f} ms")


if __name__ == "__main__":
    main()
