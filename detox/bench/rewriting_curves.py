"""Detoxified paraphrasers: toxicity of what they write beside its nearness in meaning (arXiv 2401.08491, section 4 and its ablations)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detox.bench.claims import MEASURABLE, Claim
from detox.bench.comparison import Row
from detox.bench.curve_plots import finish, panels_of
from detox.bench.curves import Curves, metric
from detox.bench.differences import Difference, require_paired
from detox.bench.plots import COLOURS
from detox.statistics import Floats, mean_estimate

_PROPOSED = "contrastive_perplexity"


def rewriting_claims(curves: Curves) -> list[Claim]:
    """Each method writes less toxic paraphrases than the bare model; the proposed one less than others, and nearer than degenerate ones."""
    methods = [name for name in curves.methods() if _rows(curves, name)]
    bare = _rows(curves, None)
    toxic_enough = min(metric(bare, "rewriting/toxicity").values) >= MEASURABLE
    nothing = None if toxic_enough else "the bare model's paraphrases are not toxic"
    claims = []
    for name in methods:
        rows = _rows(curves, name)
        claims.append(
            Claim(
                f"{name} writes less toxic paraphrases than no method",
                -1,
                text_difference(rows, bare, "score"),
                nothing,
            )
        )
        claims.append(Claim(f"{name} strays from the meaning", -1, text_difference(rows, bare, "similarity")))
    for name in (name for name in methods if name != _PROPOSED and _PROPOSED in methods):
        ours, theirs = _rows(curves, _PROPOSED), _rows(curves, name)
        claims.append(
            Claim(
                f"{_PROPOSED} writes less toxic paraphrases than {name}",
                -1,
                text_difference(ours, theirs, "score"),
                nothing,
            )
        )
        claims.append(
            Claim(
                f"{_PROPOSED} stays nearer to the meaning than {name}", 1, text_difference(ours, theirs, "similarity")
            )
        )
    return claims


def text_difference(treated: Sequence[Row], control: Sequence[Row], column: str) -> Difference:
    """Mean of a column of `rewriting` of `treated` minus `control`, paired by seed and text, where both answered."""
    require_paired(treated, control)
    changes = np.array(
        [_by_text(a, column) - _by_text(b, column) for a, b in zip(treated, control, strict=True)], dtype=np.float64
    )
    by_text = [float(np.mean(one[~np.isnan(one)])) if not np.isnan(one).all() else math.nan for one in changes.T]
    seeds = tuple(float(np.mean(row[~np.isnan(row)])) if not np.isnan(row).all() else math.nan for row in changes)
    return Difference(mean_estimate(by_text), seeds)


def draw_rewriting(curves: Curves, path: Path) -> None:
    """Toxicity against similarity, and against what the method costs in clean cross-entropy; a mark a method, with its seeds."""
    first, second = panels_of(2)
    for index, name in enumerate([None, *curves.methods()]):
        rows = _rows(curves, name)
        if not rows:
            continue
        toxicity = metric(rows, "rewriting/toxicity")
        for axes, asked in ((first, "rewriting/similarity"), (second, "clean/cross_entropy")):
            found = metric(rows, asked)
            if math.isnan(found.mean):
                continue
            bars = [None if math.isnan(one.standard_error) else one.standard_error for one in (found, toxicity)]
            colour = COLOURS[index % len(COLOURS)]
            marker = "os^DvPX"[index // len(COLOURS) % 7] if index else "*"
            axes.errorbar(
                found.mean, toxicity.mean, xerr=bars[0], yerr=bars[1], marker=marker, color=colour, capsize=2, linestyle="",
                label=name or "no method",
            )  # fmt: skip
            axes.plot(found.values, toxicity.values, marker=".", color=colour, linestyle="", alpha=0.35)
    first.set_xlabel("similarity to what is said again (cosine)")
    second.set_xlabel("clean cross-entropy (nats per token)")
    for axes in (first, second):
        axes.set_ylabel(f"toxicity of paraphrases ({curves.headline})")
    first.legend(fontsize=7, frameon=False)
    finish([first, second], path)


def _rows(curves: Curves, method: str | None) -> list[Row]:
    """One row a seed of the bases whose paraphrases were measured, at the first strength."""
    strengths = [] if method is None else curves.strengths(method)
    rows = [
        row
        for row in curves.comparison.rows
        if row.method == method
        and (not strengths or row.strength == strengths[0])
        and "rewriting" in row.scorecard.tables
        and curves.factors.get(row.base, {}).get("stage") == "paraphraser"
    ]
    return sorted(rows, key=lambda row: int(curves.factors[row.base].get("seed", 0)))


def _by_text(row: Row, column: str) -> Floats:
    """(texts,) mean over a text's samples that have the value, NaN where none has, in the order of the protocol."""
    table = row.scorecard.tables["rewriting"]
    place = {text: index for index, text in enumerate(dict.fromkeys(table["text"]))}
    values = np.array(table[column], dtype=np.float64)
    rows = np.array([place[text] for text in table["text"]])
    known = ~np.isnan(values)
    count = np.bincount(rows[known], minlength=len(place))
    total = np.bincount(rows[known], weights=values[known], minlength=len(place))
    found: Floats = np.divide(total, count, out=np.full(len(place), np.nan), where=count > 0)
    return found
