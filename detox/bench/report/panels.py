"""What other parts of a comparison have to say, as tables of text: the question of the project, the scorers' agreement, verdicts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from detox.bench.agreement import DRAWS, falls_by, panel_agreement
from detox.bench.cell_list import NOISE_FLOOR
from detox.bench.comparison import Row
from detox.bench.comparison_text import show
from detox.bench.equal_utility import at_equal_utility
from detox.bench.fronts import Front
from detox.bench.gamed_scorer import said
from detox.bench.interaction import interactions
from detox.bench.interaction_text import to_dict
from detox.bench.report.reading import Results
from detox.bench.verdicts import verdicts
from detox.statistics import Estimate

_FEWEST_DRAWS = 100
_MOST_WORK = 1.2e8  # texts x resamples of all cells: beyond it, only the largest strength of each method is looked at
_LESS_WORK = 2.5e7


def interaction_panel(results: Results) -> dict[str, Any] | None:
    """Does pretraining change what a method does: methods by arms, and the numbers behind it; None where nothing can be compared."""
    found = interactions(results.comparison, results.grid.get("factors") or {})
    if found is None:
        return None
    cells: dict[str, dict[str, Any]] = {}
    for row in found.rows:
        value = row.interaction.over_prompts
        cells.setdefault(row.method, {})[f"{row.arm} against {row.reference}"] = {
            "estimate": [finite(part) for part in (value.value, value.low, value.high)],
            "verdict": row.verdict,
        }
    details = to_dict(found)["rows"]
    return {
        "headline": found.headline,
        "price": found.price,
        "arms": list(dict.fromkeys(arm for row in cells.values() for arm in row)),
        "cells": cells,
        "rows": details,
        "left_out": list(found.left_out),
        "single": any(row.fits == 1 for row in found.rows),
    }


def add_verdicts(
    results: Results, rows: Sequence[Row], cells: Sequence[dict[str, Any]], found: Sequence[Front]
) -> None:
    """Put into every cell what can be said of it: `verdicts` in words, `tests` of multiple choice, `front` membership."""
    places = {id(row): cell for row, cell in zip(rows, cells, strict=True)}
    for one in verdicts(results.comparison):
        cell = places[id(one.row)]
        p = one.p_holm if not math.isnan(one.p_holm) else one.p
        unsaid = one.toxicity in ("withheld", "not measured")
        words = one.toxicity if unsaid else f"{one.toxicity_words}, p {p_value(p)}"
        if one.row.method == NOISE_FLOOR and not unsaid:
            words += " (single)"  # in no family, so not corrected
        if one.toxicity == "withheld":
            words = f"withheld: {one.missing:.1%} missing"
        cell["verdicts"] = {
            "toxicity": None if one.toxicity == "not measured" else words,
            "utility": one.utility,
            "ranked": one.may_rank,
            "alone": said(str(results.comparison.headline), one.unseen) or None,
        }
        cell["tests"] = {
            task: {
                "gained": test.gained,
                "lost": test.lost,
                "p": finite(test.p_holm if test.p_holm == test.p_holm else test.p),
            }
            for task, test in one.choices.items()
        }
    labels = {(row.base, row.seed, row.method_label): cell for row, cell in zip(rows, cells, strict=True)}
    for front in found:
        for label, share in zip(front.labels, front.membership, strict=True):
            labels[front.base, front.seed, label]["front"] = finite(float(share))


def front_panels(found: Sequence[Front]) -> list[dict[str, Any]]:
    """By base: what each method's path covers, and how often one cell dominates another."""
    return [
        {
            "base": front.base,
            "seed": front.seed,
            "labels": ["base" if label == "-" else label for label in front.labels],
            "dominates": [[finite(float(v)) for v in row] for row in front.dominates],
            "covered": {
                name: [finite(v) for v in (one.value, one.low, one.high)] for name, one in front.covered.items()
            },
            "left_out": list(front.left_out),
        }
        for front in found
    ]


