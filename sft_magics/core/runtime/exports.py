"""The folder of an exported version: all that an endpoint without torch needs.

export.json      task, labels, preprocessing (see `Card`)
model.onnx       the network, fp32: from prepared inputs to logits
int8.onnx        the same with 8-bit weights, where someone asked for it
tokenizer.json   of texts
ENGINE.json      how far the answers of an engine were from torch's (see `AgreementReport`)
refused.json     in the place of all others: why the version could not be exported
compiled/        by precision, what OpenVINO made of the network, so that a second start is quick

A network of texts that is `UNPADDED` reads the tokens of all rows one behind the other: `input_ids` and `positions` of
each, `token_at` (rows x length of the longest: which token is there, -1 for none), and `place_of` (of each token its
place in `token_at`, counted through). Positions count from 0 in each row; where an id is `UNCOUNTED`, as RoBERTa's
padding is, they begin after it, and such tokens have that one. Any other network reads `input_ids` and
`attention_mask`, rows x length.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_magics.core import errors
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_CLASSIFICATION, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.core.tasks import TEXT_CLASSIFICATION as TEXTS
from sft_magics.core.workspace import Workspace, write_durably

CARD, MODEL, INT8_MODEL, TOKENIZER, COMPILED = "export.json", "model.onnx", "int8.onnx", "tokenizer.json", "compiled"
UNPADDED, UNCOUNTED = "unpadded", "uncounted"  # in the preprocessing of a card
_REFUSED = "refused.json"
EXPORTER = 2  # raise it when what is exported changes: old exports are then made anew

TORCH, ONNX, INT8, OPENVINO = "torch", "onnx", "onnx-int8", "openvino"
ENGINES = (TORCH, ONNX, INT8, OPENVINO)
TORCH_FP32, TORCH_BF16 = "torch-fp32", "torch-bf16"  # torch in a number format that is not this machine's own choice
PRECISIONS = {TORCH: "auto", TORCH_FP32: "fp32", TORCH_BF16: "bf16"}  # of torch, by the engine's name
LADDER = (OPENVINO, ONNX)  # what `auto` tries before torch; int8 only answers who asks for it
PACKAGES = {ONNX: "onnxruntime", INT8: "onnxruntime", OPENVINO: "openvino"}
EXPORTER_PACKAGES = ("onnx", "onnxscript")
EXTRAS = {ONNX: "onnx", INT8: "onnx", OPENVINO: "openvino"}

_TASKS = (TEXTS, IMAGE_CLASSIFICATION, SEMANTIC_SEGMENTATION)
_NOT = {
    OBJECT_DETECTION: "boxes come out of a selection that runs in torch",
    CAUSAL_LM: "a text is written token by token, with torch's memory of those before",
}


@dataclass(frozen=True)
class Card:
    """What an engine needs to know besides the network."""

    task: str
    labels: tuple[str, ...]
    preprocessing: dict[str, Any]  # the version's own; of texts also pad_id, truncation, and whether unpadded


@dataclass(frozen=True)
class AgreementReport:
    """How far an engine's answers to `rows` real rows were from torch's in fp32.

    `largest` is the largest absolute difference of two probabilities, `changed` the share of rows (of masks: the
    largest share of a picture's pixels) with another label, where that is not a matter of a tie within the tolerance.
    `precision` is what the engine computes in, "bf16", "fp32" or "int8". `ms` is the median time of one row.
    """

    engine: str
    agrees: bool
    largest: float
    changed: float
    rows: int
    tolerance: float
    precision: str
    ms: float
    library: str

    @property
    def said(self) -> str:
        """What was found, in words."""
        rows = f"{self.rows:,} row{'s' * (self.rows != 1)}"
        return f"its answers to {rows} differ from torch's by {self.largest:.1g} at most ({self.precision})"


def refusal(task: str) -> str:
    """Return why versions of a task are not exported, an empty string where they are."""
    if task in _TASKS:
        return ""
    return f"{task} is not exported: {_NOT.get(task, 'it is not one of our tasks')}"


def folder_of(ws: Workspace, artifact: str) -> Path:
    """Return where the export of an artifact belongs."""
    return ws.exports / f"{artifact[:32]}-{EXPORTER}"


def write_card(folder: Path, card: Card) -> None:
    """Write the card of an export, durably: an export with a card is whole."""
    write_durably(folder / CARD, json.dumps(asdict(card), indent=1).encode())


def read_card(folder: Path) -> Card:
    """Return the card of an export; raises ModelProblem."""
    try:
        found = json.loads((folder / CARD).read_text(encoding="utf-8"))
        return Card(str(found["task"]), tuple(found["labels"]), dict(found["preprocessing"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.ModelProblem(
            f"{folder} holds no exported version ({error}).", "%sft_deploy REF makes it anew."
        ) from error


def write_verdict(folder: Path, verdict: AgreementReport) -> None:
    """Write what was found of an engine, durably."""
    write_durably(folder / f"{verdict.engine}.json", json.dumps(asdict(verdict), indent=1).encode())


def read_verdict(folder: Path, engine: str, library: str = "") -> AgreementReport | None:
    """Return what was found of an engine, None where nothing was, or with another release of its library."""
    try:
        found = AgreementReport(**json.loads((folder / f"{engine}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if library in ("", found.library) else None


def write_refusal(folder: Path, why: str, exporter: str) -> None:
    """Write down why a version could not be exported, and by which releases of torch and the others."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(folder / _REFUSED, json.dumps({"why": why, "exporter": exporter}).encode())


def read_refusal(folder: Path, exporter: str) -> str:
    """Return why a version could not be exported by these releases, an empty string where nothing is known of it."""
    try:
        found = json.loads((folder / _REFUSED).read_text(encoding="utf-8"))
        return str(found["why"]) if found["exporter"] == exporter else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def best(scores: Sequence[float]) -> int:
    """Return the place of the highest of some scores."""
    return max(range(len(scores)), key=scores.__getitem__)
