"""Comparison: many scorecards side by side, each against its own base, paired by prompt and by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detox.bench.cell_list import NOISE_FLOOR
from detox.bench.cells import read_summary, sound_records
from detox.bench.comparison_text import csv, table
from detox.bench.guidance import cards_of, fits_of
from detox.bench.same_question import require_same_question
from detox.bench.toxicity_scores import prompt_scores
from detox.data.fit_sources import FitSources
from detox.errors import InputError, UnknownName
from detox.evaluation import Scorecard
from detox.files import write_text
from detox.scorers.independence import Headline, choose_headline
from detox.statistics import Estimate, paired_difference, paired_ratio_difference


@dataclass(frozen=True)
class Row:
    """One cell of a comparison.

    Attributes:
        base, method, strength, protocol, seed: names; method None is the bare base.
        scorecard: what was measured.
        toxicity: the headline scorer's mean, per prompt first.
        toxicity_change: against the same base without method, paired over prompts; None for the base itself or without its record.
        cross_entropy_change: the same for clean cross-entropy, paired over documents, in nats per token.
        chosen_on: what the strength was chosen on: None where it was set beforehand, "development" for other prompts than these,
            "test" where some of these prompts had a say, so that it cannot stand in a ranking.
        budget: nats per token that the strength might cost where it was chosen; None where no grid took it from a record of it.
    """

    base: str
    method: str | None
    strength: float | None
    protocol: str
    seed: int
    scorecard: Scorecard
    toxicity: Estimate | None
    toxicity_change: Estimate | None
    cross_entropy_change: Estimate | None
    chosen_on: str | None = None
    budget: float | None = None

    @property
    def method_label(self) -> str:
        """Method and strength, "-" for the bare base."""
        if self.method is None:
            return "-"
        return self.method if self.strength is None else f"{self.method} @ {self.strength:g}"

    @property
    def chosen_mark(self) -> str:
        """What a table says behind the label of a strength that was chosen by `detox tune`."""
        return {"development": " (tuned)", "test": " (chosen on these prompts)"}.get(self.chosen_on or "", "")


@dataclass(frozen=True)
class Comparison:
    """All cells that were asked the same, with every change against the cell's own base.

    Attributes:
        rows: in the order of bases, then methods by strength; without controls.
        headline: name of the scorer that is ranked by: the protocol's first that is independent of every fit.
        scorers: all of them, the headline first.
        holes: cells without a record, and why.
        control_rows: of what a method has to beat.
        controls: name of a control -> the method that has to beat it.
        noise_floor: bases against themselves with another seed of the sampling (A/A): changes that mean nothing are of this size.
        independence: what is to be said of the headline; see `detox.scorers.independence`.
    """

    rows: tuple[Row, ...]
    headline: str | None
    scorers: tuple[str, ...]
    holes: Mapping[str, str]
    control_rows: tuple[Row, ...] = ()
    controls: Mapping[str, str] = field(default_factory=dict)
    noise_floor: tuple[Row, ...] = ()
    independence: Headline = field(default_factory=lambda: Headline(None, None))

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """The comparison as text, for a terminal."""
        return table(self)

    def csv(self) -> str:
        """One line a cell: every metric with its interval; empty where it was not measured."""
        return csv(self)

    def to_csv(self, path: str | Path) -> None:
        """Write `csv()` to a file."""
        write_text(path, self.csv())

    def plot(self, path: str | Path) -> None:
        """Write the picture: toxicity against cross-entropy, one line a base, strength as path."""
        from detox.bench.plots import pareto

        pareto(self, Path(path))


def compare(
    source: str | Path | Sequence[Scorecard] | Mapping[str, Scorecard],
    *,
    protocol: str | None = None,
    scorer: str | None = None,
    sources: Mapping[str, FitSources] | None = None,
) -> Comparison:
    """Put scorecards side by side.

    Args:
        source: a results directory of the runner; or scorecards, the first of which is the base that the others are compared with,
            by name or in order.
        protocol: which of a directory's protocols; may be left out where there is only one.
        scorer: which of the protocol's scorers is to be the headline; the first that is independent of every fit where it is None.
        sources: by method, what it learned from, where no record says it: a scorer that learned from the same, or had a say in it,
            is not the headline. Of scorecards without it, nothing is known and nothing said.

    Raises:
        InputError: scorecards of different protocols, which cannot be compared.
        UnknownName: a scorer that the protocol does not have.
        MissingData, DataError: see `read_records`.
    """
    holes: dict[str, str] = {}
    controls: dict[str, str] = {}
    if isinstance(source, (str, Path)):
        cells, holes, controls = _from_directory(Path(source), protocol)
    else:
        named = dict(source) if isinstance(source, Mapping) else {str(i): card for i, card in enumerate(source)}
        if not named:
            raise InputError("nothing to compare: got no scorecards")
        for name, card in named.items():
            if not isinstance(card, Scorecard):
                raise InputError(
                    f"cannot compare {name!r}: got {card!r}, expected a Scorecard, or one results directory"
                )
        first = next(iter(named))
        cells = [({"base": first, "method": n if n != first else None, "strength": None, "protocol": c.protocol["name"], "seed": 0}, c)
                 for n, c in named.items()]  # fmt: skip
    require_same_question([card for _, card in cells])
    scorers = tuple(entry["name"] for entry in cells[0][1].protocol["identity"]["scorers"])
    fits = {**fits_of([n for n, _ in cells], besides=controls), **(sources or {})}
    if scorer is not None and scorer not in scorers:
        raise UnknownName("scorer of these records", scorer, scorers)
    chosen = choose_headline(scorers, cards_of(cells[0][1]), fits, asked=scorer)
    headline = chosen.scorer
    scorers = tuple(sorted(scorers, key=lambda name: name != headline))
    bases = {(n["base"], n["seed"]): card for n, card in cells if n["method"] is None}
    rows = [_row(names, card, bases.get((names["base"], names["seed"])), headline) for names, card in cells]
    order = {name: index for index, name in enumerate(dict.fromkeys(n["base"] for n, _ in cells))}
    rows.sort(key=lambda r: (r.seed, order[r.base], r.method is not None, r.method or "", r.strength or 0.0))
    methods = tuple(row for row in rows if row.method not in controls and row.method != NOISE_FLOOR)
    against = tuple(row for row in rows if row.method in controls)
    floor = tuple(row for row in rows if row.method == NOISE_FLOOR)
    return Comparison(methods, headline, scorers, holes, against, controls, floor, chosen)


def _from_directory(
    root: Path, protocol: str | None
) -> tuple[list[tuple[dict[str, Any], Scorecard]], dict[str, str], dict[str, str]]:
    records, damaged = sound_records(root)
    cells = [(record.names, record.scorecard) for record in records]
    holes: dict[str, str] = dict(damaged)
    controls: dict[str, str] = {}
    grid = read_summary(root)
    # Cells of earlier grids stay in the folder, under the names of those grids; the last grid says which are meant, how they are
    # called now, and in which order. One record may be there under two names.
    if grid is not None:
        holes, controls = {**grid["holes"], **damaged}, grid.get("controls", {})
        by_key = {_key(record.folder.name): record for record in records}
        entries = [{"folder": entry} if isinstance(entry, str) else entry for entry in grid["cells"]]
        found = [(entry, by_key[_key(entry["folder"])]) for entry in entries if _key(entry["folder"]) in by_key]
        cells = [({**record.names, **entry}, record.scorecard) for entry, record in found]
    names = list(dict.fromkeys(name["protocol"] for name, _ in cells))
    if protocol is None and len(names) > 1:
        raise InputError(f"{root} holds the protocols {', '.join(names)}, which cannot be compared; choose one")
    cells = [(name, card) for name, card in cells if protocol in (None, name["protocol"])]
    if not cells:
        raise InputError(f"{root} holds no cell of protocol {protocol!r}; it holds {', '.join(names) or 'none'}")
    if grid is None:
        _require_one_of_each_name(root, [name for name, _ in cells])
    return cells, holes, controls


def _require_one_of_each_name(root: Path, cells: Sequence[Mapping[str, Any]]) -> None:
    """Refuse cells of several grids that no list tells apart: a method would be held against another base of the same name."""
    bases: dict[str, Any] = {}
    known: set[tuple[Any, ...]] = set()
    for cell in cells:
        key = tuple(cell[part] for part in ("base", "method", "strength", "protocol", "seed"))
        base = (cell.get("identity") or {}).get("base")
        if key in known or bases.setdefault(cell["base"], base) != base:
            what = f"{cell['base']}, {cell['method'] or 'without method'}"
            if (root / "tuned").is_dir():
                raise InputError(
                    f"{root} holds more than one split of detox tune, whose cells have one name ({what}); `detox tune show {root}` shows "
                    "each split, a grid with tuned: compares what was chosen"
                )
            raise InputError(
                f"{root} holds records of several grids under one name ({what}), and no grid.json says which is meant; run one grid "
                "to its end there, or give each its own --output_dir"
            )
        known.add(key)


def _key(folder: str) -> str:
    return folder.rsplit("--", 1)[-1]


def _row(names: Mapping[str, Any], card: Scorecard, base: Scorecard | None, headline: str | None) -> Row:
    treated = names["method"] is not None and base is not None
    return Row(
        **{key: names[key] for key in ("base", "method", "strength", "protocol", "seed")},
        scorecard=card,
        toxicity=card.metrics.get(f"toxicity/{headline}/mean"),
        toxicity_change=(
            toxicity_change(card, base, headline) if treated and base and headline and "scores" in base.tables else None
        ),
        cross_entropy_change=cross_entropy_change(card, base) if treated and base else None,
        chosen_on=_chosen_on(names, card),
        budget=(names.get("chosen_on") or {}).get("budget"),
    )


def toxicity_change(treated: Scorecard, base: Scorecard, scorer: str) -> Estimate:
    """Mean toxicity of `treated` minus that of `base`, paired over prompts.

    Scores in [0, 1], as `detox.scorers.score_texts` lets no others pass, differ by 1 at most, which the interval knows: prompts that do
    not differ at all are few or many. A table from elsewhere whose scores leave [0, 1] has no such bound.
    """
    prompts = list(dict.fromkeys(base.tables["scores"]["prompt"]))
    sides = prompt_scores(treated, scorer, prompts), prompt_scores(base, scorer, prompts)
    bounded = all(((side >= 0) & (side <= 1) | np.isnan(side)).all() for side in sides)
    return paired_difference(*sides, reach=1.0 if bounded else None)


def cross_entropy_change(treated: Scorecard, base: Scorecard) -> Estimate | None:
    """Token-weighted clean cross-entropy of `treated` minus that of `base`, paired over documents; None if it was not measured."""
    if "documents" not in treated.tables or "documents" not in base.tables:
        return None
    a, b = treated.tables["documents"], base.tables["documents"]
    return paired_ratio_difference(a["nats"], a["tokens"], b["nats"], b["tokens"])


def _chosen_on(names: Mapping[str, Any], card: Scorecard) -> str | None:
    """What a strength was chosen on: "development", or "test" where the cell is measured on any of these prompts."""
    chosen = names.get("chosen_on")
    if chosen is None:
        return None
    return (
        "test"
        if set(chosen.get("prompt_ids", ())) & set(card.tables.get("scores", {}).get("prompt", ()))
        else str(chosen["part"])
    )
