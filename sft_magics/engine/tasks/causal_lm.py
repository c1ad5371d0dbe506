"""Instruction tuning of causal language models: the loss is on the answers alone, rows are packed, LoRA by default.

`max_length` limits the rows that are trained on. A prompt that is to be answered may be as long as the model's context
less the answer (see `generation.room`).
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sft_magics.core import errors
from sft_magics.core.records import Metric
from sft_magics.core.sampling import Piece, Sampling
from sft_magics.engine.inputs import packing, tokenization
from sft_magics.engine.inputs.chats import Chat
from sft_magics.engine.models import generation, language_models, pack_isolation, pretrained, qlora, weight_loading
from sft_magics.engine.models.language_models import Language
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks import dialogue_rows
from sft_magics.engine.tasks.base import Batch, Encoded, Measured, Report, Task, register
from sft_magics.engine.tasks.dialogue_rows import Dialogues

_RESAMPLINGS = 1000
_ANSWER = 128  # tokens of an answer that is generated
_LONGEST = 2048


@register("causal-lm")
class CausalLM(Task):
    """A prompt or a chat, an answer to it: cross-entropy of the answer's tokens."""

    methods = ("lora", "qlora", "full")
    pretrained_answers = True
    thaws = False  # its head is the embeddings once more

    def __init__(self, found: Language, options: dict[str, Any]) -> None:
        self.labels: list[str] = []
        self.tokenizer = found.tokenizer
        self.source = found.source
        self.method = str(options.get("method") or ("lora" if found.adapter else "full"))
        self.rank = int(options.get("lora_rank") or 16)
        self.context = _context(found)
        self.limit = min(int(options.get("max_length") or 512), self.context)
        self.longest = int(options.get("max_new_tokens") or _ANSWER)
        self.config = found.model.config
        self.dense: dict[str, torch.Tensor] | None = None  # the weights of a base that is quantized, as they were
        if self.method == "qlora":
            found, self.dense = qlora.quantized(found)
        self.model: nn.Module = found.model
        self.fresh: tuple[str, ...] = ()
        if self.method in ("lora", "qlora"):
            self.model = language_models.adapted(found, self.rank, int(options.get("seed", 0)))
        elif found.adapter is not None:  # from a version with LoRA on: what it learned becomes part of the weights
            found.model.float()
            merged: Any = language_models.adapted(found, self.rank, 0).merge_and_unload()
            self.model = merged.requires_grad_(True)
        self.chat = Chat(self.tokenizer, self.source)
        self._packs: bool | None = None  # whether rows of a pack are apart in this model, once it was tried

    @classmethod
    def load(cls, start: dict[str, Any], labels: list[str], options: dict[str, Any]) -> "CausalLM":  # noqa: ARG003
        """Load the model and its tokenizer; `options` may hold method, lora_rank, max_length, seed."""
        return cls(language_models.load(start), options)

    @classmethod
    def check_options(cls, options: dict[str, Any]) -> None:
        """Refuse what this task has not, and QLoRA where it cannot run; raises ModelProblem."""
        super().check_options(options)
        if options.get("method") == "qlora":
            qlora.check(options)

    @classmethod
    def recipe(cls, start: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """Return LoRA with AdamW at 0.001 and batches of 8."""
        return {"method": "lora", "lr": 1e-3, "batch": 8, "weight_decay": 0.0, "max_length": 512}

    def suit(self, *, bf16: bool) -> None:
        """Keep the base in bfloat16 only where it is frozen and computed so."""
        if self.method != "qlora" and (not bf16 or self.method == "full"):
            self.model.float()

    def encode(self, inputs: Sequence[str], targets: Sequence[str] | None) -> Dialogues:
        """Tokenize prompts by the model's own chat template, and answers behind them."""
        if targets is None:
            prompts = [self._prompt(text, f"Text {i + 1:,}") for i, text in enumerate(inputs)]
            return Dialogues([len(p) + self.longest for p in prompts], prompts, None)
        self._try_packs()
        rows = Dialogues([], [], [])
        for row, (text, answer) in enumerate(zip(inputs, targets, strict=True)):
            before, earlier, lost = self._before(text)
            whole = before + self._ids(answer + self.chat.end)
            if len(whole) > self.limit:
                rows.over[row] = whole
            rows.ids.append(whole[: self.limit])
            rows.lengths.append(len(rows.ids[-1]))
            rows.starts.append(min(len(before), self.limit))  # type: ignore[union-attr] # a list, as made above
            rows.earlier.append([(a, min(b, self.limit)) for a, b in earlier if a < self.limit])
            rows.rewritten += lost
        if not any(rows.learned(row) for row in range(len(rows.ids))):
            raise errors.DataProblem(
                f"No answer is left to learn: every prompt alone reaches {self.limit} tokens.",
                f"write --max-length {2 * self.limit}, or shorten the prompts.",
            )
        return rows

    def _before(self, text: str) -> tuple[list[int], list[tuple[int, int]], int]:
        """Return the ids before the last answer, where earlier answers lie in them, and how many are not learned."""
        pieces, lost = self.chat.segments(text)
        ids: list[int] = []
        earlier = []
        for piece, learned in pieces:
            more = self._ids(piece) if piece else []
            earlier += [(len(ids), len(ids) + len(more))] if learned else []
            ids += more
        return ids, earlier, lost

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def _prompt(self, text: str, what: str, wanted: int = 0) -> list[int]:
        """Return the tokens of a prompt; raises DataProblem where it leaves no room for an answer, `wanted` tokens if
        so many were asked for.
        """
        found = self._ids(self.chat.prompt(text))
        generation.check_room(len(found), self.context, wanted, what)
        return found

    def fits(self, inputs: Sequence[str], tokens: int = 1) -> list[bool]:
        """Say of each prompt whether the model's context has room for an answer of so many tokens."""
        lengths = [len(self._ids(self.chat.prompt(text))) for text in inputs]
        return [generation.room(n, self.context, tokens) == tokens for n in lengths]

    def probe(self) -> None:
        """Answer an invented question through the template, and read it as it would be trained on; raises ModelProblem
        for a base that fails on it, or that is no causal language model.
        """
        device = next(self.model.parameters()).device
        with pretrained.said_plainly(self.source, "a causal language model", language_models.OTHER):
            if not pack_isolation.is_causal(self.model, device):
                raise errors.ModelProblem(
                    f"{self.source} is no causal language model: what it says of a token follows from those after it.",
                    language_models.OTHER,
                )
            rows = self.encode(["What is up?", "Count to three."], ["The sky.", "One, two, three."])
            with torch.no_grad():
                loss = self.loss({k: v.to(device) for k, v in self.collate(rows, [0, 1]).items()})
            self._prompt("What is up?", "A short prompt")
        pretrained.check_answer(self.source, loss)

    def _try_packs(self) -> None:
        """See once whether this model keeps rows of a pack apart: else they are padded."""
        if self._packs is None:
            self._packs = pack_isolation.packs(self.model, next(self.model.parameters()).device)

    def collate(self, rows: Encoded, indices: Sequence[int], epoch: int | None = None) -> Batch:  # noqa: ARG002
        """Return packs of rows (see `packing.packed`), or prompts that are filled up on their left."""
        assert isinstance(rows, Dialogues)
        if rows.starts is not None:
            found, starts = [rows.ids[i] for i in indices], [rows.starts[i] for i in indices]
            make = packing.packed if self._packs else packing.padded
            return make(found, starts, [rows.earlier[i] for i in indices])
        width = max(len(rows.ids[i]) for i in indices)
        ids = torch.full((len(indices), width), int(self.tokenizer.pad_token_id), dtype=torch.long)
        mask = torch.zeros(len(indices), width, dtype=torch.long)
        for row, i in enumerate(indices):
            size = len(rows.ids[i])
            ids[row, width - size :], mask[row, width - size :] = torch.tensor(rows.ids[i]), 1
        return {"input_ids": ids, "attention_mask": mask}

    def _surprise(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return of every answer's token its loss, whether the model's first choice is right, and its row."""
        labels = batch["labels"][:, 1:]
        learned = labels != packing.IGNORED
        columns = learned.any(0).nonzero()[:, 0]
        places = {name: batch[name] for name in ("position_ids", "attention_mask") if name in batch}
        said = self.model(input_ids=batch["input_ids"], use_cache=False, logits_to_keep=columns, **places)
        kept = learned[:, columns]
        logits, wanted = said.logits[kept].float(), labels[:, columns][kept]
        loss = nn.functional.cross_entropy(logits, wanted, reduction="none")
        return loss, logits.detach().argmax(-1) == wanted, batch["rows"][:, 1:][:, columns][kept]

    def weight(self, batch: Batch) -> float:
        """Return how many tokens of answers there are."""
        return float((batch["labels"][:, 1:] != packing.IGNORED).sum())

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the answers' tokens, in fp32; logits are computed for these alone."""
        loss = self._surprise(batch)[0]
        return loss.sum() / max(1, loss.numel())  # a part may have no token of an answer

    def scores(self, batch: Batch) -> list[Any]:
        """Return for each row the sum of its tokens' losses, how many there are and how many are the first choice;
        where no answer is known, the answer.
        """
        if "labels" not in batch:
            return self._generated(batch)
        loss, right, owners = self._surprise(batch)
        count = int(batch["rows"].max()) + 1
        sums = [torch.zeros(count, dtype=torch.float64, device=loss.device) for _ in range(3)]
        for total, values in zip(sums, (loss, torch.ones_like(loss), right), strict=True):
            total.index_add_(0, owners, values.double())
        columns = ([*total.cpu().tolist()] for total in sums)
        return [{"loss": a, "tokens": b, "right": c} for a, b, c in zip(*columns, strict=True)]

    def _generated(self, batch: Batch) -> list[Any]:
        """Let the model answer, always with its first choice; a prompt near the end of its context is asked alone, and
        its answer is as long as there is room.
        """
        lengths = batch["attention_mask"].sum(1).tolist()
        most = [generation.room(int(n), self.context, self.longest) for n in lengths]
        together = [i for i, room in enumerate(most) if room == self.longest]
        found: dict[int, Any] = {}
        for rows in [together, *([i] for i, room in enumerate(most) if room < self.longest)]:
            if rows:
                width = max(int(lengths[i]) for i in rows)
                part = {name: tensor[rows, -width:] for name, tensor in batch.items()}
                found.update(zip(rows, self._answers(part, most[rows[0]]), strict=True))
        return [found[i] for i in range(len(lengths))]

    def _answers(self, batch: Batch, most: int) -> list[Any]:
        width = batch["input_ids"].shape[1]
        said = self.model.generate(  # type: ignore[operator]
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=most,
            do_sample=False, temperature=None, top_p=None, top_k=None, pad_token_id=self.tokenizer.pad_token_id,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        found = []
        sure = torch.stack([step.float().log_softmax(-1).max(-1).values for step in said.logits], 1)
        for row, ids in enumerate(said.sequences[:, width:]):
            text = str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()
            real = ids != self.tokenizer.pad_token_id
            known = sure[row][real[: sure.shape[1]]]
            found.append({"text": text, "confidence": float(known.mean().exp()) if len(known) else 0.0})
        return found

    def stream(self, text: str, how: Sampling, chosen: Hardware) -> Iterator[Piece]:
        """Answer a prompt or a chat piece by piece. Raises DataProblem for one that leaves no room: for an answer as
        long as was asked for, or for any.
        """
        prompt = self._prompt(text, "The prompt", how.max_new_tokens if how.exact else 0)
        how = replace(how, max_new_tokens=generation.room(len(prompt), self.context, how.max_new_tokens))
        return generation.stream(self.model, self.tokenizer, prompt, how, chosen, self._last_tokens())

    def _last_tokens(self) -> frozenset[int]:
        """Return the tokens that end an answer."""
        known = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        found = set(known) if isinstance(known, list) else {known}
        ids = self._ids(self.chat.end)
        found |= {self.tokenizer.eos_token_id, *(ids[:1] if len(ids) == 1 else ())}
        return frozenset(int(i) for i in found if i is not None)

    def measure(self, rows: Encoded, scores: list[Any]) -> Measured:  # noqa: ARG002
        """Return perplexity and the share of tokens that are the model's first choice; less perplexity is better."""
        loss, tokens, right = (sum(score[k] for score in scores) for k in ("loss", "tokens", "right"))
        mean = loss / max(1.0, tokens)
        metrics = {"perplexity": math.exp(min(mean, 50.0)), "token_accuracy": right / max(1.0, tokens)}
        return Measured(scores, mean, math.exp(-mean), metrics, [])

    def report(self, rows: Encoded, scores: list[Any]) -> Report:  # noqa: ARG002
        """Return both with intervals from a bootstrap over the rows; the worst rows surprise most, token by token."""
        table = np.array([[score[k] for k in ("loss", "tokens", "right")] for score in scores], dtype=float)
        n = len(table)
        draws = table[np.random.default_rng(0).integers(0, n, (_RESAMPLINGS, n))].sum(1)
        whole = table.sum(0)
        with np.errstate(invalid="ignore"):  # a draw of rows without a token of an answer
            drawn = [np.exp(draws[:, 0] / draws[:, 1]), draws[:, 2] / draws[:, 1]]
        found = [
            _metric("perplexity", np.exp(whole[0] / max(1.0, whole[1])), drawn[0], n),
            _metric("token_accuracy", whole[2] / max(1.0, whole[1]), drawn[1], n),
        ]
        return Report({m.key: m for m in found}, (table[:, 0] / np.maximum(1.0, table[:, 1])).tolist())

    def save(self, folder: Path) -> None:
        """Write config, tokenizer, weights, the adapter and our own `sft.json`: transformers and peft load them."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = next(p for n, p in self.model.named_parameters() if "lora_" not in n)
        self.config.dtype = kept.dtype
        self.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        language_models.save(self.model, folder, self.dense)
        card = {"task": self.name, "labels": self.labels, "preprocessing": self.preprocessing()}
        (folder / "sft.json").write_text(json.dumps(card, indent=1))

    def restore(self, folder: Path) -> None:
        """Put the learned weights of a folder back into the model."""
        language_models.restore(self.model, folder)

    def preprocessing(self) -> dict[str, Any]:
        """Return the length limits, and how it was learned."""
        return {
            "max_length": self.limit, "max_new_tokens": self.longest, "tokenizer": type(self.tokenizer).__name__,
            "method": "full" if self.method == "full" else "lora",
            "adapter": "" if self.method == "full" else weight_loading.ADAPTER,
        }  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Return the size of the weights and what they can read."""
        return {
            "parameters": sum(p.numel() for n, p in self.model.named_parameters() if "lora_" not in n),
            "architecture": str((getattr(self.model.config, "architectures", None) or [""])[0]),
            "max_length": self.limit,
            "fresh": [],
        }

    def doubts(self, rows: Encoded, loss: float) -> list[str]:  # noqa: ARG002
        """Say nothing: there is no loss of guessing to compare with."""
        return []

    def concern(self, rows: Encoded, scores: list[Any]) -> str:
        """Say when the perplexity is not below that before training, where it was measured."""
        found = self.measure(rows, scores)
        if self.untrained is None or found.loss < self.untrained:
            return ""
        now, before = (math.exp(min(loss, 50.0)) for loss in (found.loss, self.untrained))
        return f"The perplexity of {now:.2f} on the validation rows is no better than before training ({before:.2f})."

    def remarks(self, rows: Encoded) -> list[str]:
        """Say how much is learned, and from what."""
        assert isinstance(rows, Dialogues)
        learning = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        found = [f"{learning / 1e6:.1f} M weights learn (--method {self.method}); the loss is on the answers alone."]
        if not self._packs:
            kind = str((getattr(self.config, "architectures", None) or [type(self.model).__name__])[0])
            found.append(f"Rows are padded, not packed: in {kind} a row of a pack would see the row before it.")
        if self.chat.folded:
            found.append(
                f"The chat template of {self.source} takes no system message: it goes before the first question."
            )
        if rows.rewritten:
            what = "is read and not learned" if rows.rewritten == 1 else "are read and not learned"
            found.append(
                f"{rows.rewritten:,} earlier answers {what}: the chat template writes them otherwise once more turns "
                "follow."
            )
        return found

    def over(self, rows: Encoded) -> dict[int, int]:
        """Return how many tokens each row has that loses its end."""
        assert isinstance(rows, Dialogues)
        return {i: len(ids) for i, ids in rows.over.items()}

    def turned_back(self, rows: Encoded, batch: Batch, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the tokens of a batch's rows, as they lie in its packs: what is read, what has loss, what is cut."""
        assert isinstance(rows, Dialogues)
        return dialogue_rows.shown(self.tokenizer, rows, batch, indices)

    def warnings(self, rows: Encoded) -> list[str]:
        """Say of how many rows all labels are masked: their prompts alone reach the limit."""
        assert isinstance(rows, Dialogues)
        unknown = tokenization.unknown(self.tokenizer, rows.ids, self.source)
        masked = sum(not rows.learned(row) for row in range(len(rows.ids)))
        if not masked:
            return unknown
        have = "row has" if masked == 1 else "rows have"
        share = f"{masked / len(rows.ids):.0%}"
        what = f"{masked:,} training {have} no token of an answer left ({share}): all their labels are masked"
        way_out = f"Write --max-length {2 * self.limit}, or --long skip."
        return [*unknown, f"{what}, and nothing is learned from them. {way_out}"]


def _context(found: Language) -> int:
    """Return how many tokens a prompt and its answer may have together: by the model's positions, else what its
    tokenizer says.
    """
    for name in ("max_position_embeddings", "max_seq_len", "seq_length", "context_length"):
        known = getattr(found.model.config, name, None)
        if isinstance(known, int) and known > 0:
            return known
    return min(_LONGEST, int(min(found.tokenizer.model_max_length, _LONGEST)))


def _metric(name: str, value: float, drawn: Any, n: int) -> Metric:
    known = drawn[np.isfinite(drawn)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (math.nan, math.nan)
    return Metric(name, float(value), float(low), float(high), n)
