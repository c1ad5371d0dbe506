"""OpenVINO, on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np

from sft_magics.serving.engines.networks import Arrays, Logits


class OpenvinoNetwork:
    """A compiled network and one request to it, with so many threads; `bf16` computes in bfloat16.

    What was compiled is kept in the folder `compiled`, and read from there the next time.
    """

    padded = True  # each new shape makes it prepare its kernels anew

    def __init__(self, model: Path, threads: int, compiled: Path, *, bf16: bool) -> None:
        import openvino

        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(compiled), "CACHE_MODE": "OPTIMIZE_SPEED"})
        settings: dict[str, Any] = {
            # One request at a time, all threads on it: requests wait together in our own queue.
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "ENABLE_CPU_PINNING": False,  # endpoints beside each other would share one core
        }
        self._request = core.compile_model(str(model), "CPU", settings).create_infer_request()

    def run(self, batch: Arrays) -> Logits:
        """See `Network.run`."""
        found = self._request.infer(dict(batch), share_inputs=True, share_outputs=False)
        logits: Logits = np.asarray(found[0], dtype=np.float32)
        return logits


def has_bf16() -> bool:
    """Say whether this CPU computes bfloat16 in hardware, as OpenVINO sees it."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
