"""A process that trains as ordered and writes down what it hears: `python -m tests.engine.trainer SPEC FOLDER`."""

import json
import os
import sys
import traceback
from pathlib import Path

from sft_magics.core.events import Event, EventWriter


def main() -> None:
    spec, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    writer = EventWriter(folder / "events.jsonl")

    def sink(event: Event) -> str:
        writer.write(event)
        if type(event).__name__ == spec.get("memory_from", "RunPlanned") and "memory" in spec:
            _limit_memory(spec.pop("memory"))
        return ""

    from sft_magics.core import errors
    from sft_magics.engine.jobs import worker

    try:
        worker.train(spec, sink, folder)
    except errors.SftError as error:
        traceback.print_exception(error.__cause__ or error)
        print(type(error).__name__, error.what, error.next_step, sep="\n")


def _limit_memory(more: int) -> None:
    """Let the process have `more` bytes of address space than it has now."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGESIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