def equal_utility_panel(results: Results) -> dict[str, Any] | None:
    """The methods of each base at one price, each with its difference to the next; None where no base has two that can be read."""
    found = at_equal_utility(results.comparison)
    if not found:
        return None

    def three(one: Estimate) -> list[float | None]:
        return [finite(part) for part in (one.value, one.low, one.high)]

    rows = []
    for one in found:
        for at, following in zip_longest(one.methods, one.methods[1:]):
            pair = None if following is None else one.differences.get((at.method, following.method))
            rows.append(
                {
                    "base": one.base,
                    "method": at.method,
                    "paid": finite(at.paid),
                    "toxicity": three(at.toxicity),
                    "change": three(at.change),
                    "to_next": None if pair is None else three(pair),
                    "unranked": at.unranked,
                }
            )
    return {"price": found[0].price, "rows": rows}


def p_value(p: float) -> str:
    """As papers write it."""
    return "< .001" if p < 0.001 else f"{p:.3f}"


def finite(value: float) -> float | None:
    """Six significant digits; None for NaN."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def agreement_panel(
    results: Results, rows: Sequence[Row], changes: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Every pair of scorers before and after every method; None with one scorer, or where nothing was written.

    Args:
        results: the comparison.
        rows: of the report.
        changes: of every row, by metric, as a report's cells hold them.
    """
    comparison = results.comparison
    treated = [row for row in comparison.rows if row.method is not None and "scores" in row.scorecard.tables]
    work = _work(treated)
    part = work * DRAWS > _MOST_WORK
    if part:
        treated = [row for row in treated if not any(_stronger(other, row) for other in treated)]
        work = _work(treated)
    if not work:
        return None
    draws = int(min(DRAWS, max(_FEWEST_DRAWS, (_LESS_WORK if part else _MOST_WORK) / work)))
    asked = replace(comparison, rows=(*(row for row in comparison.rows if row.method is None), *treated))
    numbers = {id(row): number for number, row in enumerate(rows)}
    lines = []
    for row, found in panel_agreement(asked, draws=draws):
        own = changes[numbers[id(row)]]
        lower = [name for name in found.scorers if _falls(own.get(f"toxicity/{name}/mean"))]
        by = falls_by(comparison, row, found.scorers, lower)
        lines.append(
            {
                "base": row.base,
                "method": row.method,
                "flag": found.falls and by.endswith(" alone"),
                "values": [
                    f"{row.base}, {row.method_label}",
                    " ~ ".join(found.scorers),
                    _number(found.spearman[0]),
                    show(found.spearman_change, signed=True) or "–",
                    _number(found.kappa[0]),
                    show(found.kappa_change, signed=True) or "–",
                    by,
                    "falls" if found.falls else "",
                ],
            }
        )  # fmt: skip
    note = (
        "Spearman's correlation and Cohen's kappa of two scorers over the same texts, of the base and with the method. Where a method "
        "pleases one scorer alone, toxicity falls by that one and agreement falls with it: such rows stand out. Agreement also falls where "
        f"little toxicity is left to rank, so a fall is a reason to look, not a verdict. {draws} resamples of the prompts."
        + (" Of each method its largest strength." if part else "")
    )
    head = [
        "base and method",
        "scorers",
        "Spearman before",
        "change",
        "kappa before",
        "change",
        "toxicity falls by",
        "agreement",
    ]
    return {"note": note, "head": head, "rows": lines} if lines else None


def _work(rows: Sequence[Row]) -> int:
    """Texts x pairs of scorers."""
    counts = [Counter(row.scorecard.tables["scores"]["scorer"]) for row in rows]
    return sum(max(one.values(), default=0) * len(one) * (len(one) - 1) // 2 for one in counts)


def _stronger(one: Row, other: Row) -> bool:
    same = (one.base, one.seed, one.method) == (other.base, other.seed, other.method)
    return same and (one.strength or 0.0) > (other.strength or 0.0)


def _falls(change: Mapping[str, Any] | None) -> bool:
    high = None if change is None else change["estimate"][2]
    return high is not None and high < 0


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
