"""Works on an artifact store until it is killed or told to end: `saver.py STORE ROLE ARGUMENT`.

save SEED      saves networks with the one body and heads of their own, and says each id when it is acknowledged
read IDS,N     checks out and loads the artifacts in turn, N times, and compares what it got
collect IDS    removes everything but these artifacts, again and again
"""

import hashlib
import random
import sys
import tempfile
from pathlib import Path

from sft_magics.registry import ArtifactStore
from sft_magics.registry.artifacts import layout


def network(path: Path, head: bytes) -> None:
    """Write a safetensors file with one body, the same for all, and this head."""
    body = [bytes([n]) * 40_000 for n in range(1, 9)]
    tensors = [*body, head]
    names = [*(f"body.{n}" for n in range(8)), "head"]
    header = layout.header_for(((n, "U8", (len(t),), len(t)) for n, t in zip(names, tensors, strict=True)), {})
    path.mkdir(exist_ok=True)
    (path / "model.safetensors").write_bytes(header + b"".join(tensors))
    (path / "config.json").write_bytes(head[:20])


def save(store: ArtifactStore, argument: str) -> None:
    chance = random.Random(argument)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            head = chance.randbytes(chance.choice((100, 30_000)))
            network(Path(folder) / "a", head)
            saved = store.save(Path(folder) / "a")
            print(saved.id, hashlib.sha256(head).hexdigest(), flush=True)


def read(store: ArtifactStore, argument: str) -> None:
    from sft_magics.engine.models import weight_loading

    *ids, times = argument.split(",")
    pairs = [pair.split("=") for pair in ids]
    print("ready", flush=True)
    for turn in range(int(times)):
        artifact, head = pairs[turn % len(pairs)]
        found = weight_loading.load(store.checkout(artifact))
        assert found is not None
        assert len(found) == 9
        assert hashlib.sha256(found["head"].numpy().tobytes()).hexdigest() == head
        for number in range(8):
            assert bool((found[f"body.{number}"] == number + 1).all())
        print(turn, flush=True)


def collect(store: ArtifactStore, argument: str) -> None:
    keep = argument.split(",")
    print("ready", flush=True)
    while True:
        print(store.collect(keep, 0.0).bytes, flush=True)


if __name__ == "__main__":
    {"save": save, "read": read, "collect": collect}[sys.argv[2]](ArtifactStore(Path(sys.argv[1])), sys.argv[3])
