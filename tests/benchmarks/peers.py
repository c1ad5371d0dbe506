"""Trainers that others use, as sides of a benchmark: so many steps of each, timed from the end of its first one.

They live in an environment of their own (`make bench-engine`), beside this package. What they do before the first step
ends and after the last is not counted; each trains on the same rows, files and changes as the plain loop.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Clock = Callable[[], float]
Side = Callable[[int, Clock], tuple[float, float]]  # steps, clock -> seconds, and units of work done in them


def trainer(make: Callable[[Path, int], Any], folder: Path, units: Callable[[int], float] | None = None) -> Side:
    """Return a side that lets `make(folder, steps)` build a Trainer; `units(step)` is the work of a step (from 0)."""

    def side(steps: int, clock: Clock) -> tuple[float, float]:
        from transformers import TrainerCallback

        stamps: list[float] = []

        class Watch(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                stamps.append(clock())

        made = make(folder, steps + 1)
        made.add_callback(Watch())
        made.train()
        work = float(steps) if units is None else sum(units(step) for step in range(1, steps + 1))
        return stamps[-1] - stamps[0], work

    return side


def hugging_face(rows: Any, model: Any, batch: int, folder: Path) -> Side:
    """Return the Hugging Face Trainer in bf16 with SGD on a data set of (picture, class)."""
    import torch
    from transformers import Trainer, TrainingArguments

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, pictures: Any, labels: Any) -> dict[str, Any]:
            logits = self.inner(pictures).float()
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    def collate(items: list[Any]) -> dict[str, Any]:
        return {"pictures": torch.stack([p for p, _ in items]), "labels": torch.tensor([c for _, c in items])}

    whole = Loss()

    def make(place: Path, steps: int) -> Any:
        recipe = TrainingArguments(
            str(place / "hf"), max_steps=steps, per_device_train_batch_size=batch, learning_rate=1e-3, use_cpu=True,
            bf16=True, optim="sgd", optim_args="momentum=0.9", max_grad_norm=0.0, lr_scheduler_type="constant",
            save_strategy="no", logging_steps=10, report_to=[], disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        return Trainer(whole, recipe, train_dataset=rows, data_collator=collate)

    return trainer(make, folder)


def fastai(rows: Any, model: Any, batch: int) -> Side:
    """Return a fastai Learner (fp32, as it comes) with SGD on a data set of (picture, class)."""
    import torch
    from fastai.callback.core import Callback, CancelFitException
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.optimizer import SGD

    def side(steps: int, clock: Clock) -> tuple[float, float]:
        stamps: list[float] = []

        class Watch(Callback):  # type: ignore[misc]
            def after_batch(self) -> None:
                stamps.append(clock())
                if len(stamps) > steps:
                    raise CancelFitException

        loaders = DataLoaders.from_dsets(rows, rows, bs=batch, num_workers=0, device=torch.device("cpu"))
        learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), opt_func=SGD, moms=(0.9, 0.9, 0.9))
        with learner.no_logging():
            learner.fit(1, 1e-3, cbs=[Watch()])
        return stamps[-1] - stamps[0], float(steps)

    return side


def trl(pairs: list[dict[str, str]], load: Callable[[], tuple[Any, Any]], rank: int, folder: Path) -> Side:
    """Return TRL's SFTTrainer: packed, bf16, LoRA on all linear layers, the loss on answers; a unit is a token."""
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    model, tokenizer = load()
    tokens: list[float] = []

    def make(place: Path, steps: int) -> Any:
        tokens.clear()
        recipe = SFTConfig(
            str(place / "trl"), max_steps=steps, per_device_train_batch_size=1, learning_rate=1e-3, use_cpu=True,
            bf16=True, packing=True, max_length=512, completion_only_loss=True, gradient_checkpointing=False,
            save_strategy="no", logging_steps=10, report_to=[], disable_tqdm=True,
        )  # fmt: skip
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        whole = model if hasattr(model, "peft_config") else None
        made = SFTTrainer(
            whole or model, recipe, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer,
            peft_config=None if whole else lora,
        )  # fmt: skip
        inner = made.data_collator

        def counting(items: list[Any]) -> Any:
            tokens.append(float(sum(len(item["input_ids"]) for item in items)))
            return inner(items)

        made.data_collator = counting
        return made

    return trainer(make, folder, lambda step: tokens[step])
