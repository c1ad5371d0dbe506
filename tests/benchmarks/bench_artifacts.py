"""The artifact store beside plain files: a ResNet-50 of 94 MB (random weights), and ten heads on its body.

    python -m tests.benchmarks artifacts [--repeats N] [--folder DIR]

Compared in turn: a first save with `safetensors.save_file` and fsync, a verified load with `torch.load` (its default,
which verifies nothing), both from the page cache. Figures are medians; ratios are medians of the ratios of each turn.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = 2


def main(argv: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks artifacts")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", help="where to write; the disk that is to be measured")
    options = parser.parse_args(argv if argv is not None else [])
    import torch

    torch.set_num_threads(THREADS)
    root = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        _speed(root, options.repeats)
        _disk(root)
    finally:
        shutil.rmtree(root)


def _network() -> dict[str, Any]:
    import torch

    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (37, 2048), "fc.bias": (37,)}
    width = 64
    for stage, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            shapes[f"{name}.conv1.weight"] = (inner, width, 1, 1)
            shapes[f"{name}.conv2.weight"] = (inner, inner, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * inner, inner, 1, 1)
            if block == 0:
                shapes[f"{name}.downsample.weight"] = (4 * inner, width, 1, 1)
            width = 4 * inner
            for number, size in ((1, inner), (2, inner), (3, 4 * inner)):
                for part in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{name}.bn{number}.{part}"] = (size,)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def _timed(call: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = call(*given)
    return time.perf_counter() - begun, result


def _save_file(tensors: dict[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors")
    fd = os.open(folder / "model.safetensors", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def _speed(root: Path, repeats: int) -> None:
    import torch

    from sft_magics.engine.models import weight_loading
    from sft_magics.registry import ArtifactStore

    tensors = _network()
    times: dict[str, list[float]] = {"save_file": [], "save": [], "torch.load": [], "load": []}
    for turn in range(repeats):
        tensors = {name: tensor + 1e-3 for name, tensor in tensors.items()}
        folder, place = root / f"plain{turn}", root / f"store{turn}"
        folder.mkdir()
        _settle()
        times["save_file"].append(_timed(_save_file, tensors, folder)[0])
        _settle()
        took, saved = _timed(ArtifactStore(place).save, folder)
        times["save"].append(took)
        torch.save(tensors, root / "plain.pt")
        calls: dict[str, tuple[Callable[..., Any], Any]] = {
            "torch.load": (torch.load, root / "plain.pt"),
            "load": (weight_loading.load, ArtifactStore(place).checkout(saved.id)),
        }
        for name in sorted(calls, reverse=bool(turn % 2)):
            took, found = _timed(*calls[name])
            times[name].append(took)
            assert found.keys() == tensors.keys()
        shutil.rmtree(folder)
        shutil.rmtree(place)
    for ours, peer, bound in (("save", "save_file", 1.4), ("load", "torch.load", 1.0)):
        ratio = statistics.median(a / b for a, b in zip(times[ours], times[peer], strict=True))
        mine, theirs = (1e3 * statistics.median(times[name]) for name in (ours, peer))
        print(f"{ours:<6}{mine:8.0f} ms   {peer:<12}{theirs:8.0f} ms   ratio {ratio:.2f}, at most {bound}")


def _settle() -> None:
    os.sync()
    time.sleep(0.2)


def _disk(root: Path) -> None:
    import torch

    from sft_magics.registry import ArtifactStore

    tensors, store = _network(), ArtifactStore(root / "store")
    sizes, took = [], []
    for head in range(10):
        folder = root / f"head{head}"
        folder.mkdir()
        _save_file({**tensors, "fc.weight": torch.randn(37, 2048), "fc.bias": torch.randn(37)}, folder)
        seconds, _ = _timed(store.save, folder)
        took.append(seconds)
        sizes.append(sum(path.stat().st_blocks * 512 for path in store.root.rglob("*") if path.is_file()))
        shutil.rmtree(folder)
    print(f"heads {1e3 * statistics.median(took[1:]):8.0f} ms to save one more")
    one, ten = sizes[0] / 1e6, sizes[-1] / 1e6
    print(f"disk  {one:8.1f} MB for one, {ten:.1f} MB for ten: {ten / one:.3f}, at most 1.05")


if __name__ == "__main__":
    main()
