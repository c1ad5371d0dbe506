"""torch.compile around a model, where it pays; whatever goes wrong with it, the run goes on without.

Compiled in place: tensors keep their names. One graph serves all lengths of texts, and each size of a batch of pictures
has its own, so that what a step computes depends on its batch alone, not on those before it: a run that is taken up
gives the weights of one that was not.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

# Measured with one thread of an AMX processor, CPU time of a step, as it is and compiled: MiniLM in bfloat16 0.43 s and
# 0.46 s, in fp32 0.84 s and 0.91 s; ResNet-50 at 224 pixels in bfloat16 2.1 s and 2.3 s. Nothing is gained there that
# would pay for a minute of compiling.
NO_GAIN = "on a CPU compiled steps were no faster than others where it was measured"


def why_not(device: torch.device) -> str:
    """Return what is missing for compiling on this device, or an empty string."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "Triton is not there, which writes code for GPUs"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError):
        return "there is no C++ compiler on this machine (g++ or clang++)"
    return ""


def start(model: nn.Module, lengths: Sequence[int]) -> None:
    """Let the model be compiled when it is called next; `lengths` are those of the rows it will see."""
    from torch.fx.experimental import _config

    _config.use_duck_shape = False  # 32 rows of 32 tokens are no reason for a graph in which both are always alike
    model.compile(dynamic=len(set(lengths)) > 1)


def stop(model: nn.Module) -> None:
    """Let the model run as it is from now on, and drop what was compiled, which holds on to it."""
    if running(model):
        model._compiled_call_impl = None
        torch._dynamo.reset()


def running(model: nn.Module) -> bool:
    """Say whether the model is compiled."""
    return model._compiled_call_impl is not None


@contextlib.contextmanager
def paused(model: nn.Module) -> Iterator[None]:
    """Run the model as it is for a while: reading without learning would need graphs of its own."""
    compiled, model._compiled_call_impl = model._compiled_call_impl, None
    try:
        yield
    finally:
        model._compiled_call_impl = compiled
