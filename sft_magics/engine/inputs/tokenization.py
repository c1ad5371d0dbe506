"""Tokenizers of a base, and whether they belong to its weights.

A folder without tokenizer files still gives a tokenizer, whose only tokens are special ones: every word is unknown to
it. A tokenizer with more tokens than the model has embeddings ends in an index error at the first text that uses one.
Both are refused before anything is trained.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sft_magics.core import errors

_HIGH, _ALL = 0.05, 0.9  # shares of unknown tokens: said from the first on, refused from the second on
_SHOWN = 3
_PADDING = ("eos_token", "unk_token", "sep_token", "bos_token", "cls_token")


def load(path: str | Path, *, local: bool) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder or hub id, with a token for padding.

    Raises ModelProblem where it has no vocabulary, and what the library raises for files that cannot be read.
    """
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        path, local_files_only=local, trust_remote_code=False
    )
    special = set(found.all_special_tokens)
    if all(token in special for token in found.get_vocab()):
        raise errors.ModelProblem(
            f"{path} has no tokenizer: its vocabulary holds special tokens alone.",
            "save the tokenizer beside the weights (tokenizer.save_pretrained), or name another base.",
        )
    return found


def check_embeddings(path: str | Path, tokenizer: PreTrainedTokenizerBase, model: Any) -> None:
    """Refuse a tokenizer with tokens that the model has no embeddings for, and let another token fill up rows where
    padding alone has none; raises ModelProblem.
    """
    get = getattr(model, "get_input_embeddings", None)
    rows = getattr(get() if get is not None else None, "num_embeddings", None)
    if rows is not None:
        beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
        if set(beyond) == {tokenizer.pad_token}:
            tokenizer.pad_token = None
            beyond = {}
        if beyond:
            named = ", ".join(sorted(beyond, key=beyond.__getitem__)[:_SHOWN]) + ", ..." * (len(beyond) > _SHOWN)
            raise errors.ModelProblem(
                f"The tokenizer of {path} does not fit its weights: of {len(beyond):,} tokens ({named}) there is no "
                f"embedding among {rows:,}.",
                "save the model again after model.resize_token_embeddings(len(tokenizer)), or name another base.",
            )
    if tokenizer.pad_token_id is None:
        _choose_padding(tokenizer)


def _choose_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a token that is there fill up rows: decoders often come without one for it. Its places are masked."""
    known = (getattr(tokenizer, name, None) for name in _PADDING)
    tokenizer.pad_token = next((t for t in known if t is not None), None) or tokenizer.convert_ids_to_tokens(0)


def unknown(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Sequence[int]], source: str) -> list[str]:
    """Return a sentence where many tokens of training rows are unknown to the tokenizer, none where few are.

    Special tokens do not count, nor does an unknown token that is the one that ends a text: tokenizers of bytes know
    everything. Raises ModelProblem where nearly all are unknown: nothing can be learned from such rows.
    """
    one = tokenizer.unk_token_id
    others = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id}
    if one is None or one in others:
        return []
    special = set(tokenizer.all_special_ids) - {one}
    words = missed = 0
    for row in rows:
        real = [token for token in row if token not in special]
        words, missed = words + len(real), missed + real.count(one)
    share = missed / words if words else 0.0
    if share >= _ALL:
        raise errors.ModelProblem(
            f"The tokenizer of {source} does not know {share:.0%} of the tokens of the training texts.",
            "name a --base whose tokenizer was made for texts such as these, and look whether its files are whole.",
        )
    if share < _HIGH:
        return []
    what = (
        f"{share:.0%} of the tokens of the training texts ({missed:,} of {words:,}) are unknown to the base's tokenizer"
    )
    return [f"{what}: all of them are {tokenizer.unk_token}. A base for texts such as these tells them apart."]
