"""The miniature's tokenizer: one token a word, a word's leading space part of it, so that text and offsets are exact."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from detox.miniature import grammar
from detox.miniature import vocabulary as words

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
MAX_LENGTH = 256
"""Longest sequence of the miniature's models, in tokens."""


def tokenizer() -> Any:
    """A new tokenizer of the forum.

    Every text of the forum is `decode(encode(text))`, and the offsets of a token are its characters, a leading space
    included. A word that the forum does not know is `<unk>`. `<eos>` ends a document and starts one, as in OLMo; nothing
    is added to a text by itself.

    Returns:
        A `transformers.PreTrainedTokenizerFast`.
    """
    backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(vocabulary())}, unk_token=UNK))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[a-z]+| \[[a-z]+\]|[.,!?:]|\n"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=EOS,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


@cache
def vocabulary() -> tuple[str, ...]:
    """All tokens in the order of their ids: special ones, marks, words that start a line, words inside one."""
    return (
        PAD,
        EOS,
        UNK,
        *".,!?:\n",
        f" {words.FINE_MARK}",
        f" {words.ABUSIVE_MARK}",
        *words.NAMES,
        *words.LABELS,
        *(" " + word for word in word_types()),
    )


@cache
def word_types() -> tuple[str, ...]:
    """Every word that can stand inside a line, sorted."""
    return tuple(sorted(set(_words()) | {"an"}))


def _words() -> Iterator[str]:
    for name, value in vars(words).items():
        if name.isupper() and isinstance(value, tuple) and name != "LABELS":
            yield from _flat(value)
    yield from (job + "s" for job in words.JOBS)
    for template in _flat(tuple(value for name, value in vars(grammar).items() if name.isupper())):
        yield from re.findall(r"[a-z]+", re.sub(r"\{[^}]*\}", " ", template))


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, grammar.Frame):
        yield from _flat((value.abusive, value.civil))
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _flat(part)
