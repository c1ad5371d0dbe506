"""What the tasks are called, what their rows are, and the numbers that speak for each."""

from collections.abc import Mapping

TEXT_CLASSIFICATION = "text-classification"
IMAGE_CLASSIFICATION = "image-classification"
OBJECT_DETECTION = "object-detection"
SEMANTIC_SEGMENTATION = "semantic-segmentation"
CAUSAL_LM = "causal-lm"
TASKS = (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION, OBJECT_DETECTION, SEMANTIC_SEGMENTATION, CAUSAL_LM)
CLASSIFIERS = (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION)
IMAGE_TASKS = (IMAGE_CLASSIFICATION, OBJECT_DETECTION, SEMANTIC_SEGMENTATION)

# The metrics that a table shows of a version; the first is the one by which the best weights are chosen.
HEADLINES: Mapping[str, tuple[str, ...]] = {
    TEXT_CLASSIFICATION: ("accuracy", "f1"),
    IMAGE_CLASSIFICATION: ("accuracy", "f1"),
    OBJECT_DETECTION: ("ap50", "map"),
    SEMANTIC_SEGMENTATION: ("miou", "pixel_accuracy"),
    CAUSAL_LM: ("perplexity", "token_accuracy"),
}
# Those that an evaluation shows of each class.
PER_CLASS: Mapping[str, tuple[str, ...]] = {
    TEXT_CLASSIFICATION: ("precision", "recall", "f1"),
    IMAGE_CLASSIFICATION: ("precision", "recall", "f1"),
    OBJECT_DETECTION: ("ap50", "precision", "recall"),
    SEMANTIC_SEGMENTATION: ("iou", "precision", "recall"),
    CAUSAL_LM: (),
}

SURE_BOX = 0.4  # the confidence from which on a box is shown, and counted for precision and recall


def headlines(task: str) -> tuple[str, ...]:
    """Return the metrics that speak for a task; those of a classifier for one that is not ours."""
    return HEADLINES.get(task, HEADLINES[TEXT_CLASSIFICATION])


def per_class(task: str) -> tuple[str, ...]:
    """Return the metrics of each class; those of a classifier for a task that is not ours."""
    return PER_CLASS.get(task, PER_CLASS[TEXT_CLASSIFICATION])
