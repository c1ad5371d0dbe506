"""Options that many verbs share, with their words in help."""

from pathlib import Path
from typing import Annotated, Literal

from sft_magics.core.workspace import Workspace

TaskName = Literal[
    "text-classification", "image-classification", "object-detection", "semantic-segmentation", "causal-lm"
]
WorkspaceOption = Annotated[Workspace | str | Path | None, "the workspace folder, instead of the one found here"]
