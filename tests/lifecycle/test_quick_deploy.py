"""An endpoint that begins in a process which has torch imported already: in a moment, and bound to its notebook."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import sft_magics as sft
from sft_magics.core.workspace import Workspace
from tests.serving.house import until

SCRIPT = """
import os, sys, time
from pathlib import Path
import psutil
import sft_magics as sft
from sft_magics.core.jobs import JobFolder
from sft_magics.engine.runtime import fork_server_client
root = sys.argv[1]
sft.predict("films:1", "a film", workspace=root)  # the first job of a process lets the fork server begin
end = time.monotonic() + 120
assert fork_server_client._server, "this process was told to start no fork server, or the machine is short of memory"
while not fork_server_client._server.ready():
    assert time.monotonic() < end, "it does not get ready"
    time.sleep(0.2)
endpoint = sft.deploy("films:1", name="bound", workspace=root)
process = psutil.Process(JobFolder(Path(endpoint.folder)).pid())
for one in [process, *process.children(recursive=True)]:
    print(*one.cmdline())
sft.deploy("films:1", name="kept", keep=True, workspace=root)
assert sft.predict("bound", "a film", endpoint=True, workspace=root).rows[0].label
os._exit(9)
"""


@pytest.mark.slow
def test_it_is_forked_from_what_is_warm_and_ends_with_its_notebook_unless_kept(trained: Workspace) -> None:
    script = Path(trained.root).parent / "notebook.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(trained.root)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 9, done.stderr
    # A fork has the command line of the notebook's fork server: nobody had to import torch again.
    lines = done.stdout.splitlines()
    assert len(lines) == 3, "the endpoint, what forks its hosts, and the host"
    assert set(lines) == {lines[0]}
    assert "sft_magics.engine.runtime.fork_server" in lines[0]

    def states() -> dict[str, str]:
        return {e.name: e.state for e in sft.endpoints(workspace=trained.root)}

    until(lambda: states()["bound"] == "stopped", 30)
    time.sleep(1.0)
    assert states() == {"bound": "stopped", "kept": "ready"}
    sft.stop("kept", workspace=trained.root)
