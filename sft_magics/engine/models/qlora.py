"""QLoRA (Dettmers et al. 2023): LoRA beside a base of 4 bits a weight (NF4, double quantization), on CUDA.

transformers quantizes by bitsandbytes, which has to be installed; else it is refused in a sentence. Stored is the
base as it was in 16 bits, once for all versions, and the low-rank changes: a version answers as one of `--method lora`
does, on a base a little more exact than the one it learned beside.
"""

import copy
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from sft_magics.core import errors
from sft_magics.engine.models import tensor_files
from sft_magics.engine.models.language_models import Language


def check(options: dict[str, Any]) -> None:
    """Refuse QLoRA where it cannot run, and say what is missing; raises ModelProblem."""
    if options.get("device") == "cpu" or not torch.cuda.is_available():
        why = "--device cpu was given" if options.get("device") == "cpu" else "torch finds none here"
        raise errors.ModelProblem(f"--method qlora needs a CUDA device, and {why}.", "write --method lora.")
    if find_spec("bitsandbytes") is None:
        raise errors.ModelProblem(
            "--method qlora needs bitsandbytes, which is not installed here.",
            "pip install bitsandbytes, or write --method lora.",
        )


def quantized(found: Language, device: str = "cuda") -> tuple[Language, dict[str, torch.Tensor]]:
    """Return the language model with its linear layers in 4 bits on `device`, and its weights as they were."""
    dense = tensor_files.weights_of(found.model)
    config = copy.deepcopy(found.model.config)
    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    model = type(found.model).from_pretrained(
        None, config=config, state_dict=dict(dense), quantization_config=how, dtype=torch.bfloat16,
        device_map={"": device},
    )  # fmt: skip
    return replace(found, model=model), dense
