"""Comparison: many scorecards side by side, each against its own base, paired by prompt and by document."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detox.bench.cells import read_records
from detox.bench.guidance import cards_of, fits_of
from detox.errors import InputError
from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means, score_matrix
from detox.files import write_text
from detox.scorers.independence import Headline, choose_headline
from detox.statistics import Estimate, Floats, paired_difference, paired_ratio_difference

_CE = "clean/cross_entropy"
_EXTRA = ("recognition/auc", "probe/auc", "safenlp/mean_all_groups", "rewriting/toxicity", "rewriting/similarity")


@dataclass(frozen=True)
class Row:
    """One cell of a comparison.

    Attributes:
        base, method, strength, protocol, seed: names; method None is the bare base.
        scorecard: what was measured.
        toxicity: the headline scorer's mean, per prompt first.
        toxicity_change: against the same base without method, paired over prompts; None for the base itself or without its record.
        cross_entropy_change: the same for clean cross-entropy, paired over documents, in nats per token.
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

    @property
    def method_label(self) -> str:
        """Method and strength, "-" for the bare base."""
        if self.method is None:
            return "-"
        return self.method if self.strength is None else f"{self.method} @ {self.strength:g}"


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
        independence: what is to be said of the headline; see `detox.scorers.independence`.
    """

    rows: tuple[Row, ...]
    headline: str | None
    scorers: tuple[str, ...]
    holes: Mapping[str, str]
    control_rows: tuple[Row, ...] = ()
    controls: Mapping[str, str] = field(default_factory=dict)
    independence: Headline = field(default_factory=lambda: Headline(None, None))

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """The comparison as text, for a terminal."""
        lines = [self._header(), *(self._line(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        text.insert(1, "-" * len(text[0]))
        text += [f"({note})" for note in self.independence.notes]
        text += [f"(no record: {name}: {reason})" for name, reason in self.holes.items()]
        if self.control_rows:
            from detox.bench.equal_cost import against_controls, table

            text += ["", table(against_controls(self))]
        return "\n".join(text)

    def _extra_metrics(self) -> list[str]:
        present = [name for name in _EXTRA if any(name in r.scorecard.metrics for r in self.rows)]
        choices = sorted(
            {n for r in self.rows for n in r.scorecard.metrics if n.startswith("choice/") and n.endswith("/accuracy")}
        )
        pairs = (
            ["minimal_pairs/accuracy"]
            if any("minimal_pairs/accuracy" in r.scorecard.metrics for r in self.rows)
            else []
        )
        # Where nothing is written, the tasks are what the protocol is for.
        return [*present, *(choices[:2] if self.headline else choices), *pairs]

    def _header(self) -> list[str]:
        independent = self.independence.label if self.independence.scorer == self.headline else self.headline
        names = ["base", "method", f"toxicity ({independent})", "change"]
        names += [f"({scorer})" for scorer in self.scorers[1:]]
        return [
            *names,
            "CE nats",
            "change",
            *(m.replace("/accuracy", "").replace("choice/", "") for m in self._extra_metrics()),
        ]

    def _line(self, row: Row) -> list[str]:
        metrics = row.scorecard.metrics
        others = [metrics.get(f"toxicity/{scorer}/mean") for scorer in self.scorers[1:]]
        return [
            row.base,
            row.method_label,
            show(row.toxicity),
            show(row.toxicity_change, signed=True),
            *(show(other, interval=False) for other in others),
            show(metrics.get(_CE), interval=False),
            show(row.cross_entropy_change, signed=True),
            *(show(metrics.get(name), interval=False) for name in self._extra_metrics()),
        ]

    def csv(self) -> str:
        """One line a cell: every metric with its interval; empty where it was not measured."""
        metrics = list(dict.fromkeys(name for row in self.rows for name in row.scorecard.metrics))
        changes = ["toxicity_change", "cross_entropy_change"]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        names = [f"{name}{end}" for name in [*metrics, *changes] for end in ("", " low", " high")]
        writer.writerow(["base", "method", "strength", "protocol", "seed", *names])
        for row in (*self.rows, *self.control_rows):
            estimates = [
                *(row.scorecard.metrics.get(name) for name in metrics),
                row.toxicity_change,
                row.cross_entropy_change,
            ]
            cells = [_plain(value) for e in estimates for value in ((e.value, e.low, e.high) if e else (math.nan,) * 3)]
            strength = "" if row.strength is None else f"{row.strength:g}"
            writer.writerow([row.base, row.method or "", strength, row.protocol, row.seed, *cells])
        return out.getvalue()

    def to_csv(self, path: str | Path) -> None:
        """Write `csv()` to a file."""
        write_text(path, self.csv())

    def plot(self, path: str | Path) -> None:
        """Write the picture: toxicity against cross-entropy, one line a base, strength as path."""
        from detox.bench.plots import pareto

        pareto(self, Path(path))


def compare(
    source: str | Path | Sequence[Scorecard] | Mapping[str, Scorecard], *, protocol: str | None = None
) -> Comparison:
    """Put scorecards side by side.

    Args:
        source: a results directory of the runner; or scorecards, the first of which is the base that the others are compared with,
            by name or in order.
        protocol: which of a directory's protocols; may be left out where there is only one.

    Raises:
        InputError: scorecards of different protocols, which cannot be compared.
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
        first = next(iter(named))
        cells = [({"base": first, "method": n if n != first else None, "strength": None, "protocol": c.protocol["name"], "seed": 0}, c)
                 for n, c in named.items()]  # fmt: skip
    _require_same_protocol([card for _, card in cells])
    scorers = tuple(entry["name"] for entry in cells[0][1].protocol["identity"]["scorers"])
    chosen = choose_headline(scorers, cards_of(cells[0][1]), fits_of([n for n, _ in cells], besides=controls))
    headline = chosen.scorer
    scorers = tuple(sorted(scorers, key=lambda name: name != headline))
    bases = {(n["base"], n["seed"]): card for n, card in cells if n["method"] is None}
    rows = [_row(names, card, bases.get((names["base"], names["seed"])), headline) for names, card in cells]
    order = {name: index for index, name in enumerate(dict.fromkeys(n["base"] for n, _ in cells))}
    rows.sort(key=lambda r: (r.seed, order[r.base], r.method is not None, r.method or "", r.strength or 0.0))
    methods = tuple(row for row in rows if row.method not in controls)
    control_rows = tuple(row for row in rows if row.method in controls)
    return Comparison(methods, headline, scorers, holes, control_rows, controls, chosen)


