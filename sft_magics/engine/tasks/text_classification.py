"""Text classification on any Hugging Face sequence-classification base."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from sft_magics.core import errors
from sft_magics.engine.inputs import preview, tokenization
from sft_magics.engine.inputs.batching import scoring_batches
from sft_magics.engine.kernels import first_token_only
from sft_magics.engine.models import frozen_body, layer_groups, lora_adapters, pretrained, tensor_files, used_embeddings
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks import classification
from sft_magics.engine.tasks.base import Batch, Encoded, register
from sft_magics.engine.tasks.classification import Classifier, Labeled

_ROUND = 8  # lengths are padded to a multiple: few shapes, and kernels that like them
_LEARN_ROUND = 2  # on a CPU many steps pay for the kernels of more shapes: short texts lost an eighth to padding
_BLOCK = 1000
_TOKENS = 4096
_FEW = 8
_SAME = 1e-3
_NO_HEAD = "write --method full."
_FROZEN = "The encoder is frozen: each text was read once, and only what lies above the encoder learns."


@dataclass
class Texts(Labeled):
    """Token ids of each row, cut to the length limit; `over` has all ids of labeled rows that lost their end."""

    ids: list[list[int]]
    over: dict[int, list[int]]
    features: torch.Tensor | None = None  # rows x width, of an encoder that is frozen


@register("text-classification")
class TextClassification(Classifier):
    """One text, one label: cross-entropy on a fresh linear head over the encoder."""

    methods = ("full", "head", "lora")

    def __init__(self, loaded: pretrained.Pretrained, labels: list[str], limit: int, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing
        self.loaded = loaded
        self.model = loaded.model
        self.labels = labels
        self.fresh = loaded.fresh
        self.limit = limit
        self._pad = int(loaded.tokenizer.pad_token_id or 0)
        self._word = next(i for i in range(self._pad + 2) if i != self._pad)  # any token that is none of padding
        self.in_lanes = (
            first_token_only.found(self.model) is not None
        )  # other kinds may change themselves while they read
        self._encoder: nn.Module = self.model
        self._answer: Any = None  # one of the encoder's, for its form

    @classmethod
    def load(cls, start: dict[str, Any], labels: list[str], options: dict[str, Any]) -> "TextClassification":
        """Load the base with a head for `labels`; `options` may hold seed, max_length and dropout."""
        loaded = pretrained.load(start, labels, int(options.get("seed", 0)))
        loaded.model.config.pad_token_id = loaded.tokenizer.pad_token_id
        if not options.get("dropout", True):
            _without_dropout(loaded.model)
        limit = min(int(options.get("max_length", 256)), pretrained.max_length(loaded))
        made = cls(loaded, labels, limit, float(options.get("label_smoothing", 0.0)))
        made.adapt(options)
        return made

    def encode(self, inputs: Sequence[str], targets: Sequence[str] | None) -> Texts:
        """Tokenize all texts once, without padding."""
        ids: list[list[int]] = []
        for start in range(0, len(inputs), _BLOCK):
            block = list(inputs[start : start + _BLOCK])
            found = self.loaded.tokenizer(
                block, truncation=True, max_length=self.limit, return_attention_mask=False, return_token_type_ids=False
            )
            ids += [row or [self._pad] for row in found["input_ids"]]  # a tokenizer may find nothing in a text
        known = None if targets is None else classification.targets(targets, self.labels)
        lengths = [len(row) for row in ids]
        return Texts(lengths, known, ids, {} if targets is None else self._over(inputs, lengths))

    def _over(self, inputs: Sequence[str], lengths: Sequence[int]) -> dict[int, list[int]]:
        """Tokenize rows that reach the limit again, whole: some have just as many."""
        reached = [i for i, n in enumerate(lengths) if n >= self.limit]
        if not reached:
            return {}
        whole = self.loaded.tokenizer(
            [inputs[i] for i in reached], return_attention_mask=False, return_token_type_ids=False, verbose=False
        )
        return {i: list(ids) for i, ids in zip(reached, whole["input_ids"], strict=True) if len(ids) > self.limit}

    def probe(self) -> None:
        """Classify a short and a longest text, both invented."""
        device = next(self.model.parameters()).device
        self.model.eval()
        with pretrained.said_plainly(self.loaded.source), torch.no_grad():
            rows = self.encode(["A first text.", "word " * self.limit], None)
            logits = self.logits({k: v.to(device) for k, v in self.collate(rows, [0, 1]).items()})
        pretrained.check_answer(self.loaded.source, logits)

    def warnings(self, rows: Encoded) -> list[str]:
        """Say how many tokens are unknown to the base."""
        assert isinstance(rows, Texts)
        return tokenization.unknown(self.loaded.tokenizer, rows.ids, self.loaded.source)

    def unread(self, inputs: Sequence[Any], rows: Encoded) -> dict[int, int]:
        """Return how many tokens lie beyond `limit`, by the place of each text that is longer."""
        return {i: len(ids) - self.limit for i, ids in self._over(inputs, rows.lengths).items()}

    def economize(self, rows: Encoded, options: dict[str, Any]) -> None:
        """Learn only the word embeddings that the training texts use, where AdamW is to learn all weights."""
        assert isinstance(rows, Texts)
        all_learn = options.get("method", "full") == "full" and not options.get("unfreeze")
        if options.get("optimizer", "adamw") == "adamw" and all_learn:
            used_embeddings.reduce(self.model, rows.ids)

    def collate(self, rows: Encoded, indices: Sequence[int], epoch: int | None = None) -> Batch:
        """Pad the rows of one batch to their longest, rounded up."""
        assert isinstance(rows, Texts)
        if rows.features is not None:
            return self._labeled({"features": rows.features[list(indices)]}, rows, indices)
        longest = max(rows.lengths[i] for i in indices)
        learns_here = epoch is not None and next(self.model.parameters()).device.type == "cpu"
        multiple = _LEARN_ROUND if learns_here else _ROUND
        width = min(-(-longest // multiple) * multiple, max(self.limit, longest))
        ids = torch.full((len(indices), width), self._pad, dtype=torch.long)
        mask = torch.zeros((len(indices), width), dtype=torch.long)
        for row, i in enumerate(indices):
            ids[row, : rows.lengths[i]] = torch.tensor(rows.ids[i], dtype=torch.long)
            mask[row, : rows.lengths[i]] = 1
        return self._labeled({"input_ids": ids, "attention_mask": mask}, rows, indices)

    @staticmethod
    def _labeled(batch: Batch, rows: Texts, indices: Sequence[int]) -> Batch:
        if rows.targets is not None:
            batch["labels"] = torch.tensor([rows.targets[i] for i in indices], dtype=torch.long)
        return batch

    def freeze(self, rows: Encoded, chosen: Hardware, *, learned: bool) -> Texts:  # noqa: ARG002 - no chance in texts
        """Return rows whose encoder was run once, without dropout; from then on all above it learns: the pooler, where
        there is one, and the head. Raises ModelProblem for a head that reads more than one token.
        """
        assert isinstance(rows, Texts)
        found = frozen_body.encoder_of(self.model)
        if found is None:
            raise errors.ModelProblem(f"--method head finds no blocks in {type(self.model).__name__}.", _NO_HEAD)
        name, self._encoder = found
        frozen_body.only(self.model, {n for n in layer_groups.of(self.model)[-1] if not n.startswith(f"{name}.")})
        return replace(rows, lengths=[1] * len(rows.ids), features=self._features(rows, chosen))

    @torch.no_grad()
    def _features(self, rows: Texts, chosen: Hardware) -> torch.Tensor:
        """Return of each row the encoder's state at the token that the head reads."""
        self.model.eval()
        last = self._reads_last(rows, chosen)
        found = torch.empty(0)
        with chosen.autocast(), frozen_body.catching(self._encoder) as caught:
            for indices in scoring_batches(rows.lengths, _TOKENS):
                batch = {k: v.to(chosen.device) for k, v in self.collate(rows, indices).items()}
                self.logits(batch)
                read = _at(frozen_body.states(caught.pop()), batch["attention_mask"], last).float().cpu()
                if not len(found):
                    found = torch.empty(len(rows.ids), read.shape[-1])
                found[indices] = read
        return found

    def _reads_last(self, rows: Texts, chosen: Hardware) -> bool:
        """Return whether the head reads the last token, or the first: it says of that one what it says of the text."""
        batch = self.collate(rows, range(min(_FEW, len(rows.ids))))
        batch = {k: v.to(chosen.device) for k, v in batch.items()}
        with frozen_body.catching(self._encoder) as caught:  # in fp32: the two ways are to agree closely
            logits = self.logits(batch)
        self._answer = caught.pop()
        for last in (False, True):
            said = self.logits({"features": _at(frozen_body.states(self._answer), batch["attention_mask"], last)})
            if float((said - logits).abs().max()) <= _SAME * float(logits.abs().max()):
                return last
        name = type(self.model).__name__
        raise errors.ModelProblem(f"--method head is not there for {name}: its head reads all tokens.", _NO_HEAD)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return what the head says, rows x labels, float32."""
        if "features" in batch:
            features = batch["features"]
            ids = torch.full((len(features), 1), self._word, device=features.device)
            with frozen_body.playing(self._encoder, frozen_body.answer(features, self._answer)):
                output = self.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        else:
            output = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        logits: torch.Tensor = output.logits.float()
        return logits

    def save(self, folder: Path) -> None:
        """Write config, tokenizer, weights (fp32 safetensors) and our own `sft.json`: a folder transformers loads."""
        folder.mkdir(parents=True, exist_ok=True)
        self.loaded.model.config.architectures = [type(self.loaded.model).__name__]
        self.loaded.model.config.save_pretrained(folder)
        self.loaded.tokenizer.save_pretrained(folder)
        tensors = used_embeddings.whole_of(self.model, lora_adapters.merged(self.model))
        tensor_files.save_tensors(tensors, folder / "model.safetensors")
        card = {"task": self.name, "labels": self.labels, "preprocessing": self.preprocessing()}
        (folder / "sft.json").write_text(json.dumps(card, indent=1))

    def restore(self, folder: Path) -> None:
        """Put the weights of a folder that `save` wrote back into the model."""
        lora_adapters.restore(self.model, used_embeddings.take(self.model, load_file(folder / "model.safetensors")))

    def preprocessing(self) -> dict[str, Any]:
        """Return the tokenizer's class and the length limit."""
        return {"max_length": self.limit, "tokenizer": type(self.loaded.tokenizer).__name__}

    def facts(self) -> dict[str, Any]:
        """Return the size of the weights and what they can read."""
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "architecture": type(self.loaded.model).__name__,
            "max_length": pretrained.max_length(self.loaded),
            "fresh": list(self.fresh),
            "left_out": list(self.loaded.left_out),
        }

    def over(self, rows: Encoded) -> dict[int, int]:
        """Return how many tokens each text has that loses its end."""
        assert isinstance(rows, Texts)
        return {i: len(ids) for i, ids in rows.over.items()}

    def turned_back(self, rows: Encoded, batch: Batch, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the tokens of a batch's rows, and those that are cut."""
        assert isinstance(rows, Texts)
        found = []
        for place, i in enumerate(indices):
            real = batch["attention_mask"][place].bool()
            ids = batch["input_ids"][place][real].tolist()
            pieces = [preview.piece(self.loaded.tokenizer, ids, "read")]
            if i in rows.over:
                pieces.append(preview.piece(self.loaded.tokenizer, _beyond(ids, rows.over[i]), "cut"))
            note = f"{len(ids):,} tokens, filled up with {int((~real).sum()):,}"
            found.append({"label": self.labels[int(batch["labels"][place])], "pieces": pieces, "note": note})
        return found

    def remarks(self, rows: Encoded) -> list[str]:
        """Say what of the model learns; texts that lose their end are named one by one."""
        assert isinstance(rows, Texts)
        return [*lora_adapters.said(self.model), *([] if rows.features is None else [_FROZEN])]


def _beyond(read: Sequence[int], whole: Sequence[int]) -> list[int]:
    """Return what is cut: both may end in tokens of their own, such as [SEP]."""
    begun = next((n for n, (a, b) in enumerate(zip(read, whole, strict=False)) if a != b), len(read))
    return list(whole[begun : len(whole) - (len(read) - begun)])


def _at(states: torch.Tensor, mask: torch.Tensor, last: bool) -> torch.Tensor:
    """Return the states of each row's first token, or of its last (rows x width)."""
    places = mask.sum(1) - 1 if last else torch.zeros(len(mask), dtype=torch.long, device=mask.device)
    return states[torch.arange(len(mask), device=mask.device), places]


def _without_dropout(model: nn.Module) -> None:
    """Switch every dropout off: the modules, and the rates that attention functions read as plain numbers."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
