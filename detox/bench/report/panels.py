"""What other parts of a comparison have to say, as tables of text: the question of the project, the scorers' agreement, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detox.bench.agreement import DRAWS, panel_agreement
from detox.bench.comparison import Row
from detox.bench.comparison_text import show
from detox.bench.report.reading import Results

_FEWEST_DRAWS = 100
_WORK = 1e8  # texts x resamples of all cells: seconds, not minutes


def agreement_panel(
    results: Results, rows: Sequence[Row], changes: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Every pair of scorers before and after every method; None with one scorer, or where nothing was written.

    Args:
        results: the comparison.
        rows: of the report.
        changes: of every row, by metric, as a report's cells hold them.
    """
    scorers = len(results.comparison.scorers)
    texts = sum(
        len(row.scorecard.tables["scores"]["prompt"]) / max(scorers, 1)
        for row in results.comparison.rows
        if row.method is not None and "scores" in row.scorecard.tables
    )
    work = texts * scorers * (scorers - 1) / 2
    if not work:
        return None
    draws = int(min(DRAWS, max(_FEWEST_DRAWS, _WORK / work)))
    numbers = {id(row): number for number, row in enumerate(rows)}
    lines = []
    for row, found in panel_agreement(results.comparison, draws=draws):
        own = changes[numbers[id(row)]]
        lower = [name for name in found.scorers if _falls(own.get(f"toxicity/{name}/mean"))]
        lines.append(
            {
                "base": row.base,
                "method": row.method,
                "flag": found.falls and len(lower) == 1,
                "values": [
                    f"{row.base}, {row.method_label}",
                    " ~ ".join(found.scorers),
                    _number(found.spearman[0]),
                    show(found.spearman_change, signed=True) or "–",
                    _number(found.kappa[0]),
                    show(found.kappa_change, signed=True) or "–",
                    "both" if len(lower) == len(found.scorers) else f"{lower[0]} alone" if lower else "neither",
                    "falls" if found.falls else "",
                ],
            }
        )  # fmt: skip
    note = (
        "Spearman's correlation and Cohen's kappa of two scorers over the same texts, of the base and with the method. Where a method "
        "pleases one scorer alone, toxicity falls by that one and agreement falls with it: such rows stand out. Agreement also falls where "
        f"little toxicity is left to rank, so a fall is a reason to look, not a verdict. {draws} resamples of the prompts."
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


def _falls(change: Mapping[str, Any] | None) -> bool:
    high = None if change is None else change["estimate"][2]
    return high is not None and high < 0


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
