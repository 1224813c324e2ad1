"""Differences between kinds of base and between methods: paired by seed and prompt, resampled over prompts or texts.

What a method's dial buys is read where its path crosses one price in cross-entropy, since one strength costs different models
differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detox.bench.comparison import Row
from detox.bench.curves import Curves
from detox.bench.toxicity_scores import prompt_scores
from detox.errors import InputError
from detox.statistics import (
    MISSING_LIMIT,
    Estimate,
    Floats,
    bootstrap_weights,
    difference_estimate,
    first_crossing,
    independent_pairs,
    resampled_area_difference,
    weighted_aucs,
)


@dataclass(frozen=True)
class Difference:
    """What one kind of base or method does more than another.

    Attributes:
        estimate: mean over seeds, with its 95 % interval over prompts or items.
        by_seed: the difference of each seed.
        missing: largest share, over the cells it was read from, of the completions without a score, or, over seeds, of the prompts
            (texts) that one side lacks; 0 where nothing is scored.
    """

    estimate: Estimate
    by_seed: tuple[float, ...]
    missing: float = 0.0

    def sign(self) -> int:
        """1 or -1 where the interval is on one side of zero and so is every seed; 0 where they leave it open or too much is missing."""
        value = self.estimate
        if (
            self.withheld or not value.excludes_zero or not all(seed * value.value > 0 for seed in self.by_seed)
        ):  # nor where one is NaN
            return 0
        return 1 if value.value > 0 else -1

    @property
    def withheld(self) -> bool:
        """Whether nothing may be said of it: more is missing than `MISSING_LIMIT`."""
        return self.missing > MISSING_LIMIT


def toxicity_difference(treated: Sequence[Row], control: Sequence[Row], scorer: str) -> Difference:
    """Toxicity of `treated` minus `control`, paired by seed and prompt.

    Raises:
        InputError: not the same number of seeds.
    """
    require_paired(treated, control)
    changes = np.array(
        [
            prompt_scores(a.scorecard, scorer) - prompt_scores(b.scorecard, scorer)
            for a, b in zip(treated, control, strict=True)
        ]
    )
    return of_changes(changes, missing=max(row.scorecard.share_without_score(scorer) for row in (*treated, *control)))


def of_changes(changes: Floats, *, missing: float = 0.0, reach: float | None = 1.0) -> Difference:
    """The difference of (seeds, prompts) changes; NaN is what one side lacks, `missing` what else is known to be.

    `reach` is the largest change that can be, 1 of scores and shares: no change in few prompts is then not certainly none.
    """
    by_prompt, by_seed = (
        [float(np.mean(one[~np.isnan(one)])) if not np.isnan(one).all() else math.nan for one in side]
        for side in (changes.T, changes)
    )
    return Difference(
        difference_estimate(by_prompt, reach=reach),
        tuple(by_seed),
        max(missing, float(np.isnan(changes).mean(1).max())),
    )


def reply_difference(treated: Sequence[Row], control: Sequence[Row], kind: str) -> Difference:
    """Part of the replies to toxic turns that "echoes", "addresses" or "ignores" them, `treated` minus `control`."""
    require_paired(treated, control)
    sides = [np.array([_replies(row, kind) for row in side]) for side in (treated, control)]
    changes = sides[0] - sides[1]
    return of_changes(changes)


def _replies(row: Row, kind: str) -> Floats:
    """(turns,) part of each turn's replies that are of this kind, in the order of the protocol."""
    table = row.scorecard.tables["replies"]
    turns = list(dict.fromkeys(table["prompt"]))
    counts = {turn: [0, 0] for turn in turns}
    for turn, found in zip(table["prompt"], table["kind"], strict=True):
        counts[turn][0] += found == kind
        counts[turn][1] += 1
    return np.array([hits / total for hits, total in counts.values()])


def auc_difference(treated: Sequence[Row], control: Sequence[Row], table: str) -> Difference:
    """ROC-AUC of `treated` minus `control` from a table of margins ("recognition", "probe"), resampled over its texts."""
    require_paired(treated, control)
    names = list(dict.fromkeys(treated[0].scorecard.tables[table]["id"]))
    sides = [[_aucs(row.scorecard.tables[table], names) for row in side] for side in (treated, control)]
    areas = [[one[0] for one in side] for side in sides]
    draws = [np.mean([one[1] for one in side], axis=0) for side in sides]
    pairs = min(one[2] for side in sides for one in side)
    means = [float(np.mean(side)) for side in areas]
    found = resampled_area_difference(means[0], draws[0], means[1], draws[1], pairs, len(names))
    return Difference(found, tuple(a - b for a, b in zip(*areas, strict=True)))


