"""Trains as ordered in forks that it kills: `python -m tests.crash.forker SPEC FOLDER KILLS SEED`.

It says how many it killed. What jobs import is imported once, so that a kill falls into the training and not into the
imports.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from sft_magics.engine.jobs import worker
from sft_magics.engine.tasks import find

_SHORTEST, _LONGEST = 0.1, 2.5  # seconds


def begun(spec: dict, folder: Path) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            worker.train(spec, lambda _: "", folder)
        except BaseException:  # noqa: BLE001 - the parent sees it by the exit status
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def main() -> None:
    spec, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    kills, chance = int(sys.argv[3]), random.Random(int(sys.argv[4]))
    find(spec["task"])
    done = 0
    while done < kills:
        pid = begun(spec, folder)
        time.sleep(chance.uniform(_SHORTEST, _LONGEST))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):  # it had ended already: go on with what there is
            break
        done += 1
    _, status = os.waitpid(begun(spec, folder), 0)
    assert status == 0, f"the last one ended with {status}"
    print(done)


if __name__ == "__main__":
    main()
