"""Where the pictures and text files of a YOLO folder lie, how its classes are called, and what its .yaml file says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_magics.core import errors
from sft_magics.core.picture_formats import is_picture
from sft_magics.core.records import Finding
from sft_magics.datasets import columns, naming
from sft_magics.datasets.pictures import image_files

Part = tuple[Path, Path, str | None]  # a folder of pictures, that of their boxes, the split
NAMES = ("classes.txt", "obj.names")
_PREFERRED = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_SETS = ("train", "val", "test")


@dataclass(frozen=True)
class Layout:
    """The folders with their splits, the names of the classes by number, and whether lines end in key points."""

    parts: tuple[Part, ...]
    names: Mapping[int, str]
    key_points: bool = False
    findings: tuple[Finding, ...] = ()


def fits(root: Path) -> bool:
    """Report whether a folder holds pictures and text files of boxes side by side."""
    return any(next(labels.glob("*.txt"), None) is not None for _, labels, _ in _pairs(root))


def layout(root: Path) -> Layout:
    """Return what a folder holds; raises DataProblem for files that cannot be read or that disagree."""
    config = _config(root)
    parts, found = _named_sets(root, config)
    around = tuple(_pairs(root))
    found += _unnamed(around, parts) if parts else _unfound(around, config)
    if not parts:
        _check_alike(root, around)
    numbers = _names(root, config)
    return Layout(tuple(parts) or around, numbers, bool(config.get("kpt_shape")), (*naming.joined(numbers), *found))


def _check_alike(root: Path, around: Sequence[Part]) -> None:
    """Refuse folders that are splits beside pictures of no split."""
    filled = [(images, split) for images, _, split in around if _has_pictures(images)]
    odd = [str(images.relative_to(root)) for images, split in filled if split is None]
    known = [str(images.relative_to(root)) for images, split in filled if split]
    if odd and known:
        raise errors.DataProblem(
            f"{root} holds {', '.join(known)} beside {', '.join(odd)}: splits, and pictures of no split.",
            f"move {', '.join(odd)} away, or name the folders of train and val in data.yaml.",
        )


def numbered(names: Mapping[int, str]) -> str:
    """Return which numbers are classes, for a message."""
    if sorted(names) == list(range(len(names))):
        return "from 0 on"
    return "of the numbers " + ", ".join(map(str, sorted(names)[:8])) + (", ..." if len(names) > 8 else "")


def _pairs(root: Path) -> Iterator[Part]:
    """Yield folders of pictures beside folders of labels: here, below them (`images/train`), above (`train/images`)."""
    if (root / "images").is_dir() and (root / "labels").is_dir():
        yield root / "images", root / "labels", None
        for folder in _folders(root / "images"):
            if (root / "labels" / folder.name).is_dir():
                yield folder, root / "labels" / folder.name, _split_of(folder.name)
    for folder in _folders(root):
        if (folder / "images").is_dir() and (folder / "labels").is_dir():
            yield folder / "images", folder / "labels", _split_of(folder.name)


def _folders(root: Path) -> list[Path]:
    return [f for f in sorted(root.iterdir()) if f.is_dir() and not image_files.is_hidden(f.name)]


def _split_of(name: str) -> str | None:
    """Return the split that a folder's name says, such as `train2017`."""
    return columns.SPLITS.get(name.lower().rstrip("0123456789_-"))


def _config(root: Path) -> Mapping[str, Any]:
    """Return the .yaml file that describes the data: the only one with `names`, else the one of the usual name."""
    found = {file: config for file in _yaml_files(root) if "names" in (config := _read(file))}
    usual = [found[root / name] for name in _PREFERRED if root / name in found]
    if len(found) > 1 and not usual:
        described = [config for config in found.values() if "train" in config]
        if len(described) == 1:
            return described[0]
        raise errors.DataProblem(
            f"{root} has several .yaml files with names of classes: {', '.join(file.name for file in found)}.",
            "call the right one data.yaml, or move the others away.",
        )
    return usual[0] if usual else next(iter(found.values()), {})


def _yaml_files(root: Path) -> list[Path]:
    return sorted(file for file in [*root.glob("*.yaml"), *root.glob("*.yml")] if not image_files.is_hidden(file.name))


def _read(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0]
        raise errors.DataProblem(f"{file} cannot be read: {said}.", "mend it: names: [cat, dog].") from error
    return found if isinstance(found, Mapping) else {}


