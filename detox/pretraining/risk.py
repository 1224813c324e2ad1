"""Risk labels: character spans of a document become masks over the tokens that training sees.

The whole document is tokenised once and every token that shares a character with a span is risky. Tokenising spans on
their own and joining the pieces, as the selective-loss paper's code does, labels tokens at the borders that no model
ever meets.
"""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers.processors import TemplateProcessing

from detox.data.offsets import token_risk as token_risk
from detox.data.records import Document, Span, is_middle, middle_kind
from detox.errors import DataError, InputError, require_known
from detox.pretraining.deletion import without_spans

Middle = Literal["train", "mask", "drop"]
RiskyText = Literal["keep", "delete"]

CONTEXT = "context"
"""Kind of spans that are context alone, under any treatment: their tokens stay and have no loss."""

_BATCH = 1000  # documents handed to the tokenizer at a time: enough to keep its threads busy, little to hold
_TOKENIZED_CHARACTERS = 2_000_000  # and no more text than this, so that long documents do not add up


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What the labels of documents mean to training. Where a token has several, risky comes before middle.

    Attributes:
        risky: kinds whose tokens are risky; None for every kind but the middle ones and `CONTEXT`. Spans of other kinds
            count for nothing.
        middle: what becomes of the middle band of those kinds (see `detox.data.records.middle_kind`). "train": safe
            tokens. "mask": context without a loss, under any objective. "drop": deleted from the document before it is
            tokenised. The selective-loss paper's masked arm masks the band and its unlikelihood arm trains on it.
        risky_text: "keep", or "delete" the risky characters before tokenising (the filtered arm); see
            `detox.pretraining.without_spans` for the white space around them.

    Raises:
        InputError: `risky` is not a list of kinds.
        UnknownName: no such policy.
    """

    risky: tuple[str, ...] | None = None
    middle: Middle = "train"
    risky_text: RiskyText = "keep"

    def __post_init__(self) -> None:
        require_known("policy for the middle band", self.middle, get_args(Middle))
        require_known("risky_text", self.risky_text, get_args(RiskyText))
        risky: Any = self.risky  # a list where the treatment was read from a file
        if risky is not None:
            if not isinstance(risky, list | tuple) or not all(isinstance(kind, str) and kind for kind in risky):
                raise InputError(f"risky kinds are {risky!r}; expected a list of kinds, or None for all")
            object.__setattr__(self, "risky", tuple(risky))

    def is_risky(self, span: Span) -> bool:
        """Whether producing the span's tokens is risky."""
        if self.risky is None:
            return not is_middle(span.kind) and span.kind != CONTEXT
        return span.kind in self.risky

    def is_middle(self, span: Span) -> bool:
        """Whether the span is in the middle band of a risky kind."""
        if self.risky is None:
            return is_middle(span.kind)
        return span.kind not in self.risky and span.kind in {middle_kind(kind) for kind in self.risky}

    def dropped(self, document: Document) -> Document:
        """The document without what `middle="drop"` deletes; risky characters stay."""
        if self.middle != "drop":
            return document
        return without_spans(document, self.is_middle, keep=self.is_risky)

    def deleted(self, document: Document) -> Document:
        """The document without what `risky_text="delete"` deletes."""
        return document if self.risky_text == "keep" else without_spans(document, self.is_risky)


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedDocument:
    """One document as tokens, without any token before or after.

    Attributes:
        id: the document's.
        tokens: (n,) int32 token ids; n is 0 for an empty document.
        risk: (n,) bool; True where the token shares a character with a risky span.
        ignored: (n,) bool; True where the token is context alone and has no loss under any objective. None: nowhere.
        kinds: (n,) bool for each kind of span that the document has and the treatment knows; True where the token
            shares a character with one.
    """

    id: str
    tokens: NDArray[np.int32]
    risk: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None
    kinds: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def tokenize_documents(
    tokenizer: Any,
    documents: Iterable[Document],
    *,
    treatment: Treatment | None = None,
    parse_special_tokens: bool = False,
) -> Iterator[TokenizedDocument]:
    """Tokenise whole documents and map their spans to tokens, in order, holding few documents at a time.

    The tokenizer itself is not touched: a copy works, without truncation, padding or tokens added around a text.

    Args:
        tokenizer: a fast transformers tokenizer (one that knows the characters of its tokens).
        documents: texts with spans; an empty text gives no tokens.
        treatment: which kinds are risky and what becomes of the middle band; `Treatment()` by default.
        parse_special_tokens: read a special token spelled out inside a text as that token. Otherwise it is text like
            any other, so that no document can end itself.

    Yields:
        One `TokenizedDocument` a document.

    Raises:
        InputError: the tokenizer gives no character offsets.
        DataError: a text that is not valid Unicode (a lone surrogate); names the document.
    """
    treatment = treatment or Treatment()
    encode = offset_encoder(tokenizer, parse_special_tokens=parse_special_tokens)
    for batch in batches(documents):
        kept = [treatment.deleted(treatment.dropped(document)) for document in batch]
        for document, encoding in zip(kept, encode(kept), strict=True):
            yield labelled(document, encoding, treatment)


