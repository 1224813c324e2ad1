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

from detox.bench.toxicity_scores import prompt_scores
from detox.evaluation import Scorecard
from detox.statistics import MISSING_LIMIT, Estimate, Floats, bootstrap_weights, first_crossing

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
        missing: share of the prompts that some cell lacks, or of the completions that one that is read has no score of; the larger.
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
        One a point of `first` that costs something and has another price than those before it. Where nothing of `second` costs
        more than the base, one at price 0: the base against the far end of `second`. Empty where the documents or the scores are
        missing, or nothing of `first` costs more than the base.
    """
    cards = [base, *first, *second]
    if any("documents" not in card.tables or "scores" not in card.tables for card in cards) or not first or not second:
        return []
    prompts = list(dict.fromkeys(base.tables["scores"]["prompt"]))
    means = np.stack([prompt_scores(card, scorer, prompts) for card in cards])
    dropped = float(np.isnan(means).any(0).mean()) if means.shape[1] else 0.0
    lost = np.array([max(dropped, card.share_without_score(scorer)) for card in cards])
    means = means[:, ~np.isnan(means).any(0)]
    nats, tokens = (
        np.stack([np.asarray(card.tables["documents"][key], dtype=np.float64) for card in cards])
        for key in ("nats", "tokens")
    )
    if not means.shape[1] or not nats.shape[1]:
        return []
    alone = means.shape[1] < 2 or nats.shape[1] < 2  # one unit says nothing of its spread

    def levels(by_prompt: Floats, by_document: Floats) -> tuple[Floats, Floats]:
        """(draws, prompts), (draws, documents) weights -> prices and toxicities (draws, cards)."""
        costs = (by_document @ nats.T) / (by_document @ tokens.T)
        return costs - costs[:, :1], by_prompt @ means.T / by_prompt.sum(1, keepdims=True)

    prices, toxicities = levels(np.ones((1, means.shape[1])), np.ones((1, nats.shape[1])))
    drawn = [
        levels(p, d)
        for p, d in zip(bootstrap_weights(means.shape[1]), bootstrap_weights(nats.shape[1], seed=1), strict=True)
    ]
    drawn_prices, drawn_toxicities = (np.concatenate([part[i] for part in drawn]) for i in (0, 1))
    a, b = [0, *range(1, 1 + len(first))], [0, *range(1 + len(first), len(cards))]
    results: list[AtEqualCost] = []
    for point in a[1:]:
        price = float(min(prices[0, point], prices[0, b].max()))
        if prices[0, b[1:]].max() <= 0:  # the second path is free: at its far end against the base
            ends = (toxicities[0, 0], toxicities[0, b[-1]])
            free = _with_ends(
                ends[0] - ends[1], drawn_toxicities[:, 0] - drawn_toxicities[:, b[-1]], means.shape[1], alone
            )
            return [AtEqualCost(0.0, float(ends[0]), float(ends[1]), free, False, float(lost[[0, b[-1]]].max()))]
        if price <= 0 or any(price <= known.price + 1e-12 for known in results):
            continue
        asked = np.minimum(drawn_prices[:, point], drawn_prices[:, b].max(1))
        sides = [along(drawn_prices[:, side], drawn_toxicities[:, side], asked) for side in (a, b)]
        one, other = (float(along(prices[:, side], toxicities[:, side], np.array([price]))[0]) for side in (a, b))
        difference = _with_ends(one - other, sides[0] - sides[1], means.shape[1], alone)
        reached = bool(prices[0, b].max() >= prices[0, point])
        read = [place for side in (a, b) for place in side[: int((prices[0, side] >= price).argmax()) + 1]]
        results.append(AtEqualCost(price, one, other, difference, reached, float(lost[read].max())))
    return results


def _with_ends(value: float, draws: Floats, n: int, alone: bool) -> Estimate:
    low, high = (math.nan, math.nan) if alone else np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), n)


def along(prices: Floats, toxicities: Floats, asked: Floats) -> Floats:
    """Toxicity where a path first costs what is asked, linear between its points.

    Args:
        prices: (draws, points), the first of them 0: the base.
        toxicities: (draws, points).
        asked: (draws,) prices; below 0 is the base, beyond the path its most costly point.

    Returns:
        (draws,).
    """
    rows = np.arange(len(prices))
    start, share = first_crossing(prices, np.clip(asked, 0.0, prices.max(1)))
    found: Floats = (1 - share) * toxicities[rows, start] + share * toxicities[rows, start + 1]
    return found


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
