"""Synthetic scenes for tests: bright squares and discs on noise, with their masks and boxes."""

import json
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sft_magics.datasets.annotations.boxes import Box

CLASSES = ("ground", "square", "disc")
_COLORS = {"square": (230, 60, 40), "disc": (40, 90, 230)}


def scene(seed: int, size: tuple[int, int] = (64, 64)) -> tuple[Image.Image, Image.Image, list[Box]]:
    """A picture with one or two things, its mask, and their boxes; always the same for a seed."""
    draw = random.Random(seed)
    noise = np.random.default_rng(seed).integers(90, 140, (size[1], size[0], 3), dtype=np.uint8)
    picture, mask = Image.fromarray(noise), Image.new("L", size, 0)
    boxes = []
    for number in range(draw.randint(1, 2)):
        label = draw.choice(CLASSES[1:])
        side = draw.randint(min(size) // 4, min(size) // 3)
        left = number * size[0] // 2 + draw.randint(0, size[0] // 2 - side - 1)
        top = draw.randint(0, size[1] - side - 1)
        corners = (left, top, left + side, top + side)
        for image, ink in ((picture, _COLORS[label]), (mask, CLASSES.index(label))):
            pen = ImageDraw.Draw(image)
            (pen.rectangle if label == "square" else pen.ellipse)(corners, fill=ink)  # type: ignore[operator]
        boxes.append(Box(label, *map(float, (left, top, left + side + 1, top + side + 1))))
    return picture, mask, boxes


def masks_folder(root: Path, train: int, validation: int, size: tuple[int, int] = (64, 64)) -> Path:
    """A folder of pictures and masks with their split."""
    for part, begin, end in (("train", 0, train), ("val", train, train + validation)):
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True, exist_ok=True)
        for seed in range(begin, end):
            picture, mask, _ = scene(seed, size)
            picture.save(root / part / "images" / f"{seed:03d}.png")
            mask.save(root / part / "masks" / f"{seed:03d}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def coco(root: Path, count: int, size: tuple[int, int] = (64, 64)) -> Path:
    """A COCO file with its pictures beside it."""
    root.mkdir(parents=True, exist_ok=True)
    found = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "square"}, {"id": 3, "name": "disc"}]}
    numbers = {"square": 7, "disc": 3}
    for seed in range(count):
        picture, _, boxes = scene(seed, size)
        picture.save(root / f"{seed:03d}.png")
        found["images"].append({"id": seed, "file_name": f"{seed:03d}.png"})  # type: ignore[dict-item]
        for box in boxes:
            place = [box.left, box.top, box.right - box.left, box.bottom - box.top]
            note = {"id": len(found["annotations"]), "image_id": seed, "category_id": numbers[box.label], "bbox": place}
            found["annotations"].append(note)  # type: ignore[arg-type]
    file = root / "instances.json"
    file.write_text(json.dumps(found))
    return file
