"""Engines that answer without torch: what is exported is read by ONNX Runtime, or by OpenVINO."""

from collections.abc import Callable
from pathlib import Path

from sft_magics.core import errors
from sft_magics.core.runtime import cpu_count, exports
from sft_magics.serving.engines.exported import Exported
from sft_magics.serving.engines.networks import Network

__all__ = ["Exported", "load"]


def load(folder: Path, engine: str, threads: int | None = None, precision: str = "") -> Exported:
    """Load the export in `folder` with an engine of `core.runtime.exports.ENGINES` other than torch.

    `threads` None takes one a usable core. `precision` is "bf16" or "fp32", for OpenVINO; without it that of the
    engine's verdict, else "fp32". Raises ModelProblem for a folder that holds no export, and when the engine's package
    is missing.
    """
    if engine not in _MADE:
        raise errors.UsageProblem(
            f"There is no engine '{engine}' for exports.", f"choose one of {', '.join(exports.ENGINES)}."
        )
    verdict = exports.read_verdict(folder, engine)
    precision = precision or (verdict.precision if verdict is not None else "fp32")
    try:
        network = _MADE[engine](folder, threads or cpu_count.usable(), precision)
    except ImportError as error:
        raise errors.ModelProblem(
            f"The package {error.name or exports.PACKAGES[engine]} is not installed.",
            f"pip install 'sft_magics[{exports.EXTRAS[engine]}]', or write --engine torch.",
        ) from error
    return Exported(folder, network)


def _onnx(folder: Path, threads: int, precision: str) -> Network:  # noqa: ARG001 - fp32, as it was exported
    from sft_magics.serving.engines.onnx import OnnxNetwork

    return OnnxNetwork(folder / exports.MODEL, threads)


def _int8(folder: Path, threads: int, precision: str) -> Network:  # noqa: ARG001
    from sft_magics.serving.engines.onnx import OnnxNetwork

    return OnnxNetwork(folder / exports.INT8_MODEL, threads)


def _openvino(folder: Path, threads: int, precision: str) -> Network:
    from sft_magics.serving.engines.openvino import OpenvinoNetwork

    return OpenvinoNetwork(
        folder / exports.MODEL, threads, folder / exports.COMPILED / precision, bf16=precision == "bf16"
    )


_MADE: dict[str, Callable[[Path, int, str], Network]] = {
    exports.ONNX: _onnx,
    exports.INT8: _int8,
    exports.OPENVINO: _openvino,
}
