"""Stages: the parts of a measurement that can be kept apart, each with the part of the protocol that it depends on.

What a stage measures is kept by whoever gives `evaluate` a `StageStore`; what follows from it by arithmetic (metrics, counts) is
computed anew every time. So a protocol that gains a scorer generates nothing again, and one with other documents scores nothing
again; one that gains a task measures that task alone.
"""

from __future__ import annotations

import math
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


def joined_summaries(parts: Sequence[Summary]) -> Summary:
    """Summaries whose metrics, counts and tables have names of their own, as one."""
    return Summary(
        metrics={name: value for part in parts for name, value in part.metrics.items()},
        counts={name: value for part in parts for name, value in part.counts.items()},
        notes=[note for part in parts for note in part.notes],
        tables={name: table for part in parts for name, table in part.tables.items()},
    )


def by_scorer(protocol: protocols.Protocol) -> list[protocols.Protocol]:
    """The protocol with each of its scorers alone."""
    return [replace(protocol, scorers=(one,)) for one in protocol.scorers]


def by_task(protocol: protocols.Protocol) -> list[protocols.Protocol]:
    """The protocol with each of its multiple-choice tasks alone."""
    return [
        replace(protocol, multiple_choice={name: items}) for name, items in protocol.multiple_choice.items() if items
    ]


def by_lm_eval_task(protocol: protocols.Protocol) -> list[protocols.Protocol]:
    """The protocol with each of lm-eval's tasks that it names alone."""
    return [replace(protocol, lm_eval=(name,)) for name in protocol.lm_eval]


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
        apart: the protocol in parts that are measured and kept each by itself (`by_scorer`, `by_task`, `by_lm_eval_task`); their tables
            stand below one another. The protocol as it is where it is None.
        together: the summaries of these parts as one.
        summarise: metrics and counts from all tables so far.
        ready: of the parts that have to be measured, all at once and before any work: raises where something they need is not there.
    """

    name: str
    asked: Callable[[protocols.Protocol], object]
    depends_on: tuple[str, ...]
    measure: Callable[[LanguageModel, protocols.Protocol], Measured] | None = None
    judge: Callable[[protocols.Protocol, Completions], Measured] | None = None
    reads: str = ""
    apart: Callable[[protocols.Protocol], Sequence[protocols.Protocol]] | None = None
    together: Callable[[Sequence[Summary]], Summary] = joined_summaries
    summarise: Callable[[protocols.Protocol, Tables], Summary] = nothing_more
    ready: Callable[[Sequence[protocols.Protocol]], object] | None = None

    def units(self, protocol: protocols.Protocol) -> Sequence[protocols.Protocol]:
        """The parts of the protocol that are measured and kept each by itself; the protocol alone where there are none."""
        return [protocol] if self.apart is None else self.apart(protocol)

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


def joined_tables(parts: Sequence[Tables]) -> dict[str, Table]:
    """Tables below one another, by name; NaN where one of them lacks a column that another has."""
    if len(parts) == 1:
        return dict(parts[0])
    tables: dict[str, Table] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        found = [part[name] for part in parts if name in part]
        rows = [len(next(iter(table.values()))) for table in found]
        tables[name] = {
            column: [
                value for table, size in zip(found, rows, strict=True) for value in table.get(column, [math.nan] * size)
            ]
            for column in dict.fromkeys(column for table in found for column in table)
        }
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
