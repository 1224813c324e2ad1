"""Characters to tokens: which tokens of a text share a character with a span."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.data.records import Span
from detox.errors import InputError


def token_risk(
    offsets: Sequence[tuple[int, int]] | NDArray[np.int64], spans: Sequence[Span], length: int
) -> NDArray[np.bool_]:
    """Which tokens share a character with a span, of whatever kind.

    Args:
        offsets: (n, 2) characters [start, end) of each token, as a fast tokenizer gives them. They may overlap: the
            tokens of a character that takes several bytes all have that character. An empty range overlaps nothing. The
            space that SentencePiece adds before a text goes with the first character.
        spans: characters [start, end); any order, overlaps allowed.
        length: number of characters of the text.

    Returns:
        (n,) bool.
    """
    edges = np.zeros(length + 1, dtype=np.int64)
    for span in spans:
        edges[span.start] += 1
        edges[span.end] -= 1
    covered_before = np.concatenate([[0], np.cumsum(np.cumsum(edges)[:length] > 0)])
    start, end = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    return np.asarray(covered_before[end] > covered_before[start])


def token_offsets(tokenizer: Any, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """(n, 2) characters [start, end) of each token of each text, no token added around it. The tokenizer is not touched.

    Raises:
        InputError: the tokenizer gives no character offsets.
    """
    from tokenizers.processors import TemplateProcessing

    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets; expected a fast tokenizer (one with a tokenizer.json)"
        )
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    # A byte-level post-processor may trim the space off a token's characters.
    backend.post_processor = TemplateProcessing(single="$A", pair="$A $B")
    encodings = backend.encode_batch(list(texts), add_special_tokens=False)
    return [np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2) for encoding in encodings]
