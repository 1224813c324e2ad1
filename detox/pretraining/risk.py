"""Risk labels: character spans of a document become a mask over the tokens that training sees.

The whole document is tokenised once and every token that shares a character with a span is risky. Tokenising spans on
their own and joining the pieces, as the selective-loss paper's code does, labels tokens at the borders that no model
ever meets.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers.processors import TemplateProcessing

from detox.data.records import Document, Span
from detox.errors import DataError, InputError

_BATCH = 1000  # documents handed to the tokenizer at a time: enough to keep its threads busy, little to hold


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedDocument:
    """One document as tokens, without any token before or after.

    Attributes:
        id: the document's.
        tokens: (n,) int32 token ids; n is 0 for an empty document.
        risk: (n,) bool; True where the token shares a character with a risky span.
    """

    id: str
    tokens: NDArray[np.int32]
    risk: NDArray[np.bool_]


def token_risk(
    offsets: Sequence[tuple[int, int]] | NDArray[np.int64], spans: Sequence[Span], length: int
) -> NDArray[np.bool_]:
    """Which tokens share a character with a span.

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
    risky_before = np.concatenate([[0], np.cumsum(np.cumsum(edges)[:length] > 0)])
    start, end = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    return np.asarray(risky_before[end] > risky_before[start])


def tokenize_documents(
    tokenizer: Any, documents: Iterable[Document], *, parse_special_tokens: bool = False
) -> Iterator[TokenizedDocument]:
    """Tokenise whole documents and map their risky spans to tokens, in order, holding few documents at a time.

    The tokenizer itself is not touched: a copy works, without truncation, padding or tokens added around a text.

    Args:
        tokenizer: a fast transformers tokenizer (one that knows the characters of its tokens).
        documents: texts with spans; an empty text gives no tokens.
        parse_special_tokens: read a special token spelled out inside a text as that token. Otherwise it is text like
            any other, so that no document can end itself.

    Yields:
        One `TokenizedDocument` a document.

    Raises:
        InputError: the tokenizer gives no character offsets.
        DataError: a text that is not valid Unicode (a lone surrogate); names the document.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets, which risk labels need; expected a fast tokenizer "
            "(one with a tokenizer.json)"
        )
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = not parse_special_tokens
    # A byte-level post-processor may trim the space off a token's characters; then a token would lose a risky one.
    backend.post_processor = TemplateProcessing(single="$A", pair="$A $B")
    remaining = iter(documents)
    while batch := list(islice(remaining, _BATCH)):
        for document in batch:
            _require_unicode(document)
        encodings = backend.encode_batch([document.text for document in batch], add_special_tokens=False)
        for document, encoding in zip(batch, encodings, strict=True):
            tokens = np.asarray(encoding.ids, dtype=np.int32)
            risk = (
                token_risk(encoding.offsets, document.spans, len(document.text))
                if document.spans
                else np.zeros(len(tokens), dtype=np.bool_)
            )
            yield TokenizedDocument(document.id, tokens, risk)


def _require_unicode(document: Document) -> None:
    try:
        document.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"document {document.id!r}: character {error.start} is a lone surrogate, which no tokenizer can read; "
            "expected "
            "text decoded with errors='replace'"
        ) from error