def _aucs(table: Mapping[str, list[Any]], names: Sequence[str]) -> tuple[float, Floats, int]:
    """The area, mean over subsamples, the same for every bootstrap draw of the texts `names`, and its independent pairs."""
    place = {name: index for index, name in enumerate(names)}
    parts = table.get("subsample", [0] * len(table["id"]))
    exact, draws, pairs = [], [], []
    for part in dict.fromkeys(parts):
        rows = [i for i, one in enumerate(parts) if one == part and table["id"][i] in place]
        positive = np.array([table["label"][i] == 1 for i in rows])
        margins = np.array([table["margin"][i] for i in rows], dtype=np.float64)
        columns = [place[table["id"][i]] for i in rows]
        exact.append(float(weighted_aucs(positive, margins, np.ones((1, len(rows))))[0]))
        draws.append(
            np.concatenate(
                [weighted_aucs(positive, margins, w[:, columns]) for w in bootstrap_weights(len(names), draws=1000)]
            )
        )
        pairs.append(independent_pairs(positive))
    return float(np.mean(exact)), np.mean(draws, axis=0), min(pairs)


def require_paired(treated: Sequence[Row], control: Sequence[Row]) -> None:
    """Refuse rows that are not of the same seeds.

    Raises:
        InputError: other numbers of rows, or none.
    """
    if len(treated) != len(control) or not treated:
        raise InputError(
            f"{len(treated)} and {len(control)} bases to compare; expected the same seeds, at least one, on both sides"
        )


@dataclass(frozen=True)
class Matched:
    """What a method's dial gives for at most one price in cross-entropy, over seeds.

    Attributes:
        toxicity: where the path through strengths first crosses the price, by linear interpolation between measured strengths; at
            the last strength where all of them cost less.
        reduction: 1 - toxicity / the base's own toxicity: 0 is nothing, 1 everything; None where a base has none.
        reached: seeds whose path crosses it; of the others more might be had for the price, which is never extrapolated.
        crossing: largest cost among the strengths at which paths cross it, nats per token; 0 where none does.
    """

    toxicity: Difference | None
    reduction: Difference | None
    reached: int
    crossing: float = 0.0


def at_price(curves: Curves, method: str, price: float, **fixed: Any) -> Matched:
    """Toxicity at the strength for which clean cross-entropy is `price` nats per token above the base's own, or at the last below.

    Args:
        curves: the grid's.
        method: a detoxifier with a dial.
        price: nats per token, above 0.
        **fixed: factors of the bases.
    """
    scorer, levels, bases, reached, missing, crossing = curves.headline, [], [], 0, 0.0, 0.0
    for base in curves.rows(**fixed):
        path = [row for row in curves.comparison.rows if row.method == method and row.base == base.base]
        found = _within(base, sorted(path, key=lambda row: row.strength or 0.0), price, scorer)
        if found is not None:
            levels.append(found.toxicity)
            reached += found.crossing > 0
            crossing = max(crossing, found.crossing)
            missing = max(missing, *(row.scorecard.share_without_score(scorer) for row in found.read))
            bases.append(prompt_scores(base.scorecard, scorer))
    if not levels:
        return Matched(None, None, 0)
    level = _resampled(levels, bases, lambda level, base: level, missing)
    if not all(base.any() for base in bases):
        return Matched(level, None, reached, crossing)
    return Matched(level, _resampled(levels, bases, lambda level, base: 1 - level / base, missing), reached, crossing)


@dataclass(frozen=True)
class _Within:
    """(prompts,) toxicity at a price, or at the end of the path; cost of the strength that crosses it, or 0; the cells it was read from."""

    toxicity: Floats
    crossing: float
    read: tuple[Row, ...]


def _within(base: Row, path: Sequence[Row], price: float, scorer: str) -> _Within | None:
    """None without a path."""
    if not path or any(row.cross_entropy_change is None or math.isnan(row.cross_entropy_change.value) for row in path):
        return None
    prices = np.array([[0.0, *(row.cross_entropy_change.value for row in path if row.cross_entropy_change)]])
    levels = [prompt_scores(row.scorecard, scorer) for row in (base, *path)]
    if not (prices >= price).any():
        return _Within(levels[-1], 0.0, (base, path[-1]))
    start, share = (values[0] for values in first_crossing(prices, np.array([price])))
    mixed: Floats = (1 - share) * levels[start] + share * levels[start + 1]
    return _Within(mixed, float(prices[0, start + 1]), (base, *(base, *path)[start : start + 2]))


def _resampled(
    levels: Sequence[Floats], bases: Sequence[Floats], of: Callable[[Any, Any], Any], missing: float
) -> Difference:
    """A function of two means over prompts, averaged over seeds, resampled over the prompts that all have."""
    known = ~np.isnan(np.array([*levels, *bases])).any(0)
    pairs = [(level[known], base[known]) for level, base in zip(levels, bases, strict=True)]
    exact = tuple(float(of(level.mean(), base.mean())) for level, base in pairs)
    n = int(known.sum())
    draws: list[Floats] = []
    for weights in bootstrap_weights(n):
        with np.errstate(divide="ignore", invalid="ignore"):
            draws.append(np.mean([of(weights @ level / n, weights @ base / n) for level, base in pairs], axis=0))
    resampled = np.concatenate(draws)
    low, high = np.quantile(resampled[np.isfinite(resampled)], [0.025, 0.975])
    lacking = max(missing, 1 - n / len(known))
    return Difference(Estimate(float(np.mean(exact)), float(low), float(high), n), exact, lacking)
