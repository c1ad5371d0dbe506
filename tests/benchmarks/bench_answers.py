"""What an answer costs by each engine of an endpoint: MiniLM as a classifier of texts, one thread, CPU time.

Each engine lives in a process of its own, and they are asked in turn, so that what else the machine does meets all.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ENGINES = ("torch", "onnx", "openvino/fp32", "openvino/bf16", "onnx-int8")
# Loads an engine, says what that took, and for each line that it hears answers and says what that takes.
_CHILD = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
import psutil
from sft_magics.serving import engines, predictor

def say(**found):
    print(json.dumps({**found, "mib": psutil.Process().memory_info().rss / 2**20}), flush=True)

engine, folder, export, texts = sys.argv[1:]
texts = json.loads(Path(texts).read_text())
name, _, precision = engine.partition("/")
if name == "torch":
    made = predictor.load(Path(folder), 1)
else:
    made = engines.load(Path(export), name, 1, precision)
made.scores(texts[:2])
say(seconds=time.perf_counter() - began)
for _ in sys.stdin:
    times = []
    for text in texts[:40]:
        at = time.process_time()
        made.scores([text])
        times.append(time.process_time() - at)
    at = time.process_time()
    for start in range(0, 256, 32):
        made.scores(texts[start : start + 32])
    say(ms=sorted(times)[20] * 1e3, rate=256 / (time.process_time() - at))
"""


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks answers")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments or [])
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), options.rounds)


def _measure(root: Path, rounds: int) -> None:
    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.datasets.samples.text_samples import read_sample
    from sft_magics.engine import tasks
    from sft_magics.engine.inference import onnx_export

    start = {"kind": "folder", "path": str(fetch("minilm"))}
    tasks.find("text-classification").load(start, ["negative", "positive"], {}).save(root / "version")
    onnx_export.export(root / "version", root / "export")
    onnx_export.quantize(root / "export")
    texts = list(read_sample("reviews")[0])
    (root / "texts.json").write_text(json.dumps(texts[:: len(texts) // 256][:256]))
    print(
        "engine          seconds to load   again    MiB   one text, ms of CPU (range)   texts a CPU-second, 32 a batch"
    )
    first: dict[str, dict[str, float]] = {}
    for engine in ENGINES:
        child, first[engine] = _started(engine, root)
        _end(child)
    running = {engine: _started(engine, root) for engine in ENGINES}
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine, (child, _) in running.items():
            child.stdin.write("\n")
            child.stdin.flush()
            found[engine].append(json.loads(child.stdout.readline()))
    for engine, (child, again) in running.items():
        _end(child)
        ms, rate = ([one[key] for one in found[engine]] for key in ("ms", "rate"))
        took = f"{first[engine]['seconds']:15.1f} {again['seconds']:7.1f} {found[engine][-1]['mib']:6.0f}"
        print(
            f"{engine:15} {took}   {statistics.median(ms):6.2f} ({min(ms):.2f} to {max(ms):.2f}) "
            f"{statistics.median(rate):12.0f} ({min(rate):.0f} to {max(rate):.0f})"
        )


def _started(engine: str, root: Path) -> tuple[Any, dict[str, float]]:
    """Start an engine; return its process and what it said of its start."""
    places = [str(root / name) for name in ("version", "export", "texts.json")]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, engine, *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    return child, json.loads(child.stdout.readline())


def _end(child: Any) -> None:
    child.stdin.close()
    child.wait()


if __name__ == "__main__":
    main()
