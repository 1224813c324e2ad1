"""All methods of a base at one price: toxicity where each path costs the same cross-entropy, and the difference of every pair.

The same reading as against controls (`detox.bench.equal_cost`), of every method against every other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detox.bench.comparison import Comparison
from detox.bench.comparison_text import show
from detox.bench.cost_paths import CostPath, cost_path, drawn, require_price
from detox.statistics import Estimate, Floats

PRICE = 0.05


@dataclass(frozen=True)
class AtPrice:
    """One method of one base at the price.

    Attributes:
        method: name.
        paid: nats per token at which it is read: the price, or what it costs at most.
        toxicity: there.
        change: against the base.
    """

    method: str
    paid: float
    toxicity: Estimate
    change: Estimate


@dataclass(frozen=True)
class EqualUtility:
    """The methods of one base at one price.

    Attributes:
        base: name.
        price: nats per token that was asked.
        methods: by rising toxicity.
        differences: of two methods, in the order of `methods`: the first minus the second, paired over prompts and documents.
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
            estimate(exact[1, i], draws[:, 1, i]),
            estimate(exact[1, i] - exact[0, i], draws[:, 1, i] - draws[:, 0, i]),
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
    return EqualUtility(base, price, tuple(ordered), differences)


def table(found: list[EqualUtility]) -> str:
    """As text: each method with its difference to the next; empty where nothing was compared."""
    if not found:
        return ""
    lines = [["base", "method", "paid", "toxicity", "change", "minus the next"]]
    for one in found:
        for index, at in enumerate(one.methods):
            pair = (at.method, one.methods[index + 1].method) if index + 1 < len(one.methods) else None
            lines.append([
                one.base, at.method, f"{at.paid:+.3f}", show(at.toxicity), show(at.change, signed=True),
                "" if pair is None else show(one.differences[pair], signed=True),
            ])  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    head = f"Methods at equal utility: for +{found[0].price:g} nats, or for what they cost at most"
    return "\n".join([head, text[0], "-" * len(text[0]), *text[1:]])
