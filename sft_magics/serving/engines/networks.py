"""What an engine makes of an exported network: arrays in, logits out."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Logits = NDArray[np.float32]


class Network(Protocol):
    """A loaded network; it is used in one thread, and has threads of its own beneath."""

    few_shapes: bool  # whether batches are to be filled up to sizes of a grid

    def run(self, batch: Arrays) -> Logits:
        """Return the logits of a batch, a row a row."""
