"""Two methods at one price: toxicity where their paths through strengths cost the same cross-entropy.

A method that lowers toxicity by more than another may simply be turned up further. So both are read off at one price, by linear
interpolation between measured strengths, and their difference is paired: the same prompts, the same documents, resampled together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detox.bench.cost_paths import CostPath, along, path_of
from detox.evaluation import Scorecard
from detox.statistics import MISSING_LIMIT, Estimate, Floats, bootstrap_weights, weighted_sums
from detox.statistics.resampling import Bools

if TYPE_CHECKING:
    from detox.bench.comparison import Comparison


@dataclass(frozen=True)
class AtEqualCost:
    """Two paths of one base at one price.

    Attributes:
        price: nats per token above the base at which both are read: the first path's at one of its strengths, or what the second
            path reaches at most where that is less.
        first, second: toxicity at that price.
        difference: first minus second, paired over prompts and documents; its interval holds the uncertainty of both costs, too.
        reached: whether the second path costs as much as the first somewhere.
        missing: share of the prompts that some cell that is read lacks, or of the completions that one has no score of; the larger.
    """

    price: float
    first: float
    second: float
    difference: Estimate
    reached: bool
    missing: float = 0.0


@dataclass(frozen=True)
class AgainstControl:
    """What became of one method against one of its controls, on one base and seed of the sampling."""

    base: str
    seed: int
    method: str
    control: str
    strength: float | None
    result: AtEqualCost

    @property
    def verdict(self) -> str:
        """The method "beats" its control, "loses" to it or is "not shown" to do either; "withheld" above 2 % missing."""
        if self.result.missing > MISSING_LIMIT:
            return f"withheld ({self.result.missing:.1%} missing)"
        difference = self.result.difference
        return "beats" if difference.high < 0 else "loses" if difference.low > 0 else "not shown"


def at_equal_cost(
    base: Scorecard, first: Sequence[Scorecard], second: Sequence[Scorecard], scorer: str
) -> list[AtEqualCost]:
    """Compare two paths at the price of every point of the first.

    Args:
        base: both paths begin here, at a price of 0.
        first: scorecards of one method by rising strength.
        second: of the other.
        scorer: whose mean toxicity is compared.

    Returns:
        One a point of `first` that costs something and has another price than those before it; each over the prompts that the
        strengths read there have, whatever a strength beyond the price lacks. Where nothing of `second` costs more than the base, one at
        price 0: the base against the far end of `second`. Empty where the documents or the scores are missing, nothing of `first` costs
        more than the base, or the base's own cross-entropy is infinite. A price that is infinite is none.
    """
    cards = [base, *first, *second]
    if any("documents" not in card.tables or "scores" not in card.tables for card in cards) or not first or not second:
        return []
    mine, other = (path_of([[base], *([card] for card in side)], scorer) for side in (first, second))
    if not mine.toxicity.shape[1] or not mine.nats.shape[1] or not np.isfinite(mine.nats[0]).all():
        return []
    most = float(other.prices.max())
    if most <= 0:  # the second path is free: at its far end against the base
        return _against_a_free_end(other)
    results: list[AtEqualCost] = []
    for point, cost in enumerate(mine.prices.tolist()):
        price = min(cost, most)
        if 0 < price < math.inf and not any(price <= known.price + 1e-12 for known in results):
            results.append(_at(mine, other, point, price))
    return results


def _at(mine: CostPath, other: CostPath, point: int, price: float) -> AtEqualCost:
    """Both paths at a price: the first's at one of its points, or what the second costs at most."""
    # A strength beyond it may write nothing that can be scored.
    sides = [path.until(price) for path in (mine, other)]
    known: Bools = ~np.logical_or.reduce(np.isnan(np.concatenate([side.toxicity for side in sides])))
    units, documents = int(known.sum()), mine.nats.shape[1]
    costs = mine.nats[[0, point]], mine.tokens[[0, point]]

    def levels(by_prompt: Floats, by_document: Floats) -> Floats:
        """(draws, 2) toxicity of each side where it costs what the point does in the same resample."""
        found = [side.levels(known, by_prompt, by_document) for side in sides]
        own = weighted_sums(by_document, costs[0].T) / (by_document @ costs[1].T)
        asked = np.min([own[:, 1] - own[:, 0], *(prices.max(1) for prices, _ in found)], axis=0)
        return np.stack([along(prices, toxicities, asked) for prices, toxicities in found], axis=1)

    dropped = 1 - units / len(known)
    lost = max(dropped, *(float(side.lacking.max()) for side in sides))
    reached = bool(other.prices.max() >= mine.prices[point])
    if not units:
        nothing = Estimate(math.nan, math.nan, math.nan, 0, len(known))
        return AtEqualCost(price, math.nan, math.nan, nothing, reached, lost)
    exact = levels(np.ones((1, units)), np.ones((1, documents)))[0]
    streams = zip(bootstrap_weights(units), bootstrap_weights(documents, seed=1), strict=True)
    drawn = np.concatenate([levels(p, d) for p, d in streams])
    alone = units < 2 or documents < 2  # one unit says nothing of its spread
    low, high = (math.nan, math.nan) if alone else np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    difference = Estimate(float(exact[0] - exact[1]), float(low), float(high), units, len(known) - units)
    return AtEqualCost(price, float(exact[0]), float(exact[1]), difference, reached, lost)


