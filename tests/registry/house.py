"""What tests of the artifact store share: small networks, and ways to damage a file."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from sft_magics.registry import ArtifactStore


def network(head: int = 0) -> dict[str, torch.Tensor]:
    """Return a small network: a body that is always the same and a head of its own."""
    chance = torch.Generator().manual_seed(1)
    body = {f"body.{n}.weight": torch.randn(256, 64 + n, generator=chance) for n in range(8)}
    counts = {f"body.{n}.count": torch.zeros((), dtype=torch.int64) for n in range(8)}
    own = torch.Generator().manual_seed(100 + head)
    return {**body, **counts, "head.weight": torch.randn(3, 64, generator=own), "head.bias": torch.zeros(3)}


def folder(path: Path, tensors: dict[str, torch.Tensor], **more: str) -> Path:
    path.mkdir()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text("{}")
    for name, text in more.items():
        (path / name).write_text(text)
    return path


def packs(store: ArtifactStore) -> list[Path]:
    return sorted((store.root / "packs").glob("*"))


def flip(path: Path, where: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(where)
        byte = file.read(1)[0]
        file.seek(where)
        file.write(bytes([byte ^ 4]))
    path.chmod(0o400)


def same(found: dict[str, torch.Tensor] | None, wanted: dict[str, torch.Tensor]) -> bool:
    assert found is not None
    return found.keys() == wanted.keys() and all(
        found[k].dtype == t.dtype and found[k].shape == t.shape and torch.equal(found[k], t) for k, t in wanted.items()
    )


def disk(store: ArtifactStore) -> int:
    found = {p.stat().st_ino: p.stat().st_size for p in store.root.rglob("*") if p.is_file()}
    assert store.root.joinpath("views").exists() or found
    return sum(found.values())


def make_writable(path: Path) -> Path:
    path.chmod(0o600)
    return path
