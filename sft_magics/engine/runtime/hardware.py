"""What this machine offers: device, threads, and the number format that gains here."""

import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sft_magics.core import errors
from sft_magics.core.runtime import cpu_count


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute; `bf16` means autocast to bfloat16 around fp32 weights."""

    device: torch.device
    precision: str
    threads: int
    why: str
    free: bool = False  # the number format was ours to choose

    @property
    def bf16(self) -> bool:
        """Whether forward and backward run under bfloat16 autocast."""
        return self.precision == "bf16"

    def autocast(self) -> torch.autocast:
        """Return the autocast context of this precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def memory_mb(self) -> float:
        """Return the most memory used so far: the GPU's, else this process's."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        import resource

        unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    def facts(self) -> dict[str, str | int]:
        """Return what a version's environment records."""
        return {"device": self.name(), "precision": self.precision, "threads": self.threads}

    def name(self) -> str:
        """Return the device as a person names it."""
        if self.device.type == "cuda":
            return f"cuda ({torch.cuda.get_device_name(self.device)})"
        return f"{self.device.type} ({platform.machine()})"


def choose(device: str = "auto", precision: str = "auto", threads: int | str | None = "auto") -> Hardware:
    """Choose the settings and apply the thread count to torch; raises ModelProblem for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise errors.ModelProblem(
            "There is no CUDA device that torch can use here.", "write --device cpu, or leave it out."
        )
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    count = cpu_count.usable() if threads in ("auto", None) else int(threads or 1)
    torch.set_num_threads(count)
    if kind == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
    gains, why = _bf16_gains(kind)
    chosen = ("bf16" if gains else "fp32") if precision == "auto" else precision
    return Hardware(torch.device(kind), chosen, count, why, precision == "auto")


@contextlib.contextmanager
def repeatable(*, wanted: bool) -> Iterator[None]:
    """Let a GPU give the same bits every time, where that is wanted; a CPU's kernels do so anyway.

    Raises ModelProblem for an operation that has no such form. Has to be entered before the first product of matrices.
    """
    if not (wanted and torch.cuda.is_available()):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA's first product is computed
    conv = torch.backends.cudnn
    kept = (torch.are_deterministic_algorithms_enabled(), conv.deterministic, conv.benchmark)
    torch.use_deterministic_algorithms(True)
    conv.deterministic, conv.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        what = str(error).partition(". ")[0].partition("\n")[0]
        raise errors.ModelProblem(f"This model cannot be trained --deterministic: {what}.", "leave it out.") from error
    finally:
        torch.use_deterministic_algorithms(kept[0])
        conv.deterministic, conv.benchmark = kept[1:]


def repeatable_remarks(options: Mapping[str, Any], chosen: Hardware) -> list[str]:
    """Return a sentence where --deterministic was asked for and has nothing to change."""
    if not options.get("deterministic") or chosen.device.type != "cpu":
        return []
    return ["--deterministic changes nothing here: on a CPU every run gives the same bits anyway."]


def _bf16_gains(kind: str) -> tuple[bool, str]:
    """Say whether bfloat16 is computed in hardware here; without that, emulating it loses time."""
    if kind == "cuda":
        good = torch.cuda.is_bf16_supported(including_emulation=False)
        return good, "this GPU computes bfloat16" if good else "this GPU has no bfloat16 units"
    if kind == "mps":
        return False, "bfloat16 is not gained from on this device"
    capabilities = torch.cpu.get_capabilities()
    for name, shown in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512"), ("bf16", "Arm")):
        if capabilities.get(name):
            return True, f"this processor has {shown} bfloat16 instructions"
    return False, "this processor has no bfloat16 instructions"
