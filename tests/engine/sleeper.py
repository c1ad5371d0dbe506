"""A job's process that only lives: `python -m tests.engine.sleeper FOLDER`. With --launch it starts one and ends."""

import sys
import time
from pathlib import Path

from sft_magics.core.jobs import JobFolder
from sft_magics.engine.runtime import launchers


def main() -> None:
    job = JobFolder(Path(sys.argv[1]))
    if "--launch" in sys.argv:
        launchers.start(job, "tests.engine.sleeper", keep="--keep" in sys.argv)
        while not (job.path / "ready").exists():
            time.sleep(0.02)
        return
    launchers.watch_parent()
    print("I live", flush=True)
    (job.path / "ready").touch()
    time.sleep(60)


if __name__ == "__main__":
    main()