def _names(root: Path, config: Mapping[str, Any]) -> dict[int, str]:
    """Return the class of each number; nothing where no file says it."""
    named = _numbers(config.get("names"))
    listed = [lines for file in _lists(root) if (lines := _lines(file))]
    for lines in listed:
        if named and lines != named:
            raise errors.DataProblem(
                f"The .yaml file of {root} and its classes.txt name the classes otherwise.", "remove one of the two."
            )
    return named or (listed[0] if listed else {})


def _lists(root: Path) -> list[Path]:
    places = [root, *(labels for _, labels, _ in _pairs(root))]
    return [place / name for place in places for name in NAMES if (place / name).is_file()]


def _lines(file: Path) -> dict[int, str]:
    lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    try:
        return {number: naming.cleaned(line) for number, line in enumerate(lines)}
    except ValueError as error:
        raise errors.DataProblem(f"{file} has an empty line between classes.", "remove it: a line a class.") from error


def _numbers(named: Any) -> dict[int, str]:
    """Return names by number, of a list, or of a dict whose keys are numbers or their texts."""
    try:
        if isinstance(named, Mapping):
            return {int(key): naming.cleaned(name) for key, name in named.items()}
        return {number: naming.cleaned(name) for number, name in enumerate(named or ())}
    except (ValueError, TypeError) as error:
        raise errors.DataProblem(
            f"The names of the classes cannot be read: {str(named)[:80]}.", "write names: [cat, dog]."
        ) from error


def _named_sets(root: Path, config: Mapping[str, Any]) -> tuple[list[Part], list[Finding]]:
    """Return the folders that `train`, `val` and `test` name, where all of these are there; else none."""
    given = {split: config[split] for split in _SETS if config.get(split)}
    places = {s: _places(root, config, v if isinstance(v, list) else [v]) for s, v in given.items()}
    if "train" not in places or any(place is None for found in places.values() for place in found):
        return [], []
    parts: list[Part] = []
    findings: list[Finding] = []
    seen: dict[Path, str] = {}
    for split, found in places.items():
        for place in filter(None, found):
            if place in seen:
                message = f"{split} names the same folder as {seen[place]}: its rows are split by us."
                findings.append(Finding("warning", "same_folder", message))
                parts = [(a, b, None if a == place else c) for a, b, c in parts]
                continue
            seen[place] = split
            parts.append((place, _labels_of(place), columns.SPLITS[split]))
    return parts, findings


def _unnamed(around: Sequence[Part], parts: Sequence[Part]) -> list[Finding]:
    """Return a finding on folders of pictures that the .yaml file does not name."""
    known = {images for images, _, _ in parts}
    others = [images for images, _, _ in around if images not in known and _has_pictures(images)]
    if not others:
        return []
    named = ", ".join(f"{images.parent.name}/{images.name}" for images in others)
    message = f"The .yaml file does not name {named}: their pictures were left out."
    return [Finding("warning", "unnamed_folder", message)]


def _unfound(around: Sequence[Part], config: Mapping[str, Any]) -> list[Finding]:
    """Return a finding where the .yaml file names sets that are not here, and no folder's name says a split."""
    given = [split for split in _SETS if config.get(split)]
    if len(given) < 2 or any(split for _, _, split in around):
        return []
    message = f"The folders that the .yaml file names for {' and '.join(given)} are not here: the rows are split by us."
    return [Finding("warning", "unfound_sets", message)]


def _has_pictures(folder: Path) -> bool:
    return any(is_picture(f.name) and not image_files.is_hidden(f.name) for f in folder.iterdir())


def _places(root: Path, config: Mapping[str, Any], values: list[Any]) -> list[Path | None]:
    """Return the folder of each value with its labels beside it; None for what is no such folder here."""
    base = root / str(config.get("path") or ".")
    found = []
    for value in values:
        tried = [(one / str(value)).resolve() for one in (base, root)]
        found.append(next((p for p in tried if p.is_dir() and root in p.parents and _labels_of(p).is_dir()), None))
    return found


def _labels_of(images: Path) -> Path:
    """Return where the labels of a folder of pictures lie: its last `images` is `labels`."""
    parts = list(images.parts)
    places = [i for i, part in enumerate(parts) if part == "images"]
    if not places:
        return images / "labels"
    parts[places[-1]] = "labels"
    return Path(*parts)
