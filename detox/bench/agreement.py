"""Do the scorers of a panel agree before a method as they do after it? A method that learned to please one of them shows here.

Agreement also falls where a method leaves little toxicity to rank, so a fall is a reason to look, not a verdict. What speaks against
gaming is a change of toxicity that every independent scorer sees: `changes_by_scorer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detox.bench.comparison import Comparison, Row, toxicity_change
from detox.bench.comparison_text import show
from detox.errors import InputError
from detox.statistics import (
    MISSING_LIMIT,
    Estimate,
    Floats,
    bootstrap_weights,
    weighted_kappas,
    weighted_spearmans,
)

DRAWS = 500
_AT_ONCE = 2_000_000  # weights of texts that exist at once


@dataclass(frozen=True)
class Agreement:
    """How far two scorers agree on what a base writes and on what it writes with a method.

    Attributes:
        scorers: their names.
        spearman, kappa: before and after; kappa is Cohen's, of "at or above the threshold".
        spearman_change, kappa_change: after minus before, with the interval over prompts; NaN where a side has none.
        texts: scored by both, before and after.
    """

    scorers: tuple[str, str]
    spearman: tuple[float, float]
    kappa: tuple[float, float]
    spearman_change: Estimate
    kappa_change: Estimate
    texts: tuple[int, int]

    @property
    def falls(self) -> bool:
        """Whether one of the two is lower after, and its interval excludes zero."""
        return any(change.high < 0 for change in (self.spearman_change, self.kappa_change))


def agreement(
    before: Mapping[str, Sequence[Any]],
    after: Mapping[str, Sequence[Any]],
    scorers: tuple[str, str],
    *,
    threshold: float = 0.5,
    draws: int = DRAWS,
) -> Agreement:
    """Agreement of two scorers in two tables of scores.

    Args:
        before: "scores" table of the base's scorecard.
        after: the same of the method's, of the same protocol.
        scorers: two names.
        threshold: at or above which a text counts as toxic.
        draws: resamples of the prompts, the same for both tables.

    Raises:
        InputError: the tables are of other prompts, or a scorer is not in one of them.
    """
    prompts = list(dict.fromkeys(before["prompt"]))
    if set(prompts) != set(after["prompt"]):
        raise InputError("the tables hold other prompts; expected scores of one protocol")
    sides = [_resampled(table, scorers, prompts, threshold, draws) for table in (before, after)]
    return _compared(scorers, *sides, prompts=len(prompts))


def panel_agreement(comparison: Comparison, *, draws: int = DRAWS) -> list[tuple[Row, Agreement]]:
    """For every method's row and every pair of scorers; empty with one scorer, or where nothing was written."""
    bases = {(row.base, row.seed): row for row in comparison.rows if row.method is None}
    known: dict[tuple[str, int, tuple[str, str]], _Side] = {}  # a base is compared with many methods
    found = []
    for row in comparison.rows:
        base = bases.get((row.base, row.seed))
        if row.method is None or base is None or "scores" not in row.scorecard.tables:
            continue
        threshold = float(row.scorecard.protocol["identity"]["threshold"])
        before, after = (one.scorecard.tables["scores"] for one in (base, row))
        prompts = list(dict.fromkeys(before["prompt"]))
        for pair in combinations(comparison.scorers, 2):
            key = row.base, row.seed, pair
            if key not in known:
                known[key] = _resampled(before, pair, prompts, threshold, draws)
            side = _resampled(after, pair, prompts, threshold, draws)
            found.append((row, _compared(pair, known[key], side, prompts=len(prompts))))
    return found


def changes_by_scorer(comparison: Comparison, row: Row) -> dict[str, Estimate]:
    """The change of mean toxicity against the row's base, by each scorer; empty for the base itself."""
    base = next(
        (one for one in comparison.rows if (one.base, one.seed, one.method) == (row.base, row.seed, None)), None
    )
    if base is None or row.method is None or "scores" not in row.scorecard.tables:
        return {}
    return {
        name: row.toxicity_change
        if name == comparison.headline and row.toxicity_change is not None
        else toxicity_change(row.scorecard, base.scorecard, name)
        for name in comparison.scorers
    }


def falls_by(comparison: Comparison, row: Row, scorers: tuple[str, str], lower: Sequence[str]) -> str:
    """By which of two scorers toxicity falls, in a word; withheld where one of them has no score for too many completions.

    Args:
        comparison: with the row's base.
        row: of a method.
        scorers: the two.
        lower: those of them whose change has an interval below zero.
    """
    bases = [one for one in comparison.rows if (one.base, one.seed, one.method) == (row.base, row.seed, None)]
    share = max(one.scorecard.share_without_score(name) for one in (row, *bases) for name in scorers)
    if share > MISSING_LIMIT:
        return f"withheld ({share:.1%} missing)"
    return "both" if len(lower) == 2 else f"{lower[0]} alone" if lower else "neither"


