"""The notebooks that ship, run from the first cell to the last without a browser: `python -m tests.journeys.notebooks`.

All runs share one workspace, so each but the first finds what the others left. `--precision fp32 bf16` forces the
number format of training, `--engines auto torch` what endpoints compute with (torch: as where no extra is installed),
`--beside 2` runs each notebook twice at the same time. What was executed goes to build/notebooks.
"""

import argparse
import concurrent.futures
import itertools
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
OUT = ROOT / "build" / "notebooks"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb")))
MOST_BYTES = 200_000  # of one saved output
CELL_SECONDS = 1800
_TRAINS = re.compile(r"^(%sft_finetune .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Pass:
    """One run of a notebook: the number format it trains in, what endpoints compute with; "" its own choice."""

    name: str
    precision: str
    engine: str
    number: int

    @property
    def label(self) -> str:
        """The words that tell this pass from the others."""
        return "-".join(part for part in (self.name, self.precision, self.engine, str(self.number)) if part)


def read(one: Pass) -> nbformat.NotebookNode:
    """The notebook, with the number format written into each line that trains."""
    notebook = nbformat.read(FOLDER / f"{one.name}.ipynb", as_version=4)
    if one.precision:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.source = _TRAINS.sub(rf"\1 --precision {one.precision}", cell.source)
    return notebook


def execute(one: Pass, workspace: Path, out: Path) -> nbformat.NotebookNode:
    """Run one notebook in `workspace`, write what it shows to `out`, and return it; the first failing cell ends it."""
    folder = out / one.label
    folder.mkdir(parents=True, exist_ok=True)
    notebook = read(one)
    client = nbclient.NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    env = {**os.environ, "SFT_HOME": str(workspace), "IPYTHONDIR": str(folder / ".ipython")}
    if one.engine:
        env["SFT_ENGINE"] = one.engine
    try:
        client.execute(env=env)
    finally:
        nbformat.write(notebook, out / f"{one.label}.ipynb")
    return notebook


def largest(notebook: nbformat.NotebookNode) -> int:
    """The bytes of the largest output that the notebook saves."""
    outputs = (o for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    return max((len(nbformat.v4.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[o])])))
                for o in outputs), default=0)  # fmt: skip


def timed(one: Pass, workspace: Path, out: Path) -> str:
    """One line on a pass: ok or what failed, how long it took, its largest output."""
    began = time.monotonic()
    try:
        notebook = execute(one, workspace, out)
    except Exception as error:  # noqa: BLE001 - the other passes go on; the end of it holds the failing cell's words
        return f"FAILED  {one.label}  {time.monotonic() - began:.0f} s\n{str(error)[-2000:]}"
    size = largest(notebook)
    state = "ok" if size <= MOST_BYTES else "FAILED"
    return f"{state:7} {one.label}  {time.monotonic() - began:.0f} s, largest output {size:,} bytes"


def passes(given: argparse.Namespace) -> Iterator[list[Pass]]:
    """The passes, those of one list at the same time."""
    kinds = list(itertools.product(given.engines, given.precision))
    for turn, (engine, precision) in itertools.product(range(given.times), kinds):
        for name in given.names:
            yield [Pass(name, precision, engine, turn * given.beside + k) for k in range(given.beside)]


def main() -> int:
    """Run what the command line asks for; 1 where a pass failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, choices=NAMES, metavar="NAME", help="which; all by default")
    parser.add_argument("--precision", nargs="+", default=[""], choices=["", "fp32", "bf16"])
    parser.add_argument("--engines", nargs="+", default=[""], choices=["", "auto", "torch"])
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--beside", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    given.out = given.out.resolve()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    workspace, failed = given.out / "workspace", False
    for together in passes(given):
        with concurrent.futures.ThreadPoolExecutor(len(together)) as pool:
            for line in pool.map(lambda one: timed(one, workspace, given.out), together):
                failed = failed or line.startswith("FAILED")
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
