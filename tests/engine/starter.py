"""A notebook in small: starts two jobs of `sleeper` by a fork server, says their process ids and the server's, waits.

`python -m tests.engine.starter FOLDER...`: the first is kept when this process ends, the second is not.
"""

import sys
import time
from pathlib import Path

from sft_magics.core.jobs import JobFolder
from sft_magics.engine.runtime import fork_server_client, launchers


def main() -> None:
    fork_server_client.PRELOADED = ("json",)
    fork_server_client._found(launchers.environment())
    while not (fork_server_client._server and fork_server_client._server.ready()):
        time.sleep(0.02)
    jobs = [JobFolder(Path(folder)) for folder in sys.argv[1:]]
    pids = [launchers.start(job, "tests.engine.sleeper", keep=n == 0, forked=True) for n, job in enumerate(jobs)]
    while not all((job.path / "ready").exists() for job in jobs):
        time.sleep(0.02)
    print(*pids, fork_server_client._server.process.pid, flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main()