def _against_a_free_end(other: CostPath) -> list[AtEqualCost]:
    ends = other.toxicity[[0, -1]]
    known: Bools = ~np.logical_or.reduce(np.isnan(ends))
    units = int(known.sum())
    if not units:
        return []
    level = ends[:, known].mean(1)
    drawn = np.concatenate([weights @ (ends[0] - ends[1])[known] / units for weights in bootstrap_weights(units)])
    low, high = (math.nan, math.nan) if units < 2 else np.quantile(drawn, [0.025, 0.975])
    free = Estimate(float(level[0] - level[1]), float(low), float(high), units, len(known) - units)
    lost = max(1 - units / len(known), float(other.lacking[[0, -1]].max()))
    return [AtEqualCost(0.0, float(level[0]), float(level[1]), free, False, lost)]


def against_controls(comparison: Comparison) -> list[AgainstControl]:
    """Every method of a comparison against each of its controls, at the price of each of its strengths."""
    found = []
    for base, seed in dict.fromkeys((row.base, row.seed) for row in comparison.rows):
        mine = [row for row in (*comparison.rows, *comparison.control_rows) if (row.base, row.seed) == (base, seed)]
        bare = next((row.scorecard for row in mine if row.method is None), None)
        if bare is None or comparison.headline is None:
            continue
        for control, method in comparison.controls.items():
            paths = [
                sorted((row for row in mine if row.method == name), key=lambda row: row.strength or 0.0)
                for name in (method, control)
            ]
            cards = [[row.scorecard for row in path] for path in paths]
            results = at_equal_cost(bare, cards[0], cards[1], comparison.headline)
            costs = {id(row): row.cross_entropy_change for row in paths[0]}
            for result in results:
                row = min(
                    paths[0],
                    key=lambda r: abs((c.value if (c := costs[id(r)]) else math.inf) - result.price),
                )
                strength = row.strength if result.reached else None
                found.append(AgainstControl(base, seed, method, control, strength, result))
    return found


_HEADER = ("base", "method", "price in nats", "toxicity", "control", "at that price", "difference", "")


def _lines(found: Sequence[AgainstControl]) -> list[list[str]]:
    lines = []
    for one in found:
        result, estimate = one.result, one.result.difference
        if result.price == 0:
            at = ": the base, since this control is free"
        else:
            at = f" @ {one.strength:g}" if one.strength is not None else " at most comparable"
        lines.append(
            [
                one.base,
                f"{one.method}{at}",
                f"+{result.price:.3f}",
                f"{result.first:.3f}",
                one.control,
                f"{result.second:.3f}",
                f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]",
                one.verdict,
            ]
        )
    return lines


def table(found: Sequence[AgainstControl]) -> str:
    """The comparisons as text."""
    if not found:
        return "Controls: no strength of a method costs anything, so there is no price at which to compare."
    lines = [list(_HEADER), *_lines(found)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(["Against controls, at equal cross-entropy (interpolated between strengths)", *text])


def markdown(found: Sequence[AgainstControl]) -> str:
    """The comparisons as a table for documents."""
    lines = [[*_HEADER[:-1], "verdict"], ["---"] * len(_HEADER), *_lines(found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
