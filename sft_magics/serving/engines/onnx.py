"""ONNX Runtime, on the CPU."""

from pathlib import Path

import numpy as np

from sft_magics.serving.engines.networks import Arrays, Logits

_CPU = "CPUExecutionProvider"


class OnnxNetwork:
    """A session of ONNX Runtime with so many threads."""

    few_shapes = False

    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)  # errors
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait in a loop keep the core from whoever else runs there; asleep they cost little.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A shape's plan of memory is kept for good otherwise, and texts come in many shapes.
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(str(model), options, providers=[_CPU])
        self._run = onnxruntime.RunOptions()

    def run(self, batch: Arrays) -> Logits:
        """See `Network.run`."""
        found: Logits = np.asarray(self._session.run(None, dict(batch), self._run)[0], dtype=np.float32)
        return found
