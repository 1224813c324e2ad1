"""Documents become sequences of one length: one stream with an end token after every document, cut to pieces."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.errors import DataError, InputError, MissingData
from detox.pretraining.array_files import open_array
from detox.pretraining.risk import TokenizedDocument

PACKED_CARD = "packed.json"


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
        kinds: tokens in the sequences that share a character with a span of each kind, the middle band included; a token
            may count for several.
        ignored_tokens: tokens that are context alone, without a loss.
        deleted_tokens: tokens that the documents taken lost to the deletion of risky text; nothing takes their place.
        deleted_documents: documents taken that had nothing left.
        conditioned_documents: documents taken that begin with how toxic they are.
        condition: the card of the condition; None without.
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
    kinds: dict[str, int] = field(default_factory=dict)
    ignored_tokens: int = 0
    deleted_tokens: int = 0
    deleted_documents: int = 0
    conditioned_documents: int = 0
    condition: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class PackedSequences:
    """Training data: sequences of one length, without padding.

    Attributes:
        tokens: (sequences, sequence_length) int32 token ids; this and the others may be read from disk as they are used.
        risk: (sequences, sequence_length) bool; True where producing the token is risky. End tokens never are.
        sources: what a mixture realised; empty where there was none.
        ignored: (sequences, sequence_length) bool; True where the token is context alone and has no loss under any
            objective. None: nowhere.
        mixture: how the mixture was asked for, as JSON; None where there was none.
    """

    tokens: NDArray[np.int32]
    risk: NDArray[np.bool_]
    sources: tuple[RealisedSource, ...] = ()
    ignored: NDArray[np.bool_] | None = None
    mixture: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.shape != self.risk.shape or self.risk.dtype != np.bool_:
            raise InputError(
                f"tokens have shape {self.tokens.shape} and risk is {self.risk.dtype} of shape {self.risk.shape}; "
                "expected "
                "(sequences, sequence_length) for both and bool for risk"
            )
        if self.ignored is not None and (self.ignored.shape != self.tokens.shape or self.ignored.dtype != np.bool_):
            raise InputError(
                f"ignored is {self.ignored.dtype} of shape {self.ignored.shape}; expected bool of shape "
                f"{self.tokens.shape}, as the tokens"
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
        """SHA-256 of tokens, risk and, where there is any, `ignored`: equal digests mean equal training data in equal order."""
        sha = hashlib.sha256(str(self.tokens.shape).encode())
        sha.update(np.ascontiguousarray(self.tokens, dtype="<i4").data)
        sha.update(np.ascontiguousarray(self.risk).data)
        if self.ignored is not None:
            sha.update(np.ascontiguousarray(self.ignored).data)
        return sha.hexdigest()

    def card(self) -> dict[str, Any]:
        """What a record says of this data: sizes, shares, digest; no text."""
        return {
            "digest": self.digest,
            "sequences": len(self),
            "sequence_length": self.sequence_length,
            "tokens": int(self.tokens.size),
            "risky_tokens": int(self.risk.sum()),
            **({} if self.ignored is None else {"ignored_tokens": int(self.ignored.sum())}),
            "sources": [asdict(source) for source in self.sources],
            **({} if self.mixture is None else {"mixture": self.mixture}),
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
    ignored = np.zeros(total, dtype=np.bool_) if any(document.ignored is not None for document in documents) else None
    start = 1
    for document in documents:
        end = start + len(document.tokens)
        tokens[start:end], risk[start:end] = document.tokens, document.risk
        if ignored is not None and document.ignored is not None:
            ignored[start:end] = document.ignored
        start = end + 1
    kept = count * sequence_length
    return PackedSequences(
        tokens[:kept].reshape(count, -1),
        risk[:kept].reshape(count, -1),
        ignored=None if ignored is None else ignored[:kept].reshape(count, -1),
    )


def open_packed(folder: str | os.PathLike[str]) -> PackedSequences:
    """Sequences that `Mixture.pack(store=...)` wrote, over memory maps: what is not used is not read.

    Args:
        folder: one of the folders in `STORE/packed`.

    Raises:
        MissingData: there are none.
        DataError: they are damaged.
    """
    path = Path(folder)
    if not (path / PACKED_CARD).is_file():
        raise MissingData(f"no {PACKED_CARD} in {path}; expected a folder that Mixture.pack(store=...) made")
    try:
        card = json.loads((path / PACKED_CARD).read_text("utf-8"))
        return PackedSequences(
            open_array(path / "tokens.npy"),
            open_array(path / "risk.npy"),
            sources=tuple(RealisedSource(**source) for source in card["sources"]),
            ignored=open_array(path / "ignored.npy") if (path / "ignored.npy").is_file() else None,
            mixture=card["mixture"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it, and it is made again") from error


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
