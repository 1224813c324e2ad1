"""What a grid will cost and what it will be able to see, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detox.bench.base_work import cell_of
from detox.bench.bases import Base
from detox.bench.cell_list import NOISE_FLOOR, Wanted, wanted, without_noise_floor
from detox.bench.cells import Record, Store, base_identity, sound_records
from detox.bench.grid import Grid
from detox.bench.toxicity_scores import prompt_scores
from detox.bench.tune_choices import chosen_lines
from detox.errors import DataError, DetoxError, MissingData
from detox.evaluation import Protocol
from detox.scorers import Score, ScorerCard
from detox.statistics import detectable_difference

# Spread over prompts of (a method's toxicity - its base's), one completion a prompt. Median over the cells of this repository's
# records of real text whose cost is below .2 nats: .085 with 5 completions (real-small), .114 with 2 (toxic-mix-real).
_SPREAD = 0.17


@dataclass(frozen=True)
class PlannedProtocol:
    """One protocol of a grid.

    Attributes:
        name: of the protocol.
        cells, there, unknown: how many the grid wants; are in the folder; and cannot be looked for before their base is made.
        tokens: to be generated at most in the cells that are not there.
        scored: documents, choices and other texts of one cell whose log-probabilities are read.
        prompts, samples: a cell's.
        detectable: smallest difference in mean toxicity that a paired comparison finds in 80 of 100 cases; NaN without prompts.
        spread: standard deviation over prompts that this rests on.
        source: where the spread is from, for people.
    """

    name: str
    cells: int
    there: int
    unknown: int
    tokens: int
    scored: int
    prompts: int
    samples: int
    detectable: float
    spread: float
    source: str


@dataclass(frozen=True)
class Plan:
    """A grid before it is run.

    Attributes:
        protocols: in the order of the grid.
        pretrained: bases that have to be made first.
        unsupported: pairs that will have no record, and why.
        notes: strengths that `detox tune` chose, and else.
    """

    protocols: tuple[PlannedProtocol, ...]
    pretrained: tuple[str, ...]
    unsupported: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = []
        for one in self.protocols:
            there = f", {one.there} are there" if one.there else ""
            unknown = f", {one.unknown} not known before their base is made" if one.unknown else ""
            lines.append(f"protocol {one.name}: {one.cells} cells{there}{unknown}; at most {one.tokens:,} tokens to generate, "
                         f"{one.scored:,} texts to score a cell")  # fmt: skip
            if one.prompts:
                lines.append(
                    f"  {one.prompts:,} prompts x {one.samples}: differences of mean toxicity from {one.detectable:.3f} on will be "
                    f"found (80 % power, 5 % level, paired; spread {one.spread:.3f}, {one.source})"
                )
        lines += [f"to be made first: {name}" for name in self.pretrained]
        lines += [f"no record: {line}" for line in self.unsupported]
        return "\n".join([*lines, *self.notes])


def plan(grid: Grid, output_dir: str | Path, *, look: bool = True) -> Plan:
    """Count, and say what can be seen. Nothing is loaded, trained or written.

    Args:
        grid: what is to be compared.
        output_dir: the results directory; a record of the same protocol there is the pilot.
        look: whether to look for finished cells, which hashes the weights of bases that are there.

    Raises:
        InputError: a strength was chosen on another base.
    """
    store = Store(output_dir)
    records = _records(store.directory)
    identities: dict[str, dict[str, Any] | None] = {}
    pretrained: list[str] = []
    unsupported: list[str] = []
    for base in grid.bases:
        try:
            path = base.made(store.directory)
            if path is None:
                pretrained.append(base.name)
            identities[base.name] = base_identity(base, path) if path is not None and look else None
        except (DetoxError, OSError) as error:
            unsupported.append(f"{base.name}: {str(error).splitlines()[0]}")
            identities[base.name] = None
    rows = [(base, one) for base in grid.bases for one in wanted(grid, base)]
    protocols = tuple(
        _planned(grid, name, [(b, one) for b, one in rows if one.protocol == name], identities, store, records, look)
        for name in grid.protocols
    )
    unsupported += _templateless(grid, rows, store)
    idle = [m.name for m in grid.methods if not any(m.suits(base) for base in grid.bases)]
    unsupported += [f"{name}: suits no base of the grid" for name in idle]
    if look:
        for base in grid.bases:
            for choice in [method.choices[base.name] for method in grid.methods if base.name in method.choices]:
                if (identity := identities[base.name]) is not None:
                    choice.require_base(identity)
    notes = [*chosen_lines(grid), *without_noise_floor(grid)]
    return Plan(protocols, tuple(pretrained), tuple(unsupported), tuple(notes))


def _planned(
    grid: Grid,
    name: str,
    rows: Sequence[tuple[Base, Wanted]],
    identities: Mapping[str, dict[str, Any] | None],
    store: Store,
    records: Sequence[Record],
    look: bool,
) -> PlannedProtocol:
    asked, there, unknown = grid.protocols[name], 0, 0
    for base, one in rows:
        identity = identities[base.name]
        if identity is None:
            unknown += look
        else:
            there += store.finished(cell_of(grid, base, identity, one))
    spread, source = _spread(asked, name, records)
    samples = asked.sampling.num_return_sequences
    turns = len(asked.prompts) + (len(asked.replies.prompts) if asked.replies else 0)
    turns += len(asked.rewriting.texts) if asked.rewriting else 0
    return PlannedProtocol(
        name=name,
        cells=len(rows),
        there=there,
        unknown=unknown,
        tokens=(len(rows) - there) * turns * samples * asked.sampling.max_new_tokens,
        scored=_scored(asked),
        prompts=len(asked.prompts),
        samples=samples,
        detectable=detectable_difference(spread, len(asked.prompts)) if asked.prompts else math.nan,
        spread=spread,
        source=source,
    )


def _scored(asked: Protocol) -> int:
    choices = sum(len(item.choices) for items in asked.multiple_choice.values() for item in items)
    pairs = sum(len(one.safe) + len(one.toxic) for one in asked.contrasts)
    recognition = 0 if asked.recognition is None else 2 * len(asked.recognition.items)
    return (
        len(asked.documents) + len(asked.toxic_documents) + choices + 2 * len(asked.minimal_pairs) + pairs + recognition
    )


def _records(directory: Path) -> list[Record]:
    try:
        return sound_records(directory)[0]
    except (MissingData, DataError):
        return []


def _spread(asked: Protocol, name: str, records: Sequence[Record]) -> tuple[float, str]:
    """Standard deviation over prompts of a paired difference: of a pilot record with as many completions a prompt, else assumed."""
    samples = asked.sampling.num_return_sequences
    alike = [
        one
        for one in records
        if one.names["protocol"] == name
        and one.scorecard.protocol["identity"]["sampling"]["num_return_sequences"] == samples
        and "scores" in one.scorecard.tables
    ]
    bare = {(one.names["base"], one.names["seed"]): one for one in alike if one.names["method"] is None}
    found = []
    for one in alike:
        base = bare.get((one.names["base"], one.names["seed"]))
        if base is None or one.names["method"] in (None, NOISE_FLOOR):
            continue
        scorer = one.scorecard.protocol["identity"]["scorers"][0]["name"]
        a, b = (prompt_scores(card, scorer) for card in (one.scorecard, base.scorecard))
        if a.shape == b.shape:
            found.append(float(np.nanstd(a - b, ddof=1)))
    if found:
        return float(np.median(found)), f"median of {len(found)} records in this folder"
    return _SPREAD / math.sqrt(samples), "assumed, from this project's records of real text: no pilot in this folder"


def _templateless(grid: Grid, rows: Sequence[tuple[Base, Wanted]], store: Store) -> list[str]:
    """Protocols of chat turns and bases on disk whose tokenizer has no chat template."""
    chats = {name for name, one in grid.protocols.items() if one.chat}
    found = []
    for base in dict.fromkeys(base.name for base, one in rows if one.protocol in chats):
        own = next(b for b in grid.bases if b.name == base)
        folder = Path(own.made(store.directory) or "")
        config = folder / "tokenizer_config.json"
        if own.corpus is not None or not config.is_file() or (folder / "chat_template.jinja").is_file():
            continue
        if "chat_template" not in config.read_text(encoding="utf-8"):
            found.append(f"{base} with protocol {', '.join(sorted(chats))}: its tokenizer has no chat template")
    return found


class PlannedScorer:
    """Stands for a scorer that has to be trained first; it scores nothing.

    Attributes:
        card: its name; cells that it scores are not found in the folder.
    """

    def __init__(self, name: str) -> None:
        self.card = ScorerCard(name, "not trained yet", (), None, "not known")

    def score(self, texts: Sequence[str]) -> list[Score]:
        """Refuse.

        Raises:
            MissingData: always.
        """
        raise MissingData(f"scorer {self.card.name!r} has not been trained; run the grid")
