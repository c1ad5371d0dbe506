"""Run the benchmarks: `python -m tests.benchmarks [NAME [OPTIONS]]`, NAME being the part after `bench_`."""

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Run the named benchmark with its options, or every one without."""
    names = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    asked = sys.argv[1:]
    if asked and asked[0] not in names:
        sys.exit(f"There is no benchmark '{asked[0]}'.\nNext: choose one of {', '.join(names)}.")
    for name in asked[:1] or names:
        print(f"== {name}", flush=True)
        run = importlib.import_module(f"tests.benchmarks.bench_{name}").main
        if asked[1:]:
            run(asked[1:])
        else:
            run()


if __name__ == "__main__":
    main()
