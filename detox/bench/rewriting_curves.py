"""Detoxified paraphrasers: toxicity of what they write beside its nearness in meaning (arXiv 2401.08491, section 4 and its ablations)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detox.bench.claims import MEASURABLE, NOT_MEASURED, Claim
from detox.bench.comparison import Row
from detox.bench.curve_plots import finish, panels_of
from detox.bench.curves import Curves, metric
from detox.bench.differences import Difference, of_changes, require_paired
from detox.bench.plots import COLOURS
from detox.errors import InputError
from detox.evaluation.rewriting import text_means
from detox.statistics import Floats

_PROPOSED = "contrastive_perplexity"


def rewriting_claims(curves: Curves) -> list[Claim]:
    """Each method writes less toxic paraphrases than the bare model; the proposed one less than others, and nearer than degenerate ones.

    Raises:
        InputError: no base of the grid has the factor `stage: paraphraser`.
    """
    found = _rows(curves)
    bare = found.pop("-")
    toxic = metric(bare.values(), "rewriting/toxicity").values
    nothing = None
    if len(toxic) < len(bare) or any(math.isnan(one) for one in toxic):
        nothing = NOT_MEASURED
    elif min(toxic) < MEASURABLE:
        nothing = "the bare model's paraphrases are not toxic"
    claims = []
    for name, rows in found.items():
        claims.append(_claim(f"{name} writes less toxic paraphrases than no method", -1, rows, bare, "score", nothing))
        claims.append(_claim(f"{name} strays from the meaning", -1, rows, bare, "similarity", None))
    proposed = next((name for name in found if name.split(" @ ")[0] == _PROPOSED), None)
    for name, rows in found.items():
        if proposed is None or name == proposed:
            continue
        ours = found[proposed]
        claims.append(_claim(f"{proposed} writes less toxic paraphrases than {name}", -1, ours, rows, "score", nothing))
        claims.append(_claim(f"{proposed} stays nearer to the meaning than {name}", 1, ours, rows, "similarity", None))
    return claims


def _claim(
    name: str,
    expected: int,
    treated: Mapping[int, Row],
    control: Mapping[int, Row],
    column: str,
    untestable: str | None,
) -> Claim:
    """A claim of the seeds that both sides have; where one lacks a seed of the other, it is not measured."""
    if treated.keys() != control.keys():
        return Claim(name, expected, None, untestable or NOT_MEASURED)
    rows = [[side[seed] for seed in sorted(side)] for side in (treated, control)]
    return Claim(name, expected, text_difference(rows[0], rows[1], column), untestable)


def text_difference(treated: Sequence[Row], control: Sequence[Row], column: str) -> Difference:
    """Mean of a column of `rewriting` of `treated` minus `control`, paired by seed and text, where both answered."""
    require_paired(treated, control)
    pairs = zip(treated, control, strict=True)
    changes = np.array([_by_text(a, column) - _by_text(b, column) for a, b in pairs], dtype=np.float64)
    unscored = [
        np.isnan(np.array(row.scorecard.tables["rewriting"][column], dtype=np.float64)) for row in (*treated, *control)
    ]
    reach = 1.0 if column == "score" else None  # a similarity may be below 0
    return of_changes(changes, missing=max(float(one.mean()) for one in unscored), reach=reach)


def draw_rewriting(curves: Curves, path: Path) -> None:
    """Toxicity against similarity, and against clean cross-entropy; a mark a method and strength, with its seeds."""
    first, second = panels_of(2)
    for index, (name, by_seed) in enumerate(_rows(curves).items()):
        rows = list(by_seed.values())
        toxicity = metric(rows, "rewriting/toxicity")
        for axes, asked in ((first, "rewriting/similarity"), (second, "clean/cross_entropy")):
            found = metric(rows, asked)
            if math.isnan(found.mean) or math.isnan(toxicity.mean):
                continue
            bars = [None if math.isnan(one.standard_error) else one.standard_error for one in (found, toxicity)]
            colour = COLOURS[index % len(COLOURS)]
            marker = "os^DvPX"[index // len(COLOURS) % 7] if index else "*"
            axes.errorbar(
                found.mean, toxicity.mean, xerr=bars[0], yerr=bars[1], marker=marker, color=colour, capsize=2, linestyle="",
                label=name if index else "no method",
            )  # fmt: skip
            axes.plot(found.values, toxicity.values, marker=".", color=colour, linestyle="", alpha=0.35)
    first.set_xlabel("similarity to what is said again (cosine)")
    second.set_xlabel("clean cross-entropy (nats per token)")
    for axes in (first, second):
        axes.set_ylabel(f"toxicity of paraphrases ({curves.headline_named})")
    first.legend(fontsize=7, frameon=False)
    finish([first, second], path)


def _rows(curves: Curves) -> dict[str, dict[int, Row]]:
    """One row a seed of the bases that paraphrase, by method and strength; "-", the bare ones, first."""
    found: dict[str, dict[int, Row]] = {"-": {}}
    for row in curves.comparison.rows:
        factors = curves.factors.get(row.base, {})
        if factors.get("stage") == "paraphraser" and "rewriting" in row.scorecard.tables:
            found.setdefault(row.method_label, {})[int(factors.get("seed", 0))] = row
    if not found["-"]:
        raise InputError(
            "curves: rewriting needs bases with the factor `stage: paraphraser`, measured without a method by a protocol with "
            "`rewriting:`; the grid has none"
        )
    return found


def _by_text(row: Row, column: str) -> Floats:
    table = row.scorecard.tables["rewriting"]
    return text_means(table, np.array(table[column], dtype=np.float64))
