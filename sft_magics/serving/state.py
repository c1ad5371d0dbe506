"""What an endpoint says of itself, in a file: `state.json` in its folder, replaced as a whole."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from sft_magics.core import codec
from sft_magics.core.workspace import write_durably

LIVING = ("starting", "ready", "draining")


@dataclass(frozen=True)
class EndpointState:
    """`state` is starting, ready, draining, stopped or failed; `launch` tells this start from earlier ones."""

    state: str
    launch: str
    url: str
    port: int
    socket: str = field(default="", kw_only=True)
    version: str
    ref: str
    pid: int
    engine: str = "torch"
    engine_why: str = ""
    requests: int = 0
    restarts: int = 0
    why: str = ""
    next_step: str = ""
    at: float = field(default_factory=time.time)


def write(folder: Path, state: EndpointState) -> None:
    """Replace the state; raises OSError."""
    write_durably(folder / "state.json", codec.dumps(state).encode())


def read(folder: Path) -> EndpointState | None:
    """Return the state last written, or None where there is none that can be read."""
    try:
        return codec.build(EndpointState, json.loads((folder / "state.json").read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
