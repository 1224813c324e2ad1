"""Mixtures: how much of the training tokens comes from where."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from detox.data.records import Document
from detox.errors import InputError, require_known
from detox.files import atomic_directory, require_writable
from detox.pretraining.array_files import write_card
from detox.pretraining.choice import Choice, choose_documents, choose_sequences
from detox.pretraining.conditioning import Condition
from detox.pretraining.mixing import Mixed, mix_documents, mix_sequences
from detox.pretraining.packing import PACKED_CARD, PackedSequences, RealisedSource, end_token, open_packed
from detox.pretraining.reading import Reading
from detox.pretraining.risk import Treatment
from detox.pretraining.token_table import TokenTable, read_table

Hold = Literal["clean", "total"]
Level = Literal["document", "sequence"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Documents from one place.

    Attributes:
        name: unique in its mixture.
        documents: what there is to take from: a list, or anything that gives its documents anew each time it is
            iterated, from disk or from the hub. One with a `digest` (text) is not read to see whether it has changed.
        share: part of all tokens of the mixture that comes from here, in [0, 1). None: part of the base; the sources of
            the base fill the rest, each in proportion to its size.
        repeat: start over when the documents are used up. Otherwise that is an error.
        condition: put the toxicity of documents before their text; None for what the mixture says.
        limit_tokens: read no further than this many tokens, end tokens included; None for all. For sources that are
            larger than what is needed of them, which would be tokenised to their end.
    """

    name: str
    documents: Iterable[Document]
    share: float | None = None
    repeat: bool = False
    condition: Condition | None = None
    limit_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Sources and their shares, counted in tokens.

    A source's order depends on the seed and its name only: a larger share contains the smaller one's documents, and
    other sources change nothing.

    Where risky text is deleted (the filtered arm), the documents are those that the full arm takes, and nothing takes the
    place of what they lost: they are fewer tokens than asked for, which the record says. With `hold="total"` the base
    fills up the total.

    Attributes:
        sources: at least one of the base (share None).
        hold: "clean" keeps the tokens of the base constant and adds the others, so that the total grows (Li et al.
            2025, arXiv 2505.04741); "total" keeps the total constant, so that the others displace the base (Wang et
            al. 2025, arXiv 2505.03052).
        tokens: how many tokens are held; None for all that the base has.
        seed: of the choice and the order of documents, and of which get a condition.
        treatment: which kinds of span are risky, and what becomes of the middle band.
        level: what is mixed. "document": whole documents are taken at random until a source's tokens are reached, the
            last is cut there; then all are shuffled together and packed. "sequence": each source is packed into sequences
            of its own, and sequences are taken, so that shares are whole numbers of them; with `hold="total"` those of a
            source with a share stand in the places of base sequences, and all others stay where they are at any share
            (exactly so with one source in the base).
        condition: put the toxicity of documents before their text, in every source that says nothing else.

    Raises:
        InputError: no base, names that are not unique, a share outside [0, 1), or shares that leave nothing to the
            base.
        UnknownName: no such `hold` or `level`.
    """

    sources: tuple[Source, ...]
    hold: Hold = "clean"
    tokens: int | None = None
    seed: int = 0
    treatment: Treatment = field(default_factory=Treatment)
    level: Level = "document"
    condition: Condition | None = None

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        shares = [source.share for source in self.sources if source.share is not None]
        for option, value, known in (("hold", self.hold, get_args(Hold)), ("level", self.level, get_args(Level))):
            require_known(option, value, known)
        if len(set(names)) < len(names):
            raise InputError(f"sources are named {', '.join(names)}; expected names that differ")
        if len(shares) == len(names):
            raise InputError("every source has a share; expected at least one without, the base, which fills the rest")
        if not all(0 <= share < 1 for share in shares) or sum(shares) >= 1:
            raise InputError(f"shares are {shares}; expected each in [0, 1) and a sum below 1")
        limits = [self.tokens, *(source.limit_tokens for source in self.sources)]
        if any(limit is not None and limit < 1 for limit in limits):
            raise InputError(
                f"tokens is {self.tokens} and limit_tokens {limits[1:]}; expected at least 1, or None for all there are"
            )

    def pack(
        self, tokenizer: Any, *, sequence_length: int, store: str | os.PathLike[str] | None = None
    ) -> PackedSequences:
        """Take, shuffle and pack; shares are exact to within one sequence, and what they became is in `.sources`.

        Args:
            tokenizer: a fast transformers tokenizer with an end token.
            sequence_length: tokens a sequence, at least 2.
            store: a folder for data that is larger than memory: tokens and sequences are written there and read as they
                are used. What it holds of the same tokenizer, treatment, condition and documents is used again, and a
                run that was stopped goes on. The result is the same, bit for bit.

        Raises:
            InputError: a source has too few tokens (says how many are missing) and may not be repeated.
            OutputError: the store cannot be written, as on a full disk.
        """
        if sequence_length < 2:
            raise InputError(f"sequence_length is {sequence_length}; expected at least 2, a context and a target")
        end, folder = end_token(tokenizer), None if store is None else require_writable(store)
        tables = [
            read_table(source.name, source.documents, self._reading(source, tokenizer), store=folder)
            for source in self.sources
        ]
        if folder is None:
            mixed, sources = self._mix(tables, end, sequence_length, None)
            arrays = mixed.arrays
            return PackedSequences(
                arrays["tokens"],
                arrays["risk"],
                sources=sources,
                ignored=arrays.get("ignored"),
                mixture=self._card(),
            )
        plan = {**self._card(), "end_token": end, "sequence_length": sequence_length}
        plan["sources"] = [
            [source.name, source.share, source.repeat, table.identity]
            for source, table in zip(self.sources, tables, strict=True)
        ]
        target = folder / "packed" / hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
        if not (target / PACKED_CARD).is_file():
            with atomic_directory(target, marker=PACKED_CARD) as beside:
                _, sources = self._mix(tables, end, sequence_length, beside)
                card = {"sources": [asdict(source) for source in sources], "mixture": self._card(), "plan": plan}
                write_card(beside / PACKED_CARD, card)
        return open_packed(target)

    def _condition(self, source: Source) -> Condition | None:
        return source.condition or self.condition

    def _reading(self, source: Source, tokenizer: Any) -> Reading:
        return Reading(
            tokenizer=tokenizer,
            treatment=self.treatment,
            condition=self._condition(source),
            seed=self.seed,
            limit_tokens=source.limit_tokens,
        )

    def _card(self) -> dict[str, Any]:
        """How the mixture was asked for, as JSON; `sources` say what they became."""
        treatment = asdict(self.treatment)
        risky = self.treatment.risky
        return {
            "hold": self.hold,
            "level": self.level,
            "tokens": self.tokens,
            "seed": self.seed,
            "treatment": treatment | {"risky": None if risky is None else list(risky)},
        }

    def _mix(
        self, tables: Sequence[TokenTable], end: int, sequence_length: int, folder: Path | None
    ) -> tuple[Mixed, tuple[RealisedSource, ...]]:
        """Budgets, choice, order, packing, and the count of what came out."""
        if self.level == "document":
            choice = choose_documents(self, tables)
            mixed = mix_documents(
                tables, choice.taken, end_token_id=end, sequence_length=sequence_length, seed=self.seed, folder=folder
            )
        else:
            choice = choose_sequences(self, tables, sequence_length)
            assert choice.places is not None
            mixed = mix_sequences(
                tables, choice.taken, choice.places, end_token_id=end, sequence_length=sequence_length, folder=folder
            )
        return mixed, tuple(self._realised(index, tables[index], choice, mixed) for index in range(len(self.sources)))

    def _realised(self, index: int, table: TokenTable, choice: Choice, mixed: Mixed) -> RealisedSource:
        source, taken = self.sources[index], choice.taken[index]
        counts = {label: int(count) for label, count in zip(table.labels, mixed.counts[index], strict=False) if count}
        tokens = sum(counts.values())
        kinds = sorted({kind for label in counts for kind in label.kinds})
        condition = self._condition(source)
        left = taken.lengths >= 0
        return RealisedSource(
            name=source.name,
            requested_share=source.share,
            share=tokens / int(mixed.arrays["tokens"].size),
            tokens=tokens,
            risky_tokens=sum(count for label, count in counts.items() if label.risky),
            available_tokens=choice.available[index],
            passes=choice.wanted[index] / max(choice.available[index], 1),
            documents=int(left.sum()),
            empty_documents=table.empty_documents,
            kinds={kind: sum(count for label, count in counts.items() if kind in label.kinds) for kind in kinds},
            ignored_tokens=sum(count for label, count in counts.items() if label.ignored),
            deleted_tokens=int((taken.kept - taken.lengths.clip(min=0)).sum()),
            deleted_documents=int((~left).sum()),
            conditioned_documents=int(table.conditioned[taken.documents[left]].sum()),
            condition=None if condition is None else condition.card(),
        )