def offset_encoder(tokenizer: Any, *, parse_special_tokens: bool = False) -> Any:
    """A function of documents to the encodings of their texts, of a copy of `tokenizer`.

    Raises:
        InputError: the tokenizer gives no character offsets.
    """
    require_offsets(tokenizer)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = not parse_special_tokens
    # A byte-level post-processor may trim the space off a token's characters; then a token would lose a risky one.
    backend.post_processor = TemplateProcessing(single="$A", pair="$A $B")

    def encode(documents: Sequence[Document]) -> list[Any]:
        for document in documents:
            _require_unicode(document)
        return list(backend.encode_batch([document.text for document in documents], add_special_tokens=False))

    return encode


def require_offsets(tokenizer: Any) -> None:
    """Refuse a tokenizer that does not say which characters its tokens are of.

    Raises:
        InputError: it is not a fast one.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets, which risk labels need; expected a fast tokenizer "
            "(one with a tokenizer.json)"
        )


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in order, in lists of a bounded number and, but for a document longer than that, of bounded text."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        if batch and (len(batch) == _BATCH or size + len(document.text) > _TOKENIZED_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += len(document.text)
    if batch:
        yield batch


def labelled(document: Document, encoding: Any, treatment: Treatment) -> TokenizedDocument:
    """A document's encoding with its labels."""
    tokens = np.asarray(encoding.ids, dtype=np.int32)
    nothing = np.zeros(len(tokens), dtype=np.bool_)
    risky = {span.kind for span in document.spans if treatment.is_risky(span)}
    middle = {span.kind for span in document.spans if treatment.is_middle(span)}
    known = [span for span in document.spans if span.kind in risky | middle | {CONTEXT}]
    if not known:
        return TokenizedDocument(document.id, tokens, nothing)
    offsets = _characters(encoding, document.text)
    if not document.text.isascii():
        known = _with_their_letters(known, document.text, offsets)
    kinds = {
        kind: token_risk(offsets, [span for span in known if span.kind == kind], len(document.text))
        for kind in sorted({span.kind for span in known})
    }
    risk = np.logical_or.reduce([kinds[kind] for kind in sorted(risky)]) if risky else nothing
    masked = (middle if treatment.middle == "mask" else set()) | ({CONTEXT} & kinds.keys())
    ignored = np.logical_or.reduce([kinds[kind] for kind in sorted(masked)]) & ~risk if masked else None
    return TokenizedDocument(document.id, tokens, risk, ignored, kinds)


def _characters(encoding: Any, text: str) -> NDArray[np.int64]:
    """(n, 2) characters [start, end) of each token.

    Where a tokenizer writes unknown characters as bytes, each byte of a run of them claims the whole run; here it has its
    own character, unless normalisation changed what the bytes are of.
    """
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    fused = (offsets[1:] == offsets[:-1]).all(axis=1) & (offsets[1:, 1] - offsets[1:, 0] > 1)
    position = 0
    while fused[position:].any():
        first = position + int(fused[position:].argmax())
        start, end = (int(edge) for edge in offsets[first])
        spelled = text[start:end].encode("utf-8")
        position = first + len(spelled)
        if encoding.tokens[first:position] == [f"<0x{byte:02X}>" for byte in spelled]:
            of_byte = [place for place in range(start, end) for _ in text[place].encode("utf-8")]
            offsets[first:position] = [(place, place + 1) for place in of_byte]
        else:
            position = first + 1
    return offsets


def _with_their_letters(spans: Sequence[Span], text: str, offsets: NDArray[np.int64]) -> list[Span]:
    """Spans that begin with a combining mark which no token claims begin at its letter, whose token wrote the mark too."""
    edges = np.zeros(len(text) + 1, dtype=np.int64)
    np.add.at(edges, offsets[:, 0], 1)
    np.add.at(edges, offsets[:, 1], -1)
    claimed = np.cumsum(edges) > 0
    grown = []
    for span in spans:
        start = span.start
        while start > 0 and not claimed[start] and unicodedata.category(text[start]).startswith("M"):
            start -= 1
        grown.append(Span(start, span.end, span.kind))
    return grown


def _require_unicode(document: Document) -> None:
    try:
        document.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"document {document.id!r}: character {error.start} is a lone surrogate, which no tokenizer can read; "
            "expected "
            "text decoded with errors='replace'"
        ) from error
