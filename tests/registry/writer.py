"""A process that commits versions: `writer.py WORKSPACE MODEL COUNT`; it prints each number once it is on the disk."""

import sys
from pathlib import Path

from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry
from sft_magics.registry.testing import a_version

registry = Registry(Workspace(Path(sys.argv[1])))
sys.stdin.readline()  # all writers begin together
for _ in range(int(sys.argv[3])):
    version = registry.commit_version(a_version(sys.argv[2]), aliases=("candidate", "live"))
    print(version.number, flush=True)
