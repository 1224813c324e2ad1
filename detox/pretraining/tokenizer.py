"""A tokenizer for models trained from scratch: byte-level BPE, as OLMo and GPT-2 have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from detox.errors import InputError

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int, *, min_frequency: int = 2) -> Any:
    """Train a byte-level BPE tokenizer: every text has tokens and comes back as it was.

    "<|endoftext|>" stands between documents and is both the end and the start token, as in GPT-2, so that "
    "generating from
    nothing starts where documents start. "<|pad|>" is another token, so that padding never looks like an end. Nothing
    is added around a text.

    Args:
        texts: what to train on.
        vocab_size: number of tokens with the two special ones, at least 258. Fewer come out where `texts` has too few
            repeated pieces.
        min_frequency: a pair seen less often is not merged.

    Returns:
        A `PreTrainedTokenizerFast`; `save_pretrained` writes tokenizer.json.

    Raises:
        InputError: `vocab_size` has no room for the 256 bytes and the two special tokens.
    """
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    smallest = len(alphabet) + 2
    if vocab_size < smallest:
        raise InputError(f"vocab_size is {vocab_size}; expected at least {smallest}: 256 bytes and two special tokens")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT, PAD],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
