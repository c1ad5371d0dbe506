"""A trained version as a network in ONNX, for endpoints without torch.

The graph goes from prepared inputs to logits, in fp32; its answers are made outside of it, in fp32 too. Batch and
length, or height and width, are left open. `core.runtime.exports` says what lies in the folder.
"""

import contextlib
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from sft_magics.core import errors
from sft_magics.core.runtime import exports
from sft_magics.core.runtime.exports import Card
from sft_magics.core.tasks import IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION
from sft_magics.core.workspace import sync_folder
from sft_magics.engine import tasks
from sft_magics.engine.kernels import first_token_only, unpadded_encoder
from sft_magics.engine.tasks.text_classification import TextClassification

_ROWS, _TOKENS = 2, 16  # of the example that the graph is traced with
_TORCH = "write --engine torch."


def export(folder: Path, target: Path) -> Card:
    """Export the version in `folder` into the folder `target`, which appears whole or not at all; return its card.

    Raises ModelProblem for a task that is not exported, and where the network is not.
    """
    stored = json.loads((folder / "sft.json").read_text())
    if why := exports.refusal(stored["task"]):
        raise errors.ModelProblem(f"{why[0].upper()}{why[1:]}.", _TORCH)
    task = tasks.find(stored["task"]).load(
        {"kind": "folder", "path": str(folder)}, list(stored["labels"]), stored["preprocessing"]
    )
    task.model.eval()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        preprocessing = dict(stored["preprocessing"])
        if isinstance(task, TextClassification):
            preprocessing |= _tokenizer(task, folder, staging)
        preprocessing |= _write(task, preprocessing, staging / exports.MODEL)
        card = Card(stored["task"], tuple(stored["labels"]), preprocessing)
        exports.write_card(staging, card)
        shutil.rmtree(target, ignore_errors=True)  # whatever is there is not whole
        staging.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise errors.from_os_error(error, f"exporting to {target.name}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return card


def _tokenizer(task: TextClassification, folder: Path, staging: Path) -> dict[str, Any]:
    """Copy what the library `tokenizers` reads; return what it is not told there."""
    if not (folder / exports.TOKENIZER).is_file():
        name = type(task.loaded.tokenizer).__name__
        raise errors.ModelProblem(f"The tokenizer {name} is written in Python: it has no {exports.TOKENIZER}.", _TORCH)
    shutil.copyfile(folder / exports.TOKENIZER, staging / exports.TOKENIZER)
    tokenizer = task.loaded.tokenizer
    return {"pad_id": int(tokenizer.pad_token_id or 0), "truncation": str(tokenizer.truncation_side)}


class _Texts(nn.Module):
    """Token ids and mask (rows x length, int64) -> logits (rows x labels)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


class _Pictures(nn.Module):
    """Pictures (rows x height x width x 3, uint8) -> logits."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, preprocessing: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(preprocessing[name]).view(3, 1, 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        prepared = (pictures.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        logits: torch.Tensor = self.model(prepared)
        return logits


def _write(task: tasks.Task, preprocessing: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write the network; return what of the preprocessing is the network's own affair."""
    graph, example, shapes = _traced(task, preprocessing)
    with _quiet(), torch.no_grad():
        try:
            torch.onnx.export(
                graph.eval(), tuple(example.values()), path, input_names=list(example), output_names=["logits"],
                dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False,
            )  # fmt: skip
        except (MemoryError, OSError):
            raise
        except Exception as error:  # whatever network it is, the exporter's own steps can fail in any way
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
            raise errors.ModelProblem(f"torch cannot export this network ({first}).", _TORCH) from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    if isinstance(graph, unpadded_encoder.Unpadded):
        return {exports.UNPADDED: True, exports.UNCOUNTED: graph.uncounted}
    return {}


def _traced(
    task: tasks.Task, preprocessing: dict[str, Any]
) -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, dict[int, Any]]]:
    """Return the graph, an example by the names of the inputs, and which of their sides are open."""
    rows = Dim("rows")
    if task.name == TEXT_CLASSIFICATION:
        return _texts(task.model, torch.full((_ROWS, _TOKENS), int(preprocessing["pad_id"]) + 1))
    side = int(preprocessing["image_size"])
    graph = _Pictures(task.model, preprocessing)
    if task.name == IMAGE_CLASSIFICATION:
        return graph, _pictures(side, side), {"pictures": {0: rows}}
    _pad_ahead(task.model)
    return graph, _pictures(64, 96), {"pictures": {0: rows, 1: 32 * Dim("down"), 2: 32 * Dim("across")}}


def _texts(model: nn.Module, ids: torch.Tensor) -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, dict[int, Any]]]:
    rows, tokens, length = Dim("rows"), Dim("tokens"), Dim("length")
    if (quick := unpadded_encoder.unpadded(model)) is not None:
        mask = torch.ones_like(ids)
        mask[-1, -1] = 0  # else as many tokens as there are places look like a rule
        example = unpadded_encoder.laid_out(ids, mask, quick.uncounted)
        sides = {name: {0: tokens} if found.ndim == 1 else {0: rows, 1: length} for name, found in example.items()}
        return quick, example, sides
    first_token_only.quicken(model)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return _Texts(model), example, {name: {0: rows, 1: length} for name in example}


def _pictures(high: int, wide: int) -> dict[str, torch.Tensor]:
    return {"pictures": torch.randint(0, 256, (_ROWS, high, wide, 3), dtype=torch.uint8)}


def _pad_ahead(model: nn.Module) -> None:
    """Let timm's convolutions that pad as they read pad always alike, as they do where sides are multiples of 32.

    What they compute of open sides takes the exporter more than ten minutes to see through.
    """
    for parent in list(model.modules()):
        for name, found in list(parent.named_children()):
            if type(found).__name__ == "Conv2dSame" and isinstance(found, nn.Conv2d):
                setattr(parent, name, _padded(found))


def _padded(conv: nn.Conv2d) -> nn.Module:
    (high, wide), (down, across), (far_down, far_across) = conv.kernel_size, conv.stride, conv.dilation
    rows, columns = max(0, (high - 1) * far_down + 1 - down), max(0, (wide - 1) * far_across + 1 - across)
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, (high, wide), groups=conv.groups, bias=conv.bias is not None)
    plain.stride, plain.dilation = conv.stride, conv.dilation
    plain.weight, plain.bias = conv.weight, conv.bias
    return nn.Sequential(nn.ZeroPad2d((columns // 2, -(-columns // 2), rows // 2, -(-rows // 2))), plain)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from talking of its own affairs."""
    names = ("", "torch.onnx", "onnxscript", "torch.export", "onnx_ir")  # the first is the root, which some talk to
    kept = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in kept.items():
            logging.getLogger(name).setLevel(level)


def quantize(folder: Path) -> None:
    """Write the network of an export with 8-bit weights beside it, if it is not there.

    The numbers between its layers are rounded with a scale that is found anew in each batch, so what it says of a row
    depends a little on which others are asked with it.
    """
    if (folder / exports.INT8_MODEL).is_file():
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    aside = folder / f".{exports.INT8_MODEL}"
    with _quiet():
        # Products of matrices and tables: convolutions in 8 bits took ten times as long, and said something else.
        quantize_dynamic(
            folder / exports.MODEL, aside, ["MatMul", "Gemm", "Gather"], weight_type=QuantType.QInt8, per_channel=True
        )
    aside.replace(folder / exports.INT8_MODEL)
    sync_folder(folder)
