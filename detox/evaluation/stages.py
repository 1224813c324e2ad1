"""Stages: the parts of a measurement that can be kept apart, each with the part of the protocol that it depends on.

What a stage measures is kept by whoever gives `evaluate` a `StageStore`; what follows from it by arithmetic (metrics, counts) is
computed anew every time. So a protocol that gains a scorer generates nothing again, and one with other documents scores nothing
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Protocol

from detox.evaluation import protocol as protocols
from detox.evaluation.scorecard import Table
from detox.models import Completion, LanguageModel
from detox.models.edits import Receipt
from detox.statistics import Estimate

Completions = Sequence[Sequence[Completion]]
Tables = Mapping[str, Table]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What goes into a scorecard beside the tables.

    Attributes:
        metrics: by name.
        counts: by name, JSON.
        notes: what a reader should know.
        tables: tables that gained a column by what others say; they take the place of those of the same name.
    """

    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    tables: Tables = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one stage measured, and on what.

    Attributes:
        tables: item-level columns, by name.
        completions: what was written, prompt by prompt; None for a stage that writes nothing.
        summary: what cannot be computed from the tables again.
        fingerprint: of the language model, also where only its completions were judged; the harness fills it in.
        receipts: what the edits did in this stage, in the order of their installation.
        incidents: of the model in this stage.
        seconds: wall-clock time that it took when it was measured.
    """

    tables: Tables = field(default_factory=dict)
    completions: Completions | None = None
    summary: Summary = field(default_factory=Summary)
    fingerprint: str = ""
    receipts: Sequence[Mapping[str, Any]] = ()
    incidents: Sequence[str] = ()
    seconds: float = 0.0


def nothing_more(protocol: protocols.Protocol, tables: Tables) -> Summary:
    """For stages whose tables are all there is to say."""
    return Summary()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a measurement. It has either `measure`, or `judge` and `reads`.

    Attributes:
        name: as in `Scorecard.seconds`.
        asked: of a protocol: whether it asks for this stage (by truth).
        depends_on: keys of `Protocol.identity()`; "headline" stands for the identity of the first scorer alone.
        measure: asks the language model.
        judge: of a protocol and the completions of the stage `reads`: no language model is needed.
        reads: name of the stage whose completions are judged.
        by_scorer: measured and kept for each scorer of the protocol by itself; its tables have one row a (..., scorer).
        summarise: metrics and counts from all tables so far.
        ready: raises where something that the stage needs is not there; asked before any work, of a stage that has to be measured.
    """

    name: str
    asked: Callable[[protocols.Protocol], object]
    depends_on: tuple[str, ...]
    measure: Callable[[LanguageModel, protocols.Protocol], Measured] | None = None
    judge: Callable[[protocols.Protocol, Completions], Measured] | None = None
    reads: str = ""
    by_scorer: bool = False
    summarise: Callable[[protocols.Protocol, Tables], Summary] = nothing_more
    ready: Callable[[protocols.Protocol], object] | None = None

    def units(self, protocol: protocols.Protocol) -> list[protocols.Protocol]:
        """The protocol, or one with each scorer alone where scorers are kept apart."""
        return [replace(protocol, scorers=(one,)) for one in protocol.scorers] if self.by_scorer else [protocol]

    def part(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a protocol's identity that decides what this stage measures.

        Args:
            identity: `Protocol.identity()` of one of `units`.
        """
        named = {"stage": self.name, "ruler": identity["ruler"]}
        for key in self.depends_on:
            named[key] = (identity["scorers"] or [None])[0] if key == "headline" else identity.get(key)
        return named


def from_table(
    name: str,
    metrics: Callable[[Table], Mapping[str, Estimate]],
    *,
    counts: Callable[[Table], Mapping[str, Any]] | None = None,
) -> Callable[[protocols.Protocol, Tables], Summary]:
    """`Stage.summarise` where metrics, and counts if any, follow from the table of this name alone."""

    def summarise(protocol: protocols.Protocol, tables: Tables) -> Summary:
        table = tables[name]
        return Summary(metrics=metrics(table), counts={} if counts is None else {name: counts(table)})

    return summarise


def field_stage(
    name: str,
    table: Callable[[LanguageModel, Any], Table],
    metrics: Callable[[Table], Mapping[str, Estimate]],
    *,
    counts: Callable[[Table], Mapping[str, Any]] | None = None,
    field: str | None = None,
) -> Stage:
    """A stage that asks the language model for one field of the protocol and gives one table; nothing else decides it.

    Args:
        name: of the stage and of its table.
        table: of the language model and what the field holds.
        metrics: of the table.
        counts: of the table; none otherwise.
        field: of the protocol, the stage's name otherwise.
    """
    key = field or name
    return Stage(
        name=name,
        asked=attrgetter(key),
        depends_on=(key,),
        measure=lambda lm, protocol: Measured(tables={name: table(lm, getattr(protocol, key))}),
        summarise=from_table(name, metrics, counts=counts),
    )


def texts_of(completions: Completions) -> list[list[str]]:
    """The texts alone, prompt by prompt."""
    return [[completion.text for completion in row] for row in completions]


class StageStore(Protocol):
    """Keeps what stages measured on one language model; whose it is, is in its own keys."""

    def get(self, stage: str, part: Mapping[str, Any]) -> Measured | None:
        """What was measured for exactly this part of a protocol; None where that is not kept."""

    def put(self, stage: str, part: Mapping[str, Any], measured: Measured) -> None:
        """Keep it."""


def joined_tables(parts: Iterable[Tables]) -> dict[str, Table]:
    """Tables of the same columns below one another, by name."""
    tables: dict[str, Table] = {}
    for part in parts:
        for name, table in part.items():
            below = tables.setdefault(name, {column: [] for column in table})
            for column, values in table.items():
                below[column] = [*below[column], *values]
    return tables


def receipts_between(before: Sequence[Receipt], after: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What edits did between two readings of their receipts (the second as dictionaries)."""
    return [
        {name: _counted(value, getattr(old, name), -1) if isinstance(value, Mapping) else value for name, value in new.items()}
        for old, new in zip(before, after, strict=True)
    ]  # fmt: skip


def receipts_together(parts: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Receipts of one stack of edits over several stages: counts are added, sizes are those of the first that has one."""
    total: list[dict[str, Any]] = []
    for part in parts:
        if not total:
            total = [dict(receipt) for receipt in part]
            continue
        for sum_, receipt in zip(total, part, strict=True):
            for name, value in receipt.items():
                if isinstance(value, Mapping):
                    sum_[name] = _counted(sum_[name], value, 1)
                elif sum_[name] is None:
                    sum_[name] = value
    return total


def _counted(a: Mapping[str, int], b: Mapping[str, int], sign: int) -> dict[str, int]:
    return {key: a.get(key, 0) + sign * b.get(key, 0) for key in {**a, **b}}
