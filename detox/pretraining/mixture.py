"""Mixtures: how much of the training tokens comes from where."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detox.data.records import Document
from detox.errors import InputError, UnknownName
from detox.pretraining.packing import PackedSequences, RealisedSource, end_token, pack
from detox.pretraining.risk import TokenizedDocument, tokenize_documents

Hold = Literal["clean", "total"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Documents from one place.

    Attributes:
        name: unique in its mixture.
        documents: what there is to take from.
        share: part of all tokens of the mixture that comes from here, in [0, 1). None: part of the base; the sources of
            the base fill the rest, each in proportion to its size.
        repeat: start over when the documents are used up. Otherwise that is an error.
    """

    name: str
    documents: Sequence[Document]
    share: float | None = None
    repeat: bool = False


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Sources and their shares, counted in tokens.

    Whole documents are taken at random until a source's tokens are reached, the last is cut there; then all are
    shuffled together and packed. A source's order depends on the seed and its name only: a larger share contains the
    smaller one's documents, and other sources change nothing.

    Attributes:
        sources: at least one of the base (share None).
        hold: "clean" keeps the tokens of the base constant and adds the others, so that the total grows (Li et al.
            2025, arXiv 2505.04741); "total" keeps the total constant, so that the others displace the base (Wang et
            al. 2025).
        tokens: how many tokens are held; None for all that the base has.
        seed: of the choice and the order of documents.

    Raises:
        InputError: no base, names that are not unique, a share outside [0, 1), or shares that leave nothing to the
            base.
        UnknownName: no such `hold`.
    """

    sources: tuple[Source, ...]
    hold: Hold = "clean"
    tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        shares = [source.share for source in self.sources if source.share is not None]
        if self.hold not in get_args(Hold):
            raise UnknownName("hold", self.hold, get_args(Hold))
        if len(set(names)) < len(names):
            raise InputError(f"sources are named {', '.join(names)}; expected names that differ")
        if len(shares) == len(names):
            raise InputError("every source has a share; expected at least one without, the base, which fills the rest")
        if not all(0 <= share < 1 for share in shares) or sum(shares) >= 1:
            raise InputError(f"shares are {shares}; expected each in [0, 1) and a sum below 1")
        if self.tokens is not None and self.tokens < 1:
            raise InputError(f"tokens is {self.tokens}; expected at least 1, or None for all of the base")

    def pack(self, tokenizer: Any, *, sequence_length: int) -> PackedSequences:
        """Take, shuffle and pack; shares are exact to within one sequence, and what they became is in `.sources`.

        Args:
            tokenizer: a fast transformers tokenizer with an end token.
            sequence_length: tokens a sequence.

        Raises:
            InputError: a source has too few tokens (says how many are missing) and may not be repeated.
        """
        documents = [list(tokenize_documents(tokenizer, source.documents)) for source in self.sources]
        filled = [[document for document in found if len(document.tokens)] for found in documents]
        available = [sum(len(document.tokens) + 1 for document in found) for found in filled]
        wanted = self._token_budgets(available)
        taken: list[TokenizedDocument] = []
        origin: list[int] = []
        for index, source in enumerate(self.sources):
            self._require_enough(source, available[index], wanted[index])
            order = np.random.default_rng([self.seed, zlib.crc32(source.name.encode())]).permutation(len(filled[index]))
            chosen = _take([filled[index][i] for i in order], wanted[index])
            taken += chosen
            origin += [index] * len(chosen)
        order = np.random.default_rng(self.seed).permutation(len(taken))
        packed = pack([taken[i] for i in order], end_token_id=end_token(tokenizer), sequence_length=sequence_length)
        counts = _count([taken[i] for i in order], np.asarray(origin, dtype=np.int64)[order], packed, len(self.sources))
        return replace(
            packed,
            sources=tuple(
                RealisedSource(
                    name=source.name,
                    requested_share=source.share,
                    share=float(counts[index, 0] / packed.tokens.size),
                    tokens=int(counts[index, 0]),
                    risky_tokens=int(counts[index, 1]),
                    available_tokens=available[index],
                    passes=wanted[index] / max(available[index], 1),
                    documents=origin.count(index),
                    empty_documents=len(documents[index]) - len(filled[index]),
                )
                for index, source in enumerate(self.sources)
            ),
        )

    def _token_budgets(self, available: Sequence[int]) -> list[int]:
        """Tokens to take from each source, end tokens included."""
        in_base = [source.share is None for source in self.sources]
        base = sum(count for count, held in zip(available, in_base, strict=True) if held)
        if base == 0:
            raise InputError(
                "the sources of the base (those without a share) have no tokens; give them documents with text"
            )
        held = base if self.tokens is None else self.tokens
        added_share = sum(source.share or 0.0 for source in self.sources)
        total = held / (1 - added_share) if self.hold == "clean" else held
        budgets = [0 if source.share is None else round(source.share * total) for source in self.sources]
        rest = held if self.hold == "clean" else held - sum(budgets)
        for index, count in enumerate(available):
            if in_base[index] and count:
                # What is left is split by what is left, so that rounding loses no token.
                budgets[index] = round(rest * count / base)
                rest, base = rest - budgets[index], base - count
        return budgets

    def _require_enough(self, source: Source, available: int, wanted: int) -> None:
        if wanted > available and (not source.repeat or available == 0):
            raise InputError(
                f"source {source.name!r} has {available} tokens and the mixture needs {wanted} of it: "
                f"{wanted - available} "
                "are missing; give more documents, a smaller share or fewer held tokens"
                + ("" if source.repeat else ", or set repeat=True")
            )


def _take(documents: Sequence[TokenizedDocument], wanted: int) -> list[TokenizedDocument]:
    """Documents in this order, from the start again if needed, until they and their end tokens are `wanted` tokens."""
    taken: list[TokenizedDocument] = []
    for document in cycle(documents):
        if wanted <= 0:
            break
        kept = min(len(document.tokens), wanted - 1)
        cut = TokenizedDocument(document.id, document.tokens[:kept], document.risk[:kept])
        taken.append(document if kept == len(document.tokens) else cut)
        wanted -= kept + 1
    return taken


def _count(
    documents: Sequence[TokenizedDocument], origin: NDArray[np.int64], packed: PackedSequences, sources: int
) -> NDArray[np.int64]:
    """(sources, 2): tokens and risky tokens of each source that are in the sequences."""
    ends = 1 + np.cumsum([len(document.tokens) + 1 for document in documents])
    bounds = np.minimum(
        np.concatenate([[0], ends]), packed.tokens.size
    )  # the first end token goes with the first document
    risky_before = np.concatenate([[0], np.cumsum(packed.risk.reshape(-1))])
    counts = np.zeros((sources, 2), dtype=np.int64)
    np.add.at(counts, origin, np.stack([np.diff(bounds), np.diff(risky_before[bounds])], axis=1))
    return counts
