"""A notebook in small: starts two jobs of `sleeper` by a fork server, says their process ids and the server's, waits.

`python -m tests.engine.starter FOLDER...`: the first is kept when this process ends, the second is not.
"""

import sys
import time
from pathlib import Path

from sft_magics.core.jobs import JobFolder
from sft_magics.engine import launchers, warm


def main() -> None:
    warm.PRELOADED = ("json",)
    warm._found(launchers.environment())
    while not (warm._server and warm._server.ready()):
        time.sleep(0.02)
    jobs = [JobFolder(Path(folder)) for folder in sys.argv[1:]]
    pids = [launchers.start(job, "tests.engine.sleeper", keep=n == 0, forked=True) for n, job in enumerate(jobs)]
    while not all((job.path / "ready").exists() for job in jobs):
        time.sleep(0.02)
    print(*pids, warm._server.process.pid, flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main()
