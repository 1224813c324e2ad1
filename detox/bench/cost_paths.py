"""Paths through strengths: a base, then one method by rising strength, read where they cost the same cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detox.bench.comparison import Comparison, Row
from detox.bench.toxicity_scores import prompt_scores
from detox.errors import InputError
from detox.evaluation import Scorecard
from detox.statistics import DRAWS, Floats, bootstrap_weights, first_crossing, weighted_sums
from detox.statistics.resampling import Bools

NEAR = 4.0
"""Largest cost of the strength at which a path crosses a price, in prices; beyond it a straight line says nothing of what lies between."""


def along(prices: Floats, toxicities: Floats, asked: Floats) -> Floats:
    """Toxicity where a path first costs what is asked, linear between its points.

    Args:
        prices: (draws, points), the first of them 0: the base. Where the next point is infinitely costly, what comes before it is read.
        toxicities: (draws, points).
        asked: (draws,) prices; below 0 is the base, beyond the path its most costly point.

    Returns:
        (draws,).
    """
    rows = np.arange(len(prices))
    start, share = first_crossing(prices, np.clip(asked, 0.0, prices.max(1)))
    found: Floats = (1 - share) * toxicities[rows, start] + share * toxicities[rows, start + 1]
    return found


@dataclass(frozen=True)
class CostPath:
    """A base, then one method by rising strength: (points, prompts) toxicity, (points, documents) nats and tokens.

    `lacking` (points,) is the share of each point's completions that have no score.
    """

    toxicity: Floats
    nats: Floats
    tokens: Floats
    lacking: Floats

    def levels(self, known: Bools, by_prompt: Floats, by_document: Floats) -> tuple[Floats, Floats]:
        """(draws, points) prices and toxicities, for (draws, known prompts) and (draws, documents) weights."""
        costs = weighted_sums(by_document, self.nats.T) / (by_document @ self.tokens.T)
        return costs - costs[:, :1], by_prompt @ self.toxicity[:, known].T / by_prompt.sum(1, keepdims=True)

    @property
    def missing(self) -> float:
        """Share of the completions without a score at one point, or of the prompts that one lacks, whichever is larger, in [0, 1]."""
        return max(float(self.lacking.max()), float(np.isnan(self.toxicity).any(0).mean()))

    @property
    def prices(self) -> Floats:
        """(points,) nats per token above the base's own."""
        costs = self.nats.sum(1) / self.tokens.sum(1)
        above: Floats = costs - costs[0]
        return above

    def until(self, price: float) -> CostPath:
        """The path as far as it is read: up to the first strength that costs the price, or all of it."""
        crossing = np.flatnonzero(self.prices >= price)
        end = int(crossing[0]) + 1 if len(crossing) else len(self.prices)
        return CostPath(self.toxicity[:end], self.nats[:end], self.tokens[:end], self.lacking[:end])


def cost_path(comparison: Comparison, base: str, method: str) -> CostPath | None:
    """The base's own row and the method's by strength; samplings with several seeds are averaged prompt by prompt.

    A cell that was chosen on the prompts that it is measured on is no point of it. None without a point, documents or scores, and
    where the base's own cross-entropy is infinite: nothing can be dearer.
    """
    rows = [
        row for row in comparison.rows if row.base == base and row.method in (None, method) and row.chosen_on != "test"
    ]
    points: dict[float, list[Row]] = {}
    for row in rows:
        points.setdefault(-math.inf if row.method is None else row.strength or 0.0, []).append(row)
    ordered = [points[strength] for strength in sorted(points)]
    cards = [[row.scorecard for row in point] for point in ordered]
    if (
        -math.inf not in points
        or len(points) < 2
        or any("documents" not in c.tables or "scores" not in c.tables for p in cards for c in p)
    ):
        return None
    path = path_of(cards, comparison.headline or "")
    return path if np.isfinite(path.nats[0]).all() else None


def path_of(cards: Sequence[Sequence[Scorecard]], scorer: str) -> CostPath:
    """The path of (points, seeds) scorecards, all with scores and documents, the base first; seeds are averaged prompt by prompt."""
    prompts = list(dict.fromkeys(cards[0][0].tables["scores"]["prompt"]))
    toxicity = [np.mean([prompt_scores(card, scorer, prompts) for card in point], axis=0) for point in cards]
    nats, tokens = (
        np.array([point[0].tables["documents"][key] for point in cards], dtype=np.float64) for key in ("nats", "tokens")
    )
    lacking = np.array([max(card.share_without_score(scorer) for card in point) for point in cards])
    return CostPath(np.array(toxicity), nats, tokens, lacking)


def require_price(price: float) -> None:
    """Refuse a price that nothing can be read at.

    Raises:
        InputError: not a finite number above 0.
    """
    if not (math.isfinite(price) and price > 0):
        raise InputError(f"the price is {price!r}; expected nats per token above 0")


def toxicity_at(path: CostPath, price: float) -> Floats:
    """(prompts,) toxicity where the path first costs the price, linear between strengths; at its most costly point where it never does."""
    prices = path.prices[None]
    shares = [
        float(along(prices, np.eye(len(path.toxicity))[i][None], np.array([price]))[0])
        for i in range(len(path.toxicity))
    ]
    mixed: Floats = np.sum([s * values for s, values in zip(shares, path.toxicity, strict=True) if s], axis=0)
    return mixed


def drawn(paths: Sequence[CostPath], price: float, *, matched: bool) -> tuple[Floats, Floats]:
    """Toxicity of each path's base and at the price: (2, paths), and (draws, 2, paths) over prompts and documents together.

    Args:
        paths: of the same prompts and documents; a prompt that one point lacks leaves all.
        price: nats per token; a path that costs less is read at its most costly point.
        matched: in a draw where some path costs less than the price, all are read at what it costs.

    Returns:
        NaN where no prompt is left, and draws of NaN where one prompt or one document is: one unit says nothing of its spread.
    """
    known = ~np.isnan(np.concatenate([path.toxicity for path in paths])).any(0)

    def levels(by_prompt: Floats, by_document: Floats) -> Floats:
        found = [path.levels(known, by_prompt, by_document) for path in paths]
        asked = np.full(len(by_prompt), price)
        if matched:
            asked = np.minimum(asked, np.min([prices.max(1) for prices, _ in found], axis=0))
        at = [along(prices, toxicities, asked) for prices, toxicities in found]
        return np.stack([np.stack([one[:, 0] for _, one in found], axis=1), np.stack(at, axis=1)], axis=1)

    units, documents = int(known.sum()), paths[0].nats.shape[1]
    nothing = np.full((DRAWS, 2, len(paths)), np.nan)
    if not units or not documents:
        return nothing[0], nothing
    exact = levels(np.ones((1, units)), np.ones((1, documents)))[0]
    if units < 2 or documents < 2:
        return exact, nothing
    streams = zip(bootstrap_weights(units), bootstrap_weights(documents, seed=1), strict=True)
    return exact, np.concatenate([levels(p, d) for p, d in streams])
