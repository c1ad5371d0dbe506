"""From a source of images to clean rows: a folder of classes, a table of paths, or a packaged sample."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.picture_formats import is_picture
from sft_magics.core.records import Finding
from sft_magics.datasets.naming import counted
from sft_magics.datasets.pictures import class_folders, decoding, image_files
from sft_magics.datasets.pictures.image_files import NONE_KEPT, ImageProbe, Kept
from sft_magics.datasets.tables.table import Columns

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded, Progress

BROKEN = ("refuse", "skip")
_NAMED = 5
_DARK = 8_192  # of 65,535: gray of 16 bits that never passes an eighth was most likely meant for fewer bits
_SIDE = 10_000  # rows of a table are judged by their first few


def is_folder(source: Any) -> bool:
    """Say whether a source is a folder that is there."""
    return isinstance(source, str | Path) and Path(source).expanduser().is_dir()


def paths_in(table: Columns, name: str) -> bool:
    """Say whether the cells of a column are the names of image files."""
    known = [
        v for v in table.values[name][:_SIDE] if v is not None and not (isinstance(v, str) and v in table.kept.wrong)
    ]
    return bool(known) and all(isinstance(v, str) and is_picture(v.strip()) for v in known)


def load_folder(source: str | Path, broken: str, progress: "Progress") -> "Loaded":
    """Load `FOLDER/class/image.jpg`, with train, val and test above or below the classes if they are there.

    Raises DataProblem for a folder that is laid out otherwise, and for broken images unless they are to be skipped.
    """
    found = class_folders.read(Path(source).expanduser().resolve(), str(source))
    loaded = _looked_at(str(source), found.rows, broken, progress)
    return replace(loaded, findings=(*found.findings, *loaded.findings), empty_classes=found.empty)


def base_of(source: Any) -> Path:
    """Return where the relative paths of a table begin: where it lies itself, else in the working folder."""
    return Path(source).expanduser().resolve().parent if isinstance(source, str | Path) else Path.cwd()


def placed(cell: str, base: Path, kept: Kept) -> str:
    """Return the path that a cell names; what stands for a cell without a picture stays as it is."""
    return cell if cell in kept.wrong else str(base / Path(cell.strip()).expanduser())


def resolve(loaded: "Loaded", table: Columns, source: Any, broken: str, progress: "Progress") -> "Loaded":
    """Turn the rows of a table whose texts are paths into images; relative paths begin where the table lies."""
    base = base_of(source)
    paths = [placed(text, base, table.kept) for text in loaded.texts]
    rows = list(zip(paths, loaded.labels, loaded.splits, strict=True))
    found = _looked_at(loaded.source, rows, broken, progress, table.kept)
    return replace(
        found, columns=loaded.columns, findings=(*loaded.findings, *found.findings), empty_classes=loaded.empty_classes
    )


def _looked_at(
    where: str,
    rows: Sequence[tuple[str, str, str | None]],
    broken: str,
    progress: "Progress",
    kept: Kept = NONE_KEPT,
) -> "Loaded":
    from sft_magics.datasets.loaded import Loaded

    looks = image_files.look_at([path for path, _, _ in rows], progress, kept)
    wrong = [look for look in looks if look.wrong]
    if wrong and broken != "skip":
        raise broken_images(where, wrong, kept)
    if len(wrong) == len(rows):
        raise errors.DataProblem(f"None of the {len(rows):,} images of {where} can be read.", "look at the files.")
    good = [(row, look) for row, look in zip(rows, looks, strict=True) if not look.wrong]
    return Loaded(
        source=where,
        texts=[row[0] for row, _ in good],
        labels=[row[1] for row, _ in good],
        splits=[row[2] for row, _ in good],
        columns={},
        findings=(*left_out(wrong, kept), *notes([look for _, look in good])),
        hashes=[look.sha256 for _, look in good],
        sides=[min(look.width, look.height) for _, look in good],
        pixels=[look.pixels for _, look in good],
        task="image-classification",
    )


def _listed(wrong: Sequence[ImageProbe], kept: Kept) -> str:
    shown = "; ".join(f"{kept.named(look.path)} ({look.wrong})" for look in wrong[:_NAMED])
    return shown + (f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else "")


def broken_images(where: str, wrong: Sequence[ImageProbe], kept: Kept = NONE_KEPT) -> errors.DataProblem:
    """Return the error that names files which cannot be used."""
    noun = "file" if len(wrong) == 1 else "files"
    return errors.DataProblem(
        f"{len(wrong):,} {noun} of {where} cannot be used: {_listed(wrong, kept)}.",
        "mend or remove them, or add --broken skip to leave them out.",
    )


def left_out(wrong: Sequence[ImageProbe], kept: Kept = NONE_KEPT) -> tuple[Finding, ...]:
    """Return a finding that names the files which were left out."""
    if not wrong:
        return ()
    verb = "image was" if len(wrong) == 1 else "images were"
    return (Finding("warning", "broken_images", f"{len(wrong):,} broken {verb} left out: {_listed(wrong, kept)}."),)


def notes(looks: Sequence[ImageProbe]) -> tuple[Finding, ...]:
    """Return what a person should know of pictures as they were decoded."""
    found = []
    deep = [look.deep for look in looks if look.deep]
    if deep and max(deep) < _DARK:
        message = (
            f"{counted(len(deep), 'picture holds', 'pictures hold')} gray of 16 bits, at most {max(deep):,} of "
            f"{decoding.DEEPEST:,}: they are seen nearly black. Scale them to the whole range first."
        )
        found.append(Finding("warning", "dark", message))
    pages = sum(look.pages for look in looks)
    if pages:
        message = f"{counted(pages, 'file holds', 'files hold')} several pictures: the first of each is used."
        found.append(Finding("info", "pages", message))
    return tuple(found)
