"""A process to be killed: `writer.py WORKSPACE commit|migrate`; it prints what is on the disk, a line each."""

import sys
from pathlib import Path

from sft_magics.core.records import SCHEMA
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry, journal
from sft_magics.registry.testing import a_version

journal._SMALLEST, journal._SHARE = 3000, 10**9  # a compaction every second or third transaction
workspace = Workspace(Path(sys.argv[1]))
storage = None
if sys.argv[2] == "migrate":
    storage = journal.JournalStorage(
        workspace.registry / "registry.json", SCHEMA + 1, {SCHEMA: lambda tables: {**tables, "new": {"1": {"a": 1}}}}
    )
registry = Registry(workspace, storage)
print("ready", flush=True)
sys.stdin.readline()
while True:
    print(registry.commit_version(a_version("pets"), aliases=("candidate", "live")).number, flush=True)
