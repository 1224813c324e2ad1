"""Paths through strengths: a base, then one method by rising strength, read where they cost the same cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detox.bench.comparison import Comparison, Row
from detox.bench.equal_cost import along
from detox.bench.toxicity_scores import prompt_scores
from detox.errors import InputError
from detox.statistics import DRAWS, Floats, bootstrap_weights

NEAR = 4.0
"""Largest cost of the strength at which a path crosses a price, in prices; beyond it a straight line says nothing of what lies between."""


@dataclass(frozen=True)
class CostPath:
    """A base, then one method by rising strength: (points, prompts) toxicity, (points, documents) nats and tokens.

    `lacking` (points,) is the share of each point's completions that have no score.
    """

    toxicity: Floats
    nats: Floats
    tokens: Floats
    lacking: Floats

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

    A cell that was chosen on the prompts that it is measured on is no point of it. None without a point, documents or scores.
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
    prompts = list(dict.fromkeys(cards[0][0].tables["scores"]["prompt"]))
    scorer = comparison.headline or ""
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
        prices, toxicities = [], []
        for path in paths:
            costs = (by_document @ path.nats.T) / (by_document @ path.tokens.T)
            prices.append(costs - costs[:, :1])
            toxicities.append(by_prompt @ path.toxicity[:, known].T / by_prompt.sum(1, keepdims=True))
        asked = np.full(len(by_prompt), price)
        if matched:
            asked = np.minimum(asked, np.min([one.max(1) for one in prices], axis=0))
        at = [along(cost, toxicity, asked) for cost, toxicity in zip(prices, toxicities, strict=True)]
        return np.stack([np.stack([one[:, 0] for one in toxicities], axis=1), np.stack(at, axis=1)], axis=1)

    units, documents = int(known.sum()), paths[0].nats.shape[1]
    nothing = np.full((DRAWS, 2, len(paths)), np.nan)
    if not units or not documents:
        return nothing[0], nothing
    exact = levels(np.ones((1, units)), np.ones((1, documents)))[0]
    if units < 2 or documents < 2:
        return exact, nothing
    streams = zip(bootstrap_weights(units), bootstrap_weights(documents, seed=1), strict=True)
    return exact, np.concatenate([levels(p, d) for p, d in streams])
