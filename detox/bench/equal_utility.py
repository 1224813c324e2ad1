"""All methods of a base at one price: toxicity where each path costs the same cross-entropy, and the difference of every pair.

The same reading as against controls (`detox.bench.equal_cost`), of every method against every other. What is read from cells above 2 %
missing, or far from any strength, stands in no order and in no difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from detox.bench.comparison import Comparison
from detox.bench.comparison_text import show
from detox.bench.cost_paths import NEAR, CostPath, cost_path, drawn, require_price
from detox.statistics import MISSING_LIMIT, Estimate, Floats

PRICE = 0.05


@dataclass(frozen=True)
class AtPrice:
    """One method of one base at the price.

    Attributes:
        method: name.
        paid: nats per token at which it is read: the price, or what it costs at most.
        crossing: cost of the strength at which its path reaches the price, nats per token; 0 where it never does.
        toxicity: there.
        change: against the base.
        missing: share of the completions without a score in one of the cells that are read, or of the prompts that one lacks.
    """

    method: str
    paid: float
    crossing: float
    toxicity: Estimate
    change: Estimate
    missing: float

    @property
    def unranked(self) -> str | None:
        """Why it stands in no order; None where it may."""
        if self.missing > MISSING_LIMIT:
            return f"withheld ({self.missing:.1%} missing)"
        if math.isnan(self.toxicity.value):
            return "cost not known"
        if self.crossing > NEAR * self.paid:
            return f"no strength near the price (next +{self.crossing:.2f})"
        return None


@dataclass(frozen=True)
class EqualUtility:
    """The methods of one base at one price.

    Attributes:
        base: name.
        price: nats per token that was asked.
        methods: those that may be ranked by rising toxicity, then the others by name.
        differences: of two that may be ranked, in the order of `methods`: the first minus the second, paired over prompts and documents.
    """

    base: str
    price: float
    methods: tuple[AtPrice, ...]
    differences: dict[tuple[str, str], Estimate]


def at_equal_utility(comparison: Comparison, *, price: float = PRICE) -> list[EqualUtility]:
    """Every base with two methods or more that have scores and documents.

    Args:
        comparison: its rows; a cell chosen on its own prompts is left out.
        price: nats per token of clean cross-entropy above the base.

    Raises:
        InputError: the price is not above 0.
    """
    require_price(price)
    found = []
    for base in dict.fromkeys(row.base for row in comparison.rows):
        names = dict.fromkeys(
            r.method for r in comparison.rows if r.base == base and r.method and r.chosen_on != "test"
        )
        paths = {name: path for name in names if (path := cost_path(comparison, base, name)) is not None}
        if comparison.headline is not None and len(paths) > 1:
            found.append(_compared(base, {name: path.until(price) for name, path in paths.items()}, price))
    return found


def _compared(base: str, paths: dict[str, CostPath], price: float) -> EqualUtility:
    alone = {name: _read({name: path}, price)[0][0] for name, path in paths.items()}
    unranked = sorted((one for one in alone.values() if one.unranked), key=lambda one: one.method)
    ranked = {name: path for name, path in paths.items() if alone[name].unranked is None}
    # Together, so that a pair is of the same prompts; those that are withheld would take theirs away from all.
    together, differences = _read(ranked, price) if ranked else ([], {})
    return EqualUtility(base, price, (*together, *unranked), differences)


def _read(paths: dict[str, CostPath], price: float) -> tuple[list[AtPrice], dict[tuple[str, str], Estimate]]:
    exact, draws = drawn(list(paths.values()), price, matched=False)
    n = int((~np.isnan(np.concatenate([path.toxicity for path in paths.values()])).any(0)).sum())
    missing = next(iter(paths.values())).toxicity.shape[1] - n

    def estimate(value: float, drawn_values: Floats) -> Estimate:
        low, high = np.quantile(drawn_values, [0.025, 0.975])
        return Estimate(float(value), float(low), float(high), n, missing)

    read = [
        AtPrice(
            name,
            min(price, float(path.prices.max())),
            float(path.prices[-1]) if path.prices[-1] >= price else 0.0,
            estimate(exact[1, i], draws[:, 1, i]),
            estimate(exact[1, i] - exact[0, i], draws[:, 1, i] - draws[:, 0, i]),
            path.missing,
        )
        for i, (name, path) in enumerate(paths.items())
    ]
    place = {name: index for index, name in enumerate(paths)}
    ordered = sorted(read, key=lambda one: one.toxicity.value)
    differences = {
        (a.method, b.method): estimate(
            exact[1, place[a.method]] - exact[1, place[b.method]],
            draws[:, 1, place[a.method]] - draws[:, 1, place[b.method]],
        )
        for index, a in enumerate(ordered)
        for b in ordered[index + 1 :]
    }
    return ordered, differences


def table(found: list[EqualUtility]) -> str:
    """As text: each method with its difference to the next, or why it stands in no order; empty where nothing was compared."""
    if not found:
        return ""
    lines = [["base", "method", "paid", "toxicity", "change", "minus the next"]]
    for one in found:
        for at, following in zip_longest(one.methods, one.methods[1:]):
            pair = None if following is None else one.differences.get((at.method, following.method))
            lines.append([
                one.base, at.method, f"{at.paid:+.3f}", show(at.toxicity), show(at.change, signed=True),
                at.unranked or show(pair, signed=True),
            ])  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    head = f"Methods at equal utility: for +{found[0].price:g} nats, or for what they cost at most"
    return "\n".join([head, text[0], "-" * len(text[0]), *text[1:]])
