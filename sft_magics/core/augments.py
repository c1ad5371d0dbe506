"""Random augmentations of pictures by name, as `--augment` takes them; `engine.inputs.augment` has what they do."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from sft_magics.core import errors
from sft_magics.core.tasks import IMAGE_CLASSIFICATION, IMAGE_TASKS

NONE, AUTO = "none", "auto"
CROPS: Mapping[str, str] = {
    "light": "a crop of seven tenths of the picture or more",
    "flip": "the same, mirrored half of the time",
    "strong": "a crop of a fifth or more, mirrored half of the time",
}
CHANGES: Mapping[str, str] = {
    "color": "brightness, contrast, saturation and hue drift",
    "gray": "one in five without color",
    "blur": "one in three blurred",
    "jpeg": "one in three as a poor JPEG",
    "equalize": "one in three with its histogram made even",
    "posterize": "one in three with few shades",
    "solarize": "one in three with its light parts turned over",
    "erase": "one in two with a gray rectangle",
    "rotate": "turned by up to 15 degrees",
    "affine": "turned, moved, sized and sheared a little",
    "perspective": "one in two seen from the side",
    "mirror": "one in two mirrored",
    "upside-down": "one in two turned over",
    "trivial": "one of fourteen changes at any strength (Müller and Hutter 2021)",
    "rand": "two of fourteen changes at a middling strength (Cubuk et al. 2020)",
    "augmix": "a mixture of changed pictures (Hendrycks et al. 2020)",
}
WHOLE_PICTURES = ("trivial", "rand", "augmix")  # they move pictures in ways that boxes and masks cannot follow


@dataclass(frozen=True)
class Augment:
    """What is asked for: a crop ("" for none) and then changes, in their order."""

    crop: str
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        cropped = f"cropped by chance ({self.crop})" if self.crop else ""
        changed = f"changed by chance ({', '.join(self.changes)})" if self.changes else ""
        return " and ".join(said for said in (cropped, changed) if said) or "as they are"


@functools.cache
def read(text: str) -> Augment:
    """Return what `none`, a crop, `auto` or a list such as `flip,color,erase` asks for; raises UsageProblem."""
    if text == NONE:
        return Augment("")
    if text == AUTO:
        return Augment("flip", (AUTO,))
    words = [word.strip() for word in text.split(",")]
    known = [*CROPS, *CHANGES]
    for word in words:
        if word not in known:
            hint = errors.did_you_mean(word, [*known, NONE, AUTO])
            alone = " stands alone" if word in (NONE, AUTO) else f" is not known.{hint}"
            raise errors.UsageProblem(
                f"--augment cannot be '{text}': '{word}'{alone}", f"write --augment flip,color, of {', '.join(known)}."
            )
    crops = [word for word in words if word in CROPS]
    if len(crops) > 1 or len(set(words)) < len(words):
        raise errors.UsageProblem(
            f"--augment cannot be '{text}': it takes one crop, and each change once.", "write --augment flip,color."
        )
    return Augment(crops[0] if crops else "", tuple(word for word in words if word in CHANGES))


def check(text: str, task: str) -> None:
    """Refuse words that are not known, and tasks and marks that cannot follow a change; raises UsageProblem."""
    asked = read(text)
    if task not in IMAGE_TASKS and text != NONE:
        raise errors.UsageProblem(f"--augment changes pictures, and {task} learns from texts.", "leave --augment out.")
    strange = [word for word in asked.changes if word in WHOLE_PICTURES]
    if strange and task != IMAGE_CLASSIFICATION:
        raise errors.UsageProblem(
            f"--augment {strange[0]} moves pictures in ways that boxes and masks cannot follow.",
            "write --augment auto, or for example flip,color,affine.",
        )
