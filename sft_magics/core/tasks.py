"""What the tasks are called, and what their rows are."""

TEXT_CLASSIFICATION = "text-classification"
IMAGE_CLASSIFICATION = "image-classification"
IMAGE_TASKS = (IMAGE_CLASSIFICATION,)