def table(comparison: Comparison, *, draws: int = DRAWS) -> str:
    """Agreement of a panel as text, for a terminal; empty with one scorer."""
    rows = panel_agreement(comparison, draws=draws)
    if not rows:
        return ""
    lines = [
        ["base", "method", "scorers", "Spearman before", "change", "kappa before", "change", "toxicity falls by", ""]
    ]
    for row, found in rows:
        changes = changes_by_scorer(comparison, row)
        lower = [name for name in found.scorers if changes[name].high < 0]
        lines.append(
            [
                row.base,
                row.method_label,
                " ~ ".join(found.scorers),
                *(cell for before, change in (
                    (found.spearman[0], found.spearman_change), (found.kappa[0], found.kappa_change)
                ) for cell in ("-" if math.isnan(before) else f"{before:.3f}", show(change, signed=True))),
                falls_by(comparison, row, found.scorers, lower),
                "agreement falls" if found.falls else "",
            ]
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    head = "Agreement of the scorers, before and after (it also falls where little toxicity is left to rank)"
    return "\n".join([head, "", text[0], "-" * len(text[0]), *text[1:]])


_Pairs = tuple[Floats, Floats, NDArray[np.intp]]


class _Side(NamedTuple):
    """One table's agreement: (spearman | kappa,), (spearman | kappa, draws), and how many texts both scored."""

    exact: Floats
    drawn: Floats
    texts: int


def _resampled(
    scores: Mapping[str, Sequence[Any]],
    scorers: tuple[str, str],
    prompts: Sequence[str],
    threshold: float,
    draws: int,
) -> _Side:
    side = _paired(scores, scorers, prompts)
    chunks = [_both(side, weights, threshold) for weights in bootstrap_weights(len(prompts), draws=draws)]
    exact = _both(side, np.ones((1, len(prompts))), threshold)[:, 0]
    return _Side(exact, np.concatenate(chunks, axis=1), len(side[0]))


def _compared(scorers: tuple[str, str], before: _Side, after: _Side, *, prompts: int) -> Agreement:
    spearman_change, kappa_change = (
        _change(float(after.exact[kind] - before.exact[kind]), after.drawn[kind] - before.drawn[kind], prompts)
        for kind in (0, 1)
    )
    spearman, kappa = ((float(before.exact[kind]), float(after.exact[kind])) for kind in (0, 1))
    return Agreement(scorers, spearman, kappa, spearman_change, kappa_change, (before.texts, after.texts))


def _paired(scores: Mapping[str, Sequence[Any]], scorers: tuple[str, str], prompts: Sequence[str]) -> _Pairs:
    """(texts,) values of both scorers where both have one, and the place of each text's prompt."""
    place = {prompt: index for index, prompt in enumerate(prompts)}
    values: dict[str, dict[tuple[str, int], float]] = {name: {} for name in scorers}
    for prompt, sample, name, value in zip(
        scores["prompt"], scores["sample"], scores["scorer"], scores["value"], strict=True
    ):
        if name in values and value is not None and not math.isnan(value):
            values[name][prompt, sample] = value
    for name in scorers:
        if name not in scores["scorer"]:
            raise InputError(f"no scores by {name!r} in the table; it has {', '.join(sorted(set(scores['scorer'])))}")
    first, second = (values[name] for name in scorers)
    keys = [key for key in first if key in second]
    return (
        np.array([first[key] for key in keys], dtype=np.float64),
        np.array([second[key] for key in keys], dtype=np.float64),
        np.array([place[prompt] for prompt, _ in keys], dtype=np.intp),
    )


def _both(side: _Pairs, weights: Floats, threshold: float) -> Floats:
    """(spearman | kappa, resamples) for (resamples, prompts) weights."""
    x, y, prompt = side
    if not len(x):
        return np.full((2, len(weights)), np.nan)
    step = max(1, _AT_ONCE // len(x))
    kinds: list[Callable[[Floats], Floats]] = [
        lambda w: weighted_spearmans(x, y, w),
        lambda w: weighted_kappas((x >= threshold).astype(np.float64), (y >= threshold).astype(np.float64), w),
    ]
    parts = [weights[start : start + step][:, prompt] for start in range(0, len(weights), step)]
    return np.stack([np.concatenate([kind(part) for part in parts]) for kind in kinds])


def _change(value: float, draws: Floats, n: int) -> Estimate:
    known = draws[~np.isnan(draws)]
    # Where many resamples have no agreement to speak of, the interval of the others would be of something else.
    if math.isnan(value) or len(known) < 0.95 * len(draws) or n < 2:
        return Estimate(value, math.nan, math.nan, n)
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)
