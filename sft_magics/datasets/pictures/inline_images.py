"""Pictures that exist only in memory: written once into the workspace, named by their content, for any process to read.

A cell may be a PIL image, an array of uint8 (height x width, or with 1, 3 or 4 channels), the bytes of a file, or a
dict with bytes and path, as the Hugging Face hub keeps them. Bytes stay as they are; the others become PNG.
"""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_magics.core import errors, workspace
from sft_magics.core.picture_formats import FORMATS, SUFFIXES
from sft_magics.datasets.pictures import decoding
from sft_magics.datasets.pictures.image_files import Kept, reason
from sft_magics.datasets.tables.arrow import Cell
from sft_magics.datasets.tables.table import Columns

Progress = Callable[[str, int, int], None]
_THREADS = 8
_DIGITS = 16
_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg"}
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


@dataclass(frozen=True)
class _Written:
    """The path of a cell's picture, and of one that is none a name for its row, with what is wrong with it."""

    path: str | None
    wrong: str = ""
    ours: bool = True


def unpacked(table: Columns, folder: Path | None, progress: Progress) -> Columns:
    """Return a table with paths in the place of pictures; those are written below `folder`, each once.

    Cells that hold no picture are kept in `kept.wrong`, to be refused or skipped with the files that are broken. Raises
    WorkspaceProblem where nothing can be written.
    """
    found = [name for name, cells in table.values.items() if _pictures(cells)]
    if not found or folder is None:
        return table
    values, wrong, rows = dict(table.values), dict(table.kept.wrong), dict(table.kept.rows)
    for name in found:
        made = _all(values[name], folder, progress)
        values[name] = [one.path for one in made]
        for number, one in enumerate(made, 1):
            if one.path is not None and one.ours:
                rows.setdefault(one.path, f"row {number:,}")
            if one.path is not None and one.wrong:
                wrong[one.path] = one.wrong
    return replace(table, values=values, kept=Kept(wrong, rows))


def keep(data: bytes, folder: Path) -> tuple[str, str]:
    """Write the file of a picture below `folder`, once; return its path and its SHA-256.

    Raises WorkspaceProblem where nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = str(_write(data, 1, folder).path)
        return path, hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise errors.from_os_error(error, f"writing pictures into {folder}") from error


def _pictures(cells: Sequence[Any]) -> bool:
    first = next((cell for cell in cells if cell is not None), None)
    if isinstance(first, bytes | bytearray | memoryview):
        return _opens(bytes(first))
    return _is_cell(first)


def _is_cell(value: Any) -> bool:
    """Say whether a value is a picture of one of the kinds that are no bytes alone."""
    if isinstance(value, Cell):
        return True
    if isinstance(value, Mapping):
        return set(value) == {"bytes", "path"}
    if not hasattr(value, "__array_interface__"):
        return False
    if not hasattr(value, "shape"):  # Pillow's
        return True
    return len(value.shape) == 3 or (len(value.shape) == 2 and str(value.dtype) in ("uint8", "bool"))


def _opens(data: bytes) -> bool:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)):
            return True
    except Exception:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
        return False


def _all(cells: Sequence[Any], folder: Path, progress: Progress) -> list[_Written]:
    made: list[_Written] = []
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ThreadPoolExecutor(_THREADS) as pool:
            numbers = range(1, len(cells) + 1)
            for one in pool.map(_write, cells, numbers, [folder] * len(cells)):
                made.append(one)
                if len(made) % 100 == 0 or len(made) == len(cells):
                    progress("keeping pictures", len(made), len(cells))
    except OSError as error:
        raise errors.from_os_error(error, f"writing pictures into {folder}") from error
    return made


def _write(cell: Any, row: int, folder: Path) -> _Written:
    value = cell.read() if isinstance(cell, Cell) else cell
    if value is None:
        return _Written(None)
    path = value.get("path") if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and value.get("bytes") is None:
        return _Written(str(path), ours=False) if path else _Written(None)
    try:
        data, ending = _encoded(value["bytes"] if isinstance(value, Mapping) else value)
    except Exception as error:  # noqa: BLE001 - a damaged picture can fail in any way its decoder has
        return _Written(f"row {row:,}", reason(error))
    name = hashlib.sha256(data).hexdigest()[:_DIGITS]
    place = folder / name[:2] / f"{name}{ending}"
    if place.is_file() and place.stat().st_size == len(data):
        place.touch()  # a collection of garbage leaves what was used within the last hour
    else:
        place.parent.mkdir(exist_ok=True, mode=0o700)
        workspace.write_durably(place, data)
    return _Written(str(place))


def _encoded(value: Any) -> tuple[bytes, str]:
    """Return the bytes of a file and its ending; raises whatever is wrong with the picture."""
    from PIL import Image

    if isinstance(value, bytes | bytearray | memoryview):
        with Image.open(io.BytesIO(bytes(value))) as image:
            kind = str(image.format)
            ending = _ENDINGS.get(kind, f".{kind.lower()}")
            if ending in SUFFIXES and (kind in FORMATS or kind in _ENDINGS):
                return bytes(value), ending
            return _png(image), ".png"
    return _png(value if isinstance(value, Image.Image) else _drawn(value)), ".png"


def _drawn(value: Any) -> Any:
    import numpy as np
    from PIL import Image

    array = np.asarray(value)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"its numbers are {array.dtype}; a picture's are uint8, from 0 to 255")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"its shape is {array.shape}; a picture is height x width, or with 3 or 4 channels last")
    return Image.fromarray(array)


def _png(image: Any) -> bytes:
    """Return the bytes of a PNG, upright; raises ValueError for pixels that have no agreed brightness."""
    import numpy as np
    from PIL import Image

    image.load()
    turn, buffer = decoding.orientation(image), io.BytesIO()
    if image.mode in decoding.DEEP and _fits_16_bits(image):
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    elif image.mode not in _MODES:
        image = decoding.colored(image)
    decoding.turned(image, turn).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _fits_16_bits(image: Any) -> bool:
    low, high = image.getextrema()
    return bool(low >= 0 and high <= decoding.DEEPEST)
