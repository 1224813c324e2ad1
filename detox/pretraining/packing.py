"""Documents become sequences of one length: one stream with an end token after every document, cut to pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.errors import InputError
from detox.pretraining.risk import TokenizedDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class RealisedSource:
    """What one source of a mixture became, counted after packing.

    Attributes:
        name: the source's.
        requested_share: the share asked for; None for a source of the base.
        share: its part of all tokens, in [0, 1].
        tokens: its tokens in the sequences, end tokens included.
        risky_tokens: those of them that are risky.
        available_tokens: what it could have given in one pass.
        passes: tokens taken / available; above 1 where it was repeated.
        documents: documents taken, repeats counted; the last may be cut short.
        empty_documents: documents without a token, left out.
    """

    name: str
    requested_share: float | None
    share: float
    tokens: int
    risky_tokens: int
    available_tokens: int
    passes: float
    documents: int
    empty_documents: int


@dataclass(frozen=True, eq=False)
class PackedSequences:
    """Training data: sequences of one length, without padding.

    Attributes:
        tokens: (sequences, sequence_length) int32 token ids.
        risk: (sequences, sequence_length) bool; True where producing the token is risky. End tokens never are.
        sources: what a mixture realised; empty where there was none.
    """

    tokens: NDArray[np.int32]
    risk: NDArray[np.bool_]
    sources: tuple[RealisedSource, ...] = ()

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.shape != self.risk.shape or self.risk.dtype != np.bool_:
            raise InputError(
                f"tokens have shape {self.tokens.shape} and risk is {self.risk.dtype} of shape {self.risk.shape}; "
                "expected "
                "(sequences, sequence_length) for both and bool for risk"
            )
        if self.tokens.shape[0] == 0 or self.tokens.shape[1] < 2:
            raise InputError(f"tokens have shape {self.tokens.shape}; expected at least one sequence of two tokens")

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def sequence_length(self) -> int:
        """Tokens a sequence; the first of them is only ever context."""
        return int(self.tokens.shape[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of tokens and risk: equal digests mean equal training data in equal order."""
        sha = hashlib.sha256(str(self.tokens.shape).encode())
        sha.update(np.ascontiguousarray(self.tokens, dtype="<i4").data)
        sha.update(np.ascontiguousarray(self.risk).data)
        return sha.hexdigest()

    def card(self) -> dict[str, Any]:
        """What a record says of this data: sizes, shares, digest; no text."""
        return {
            "digest": self.digest,
            "sequences": len(self),
            "sequence_length": self.sequence_length,
            "tokens": int(self.tokens.size),
            "risky_tokens": int(self.risk.sum()),
            "sources": [asdict(source) for source in self.sources],
        }


def pack(documents: Sequence[TokenizedDocument], *, end_token_id: int, sequence_length: int) -> PackedSequences:
    """Join documents in the order given into one stream and cut it into sequences.

    The stream starts with the end token and has one after every document, so each document begins after one: with a
    tokenizer whose start token is its end token, that is where generating from nothing begins. A document may run over
    several sequences; the last tokens, too few for a sequence, are dropped. Attention is not cut at the ends.

    Args:
        documents: tokens and risk.
        end_token_id: the token between documents; never risky.
        sequence_length: tokens a sequence, at least 2.

    Raises:
        InputError: too few tokens for one sequence.
    """
    if sequence_length < 2:
        raise InputError(f"sequence_length is {sequence_length}; expected at least 2, a context and a target")
    total = 1 + sum(len(document.tokens) + 1 for document in documents)
    count = total // sequence_length
    if count == 0:
        raise InputError(
            f"{len(documents)} documents have {total} tokens with their end tokens; expected at least "
            f"{sequence_length}, "
            "one sequence; give more text or a shorter sequence_length"
        )
    tokens = np.full(total, end_token_id, dtype=np.int32)
    risk = np.zeros(total, dtype=np.bool_)
    start = 1
    for document in documents:
        end = start + len(document.tokens)
        tokens[start:end], risk[start:end] = document.tokens, document.risk
        start = end + 1
    kept = count * sequence_length
    return PackedSequences(tokens[:kept].reshape(count, -1), risk[:kept].reshape(count, -1))


def end_token(tokenizer: Any) -> int:
    """The id of the token that ends documents.

    Raises:
        InputError: the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"{type(tokenizer).__name__} has no end-of-text token, which separates documents; set tokenizer.eos_token"
        )
    return int(tokenizer.eos_token_id)