def _from_directory(
    root: Path, protocol: str | None
) -> tuple[list[tuple[dict[str, Any], Scorecard]], dict[str, str], dict[str, str]]:
    records = read_records(root)
    cells = [(record.names, record.scorecard) for record in records]
    holes: dict[str, str] = {}
    controls: dict[str, str] = {}
    summary = root / "grid.json"
    # Cells of earlier grids stay in the folder, under the names of those grids; the last grid says which are meant, how they are
    # called now, and in which order. One record may be there under two names.
    if summary.is_file():
        grid = json.loads(summary.read_text(encoding="utf-8"))
        holes, controls = grid["holes"], grid.get("controls", {})
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
    return cells, holes, controls


def _key(folder: str) -> str:
    return folder.rsplit("--", 1)[-1]


def _require_same_protocol(cards: Sequence[Scorecard]) -> None:
    def asked(card: Scorecard) -> dict[str, Any]:
        identity = dict(card.protocol["identity"])
        identity["sampling"] = {k: v for k, v in identity["sampling"].items() if k != "seed"}
        return identity

    first = asked(cards[0])
    for card in cards[1:]:
        other = asked(card)
        different = [key for key in {**first, **other} if first.get(key) != other.get(key)]
        if different:
            raise InputError(
                f"scorecards of different protocols cannot be compared: {cards[0].protocol['name']!r} and {card.protocol['name']!r} "
                f"differ in {', '.join(different)}"
            )


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
    )


def toxicity_change(treated: Scorecard, base: Scorecard, scorer: str) -> Estimate:
    """Mean toxicity of `treated` minus that of `base`, paired over prompts."""
    prompts = list(dict.fromkeys(base.tables["scores"]["prompt"]))
    a, b = (_prompt_means(card, scorer, prompts) for card in (treated, base))
    return paired_difference(a, b)


def _prompt_means(card: Scorecard, scorer: str, prompts: list[str]) -> Floats:
    return prompt_means(score_matrix(card.tables["scores"], scorer, prompts))


def cross_entropy_change(treated: Scorecard, base: Scorecard) -> Estimate | None:
    """Token-weighted clean cross-entropy of `treated` minus that of `base`, paired over documents; None if it was not measured."""
    if "documents" not in treated.tables or "documents" not in base.tables:
        return None
    a, b = treated.tables["documents"], base.tables["documents"]
    return paired_ratio_difference(a["nats"], a["tokens"], b["nats"], b["tokens"])


def show(estimate: Estimate | None, *, signed: bool = False, interval: bool = True) -> str:
    """An estimate for a table; empty where there is none."""
    if estimate is None:
        return ""
    if math.isnan(estimate.value):
        return "missing"
    sign = "+" if signed else ""
    text = f"{estimate.value:{sign}.3f}"
    return (
        f"{text} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"
        if interval and not math.isnan(estimate.low)
        else text
    )


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
