"""The question of this project as a statistic: does pretraining make a detoxifier work better?

A difference of differences: what a method takes away on one pretraining arm, minus what it takes away on the reference arm, each read
where the method costs both the same clean cross-entropy. Paired by prompt; bases that differ only in their seed are replicates, and
their spread is shown apart from that of prompts.

What a method can take away is bounded by what is there. So what both arms end at stands beside it, and the part of its own toxicity
that each loses, and no verdict is given where an arm writes next to nothing toxic to begin with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detox.bench.comparison import Comparison
from detox.bench.cost_paths import NEAR, cost_path, drawn, require_price, toxicity_at
from detox.errors import UnknownName
from detox.statistics import (
    MISSING_LIMIT,
    Estimate,
    Floats,
    Interaction,
    difference_of_differences,
    holm,
    sign_flip_test,
)
from detox.statistics.fits import known_means

PRICE = 0.05
"""Nats per token of clean cross-entropy at which methods are read, where all paths cost as much."""
MEASURABLE = 0.01
"""Mean toxicity of a base below which there is nothing to take away."""


@dataclass(frozen=True)
class InteractionRow:
    """One method on one arm against the same method on the reference arm.

    Attributes:
        method: with strength where it has only one.
        arm, reference: labels of the two kinds of base.
        fits: pairs of bases, one a seed.
        price: nats per token above its own base at which every base is read.
        matched: whether all are read at that price; False where the method costs some base nothing at any strength, so that each is
            read at what it costs at most, up to the price asked.
        crossing: largest cost among the strengths at which paths reach the price, nats per token.
        arm_toxicity, reference_toxicity: mean over fits, of the base and at the price.
        interaction: (arm with method - arm) - (reference with method - reference): below zero, the method takes more away on the
            arm. The interval over prompts holds the uncertainty of the costs (over documents), too.
        ends: arm with method - reference with method, at the price.
        taken: the same of the part of its own toxicity that each loses: above zero, a larger part on the arm; None where a base
            is below MEASURABLE.
        p, p_holm: sign flips over prompts, these fits given; the second within the family of all rows.
        missing: share of the prompts that some cell lacks, or of the completions without a score in one cell, whichever is larger.
    """

    method: str
    arm: str
    reference: str
    fits: int
    price: float
    matched: bool
    crossing: float
    arm_toxicity: tuple[float, float]
    reference_toxicity: tuple[float, float]
    interaction: Interaction
    ends: Estimate
    taken: Estimate | None
    p: float
    p_holm: float
    missing: float

    @property
    def unsaid(self) -> str | None:
        """Why there is no verdict; None where there is one."""
        if self.missing > MISSING_LIMIT:
            return f"withheld ({self.missing:.1%} missing)"
        empty = [
            n
            for n, t in ((self.arm, self.arm_toxicity), (self.reference, self.reference_toxicity))
            if t[0] < MEASURABLE
        ]
        if empty:
            return f"nothing to take away ({', '.join(empty)})"
        if not self.matched:
            return "cost not matched"
        if self.crossing > NEAR * self.price:
            return f"no strength near the price (next +{self.crossing:.2f})"
        return None

    @property
    def verdict(self) -> str:
        """Whether the method works "better" or "worse" on the arm, or why that is not said.

        "Adds less" where it is better and makes the arm more toxic all the same. "(1 fit)" without replicates; "on these fits" where the
        t interval over fits leaves zero in, so that it is said of these models and not of the pretraining.
        """
        if self.unsaid is not None:
            return self.unsaid
        value, seeds = self.interaction.over_prompts, self.interaction.by_seed
        agreed = all(seed * value.value > 0 for seed in seeds)
        shown = value.excludes_zero and agreed and self.p_holm < 0.05
        if not shown:
            return "not shown" if self.fits > 1 else "not shown (1 fit)"
        adds = self.arm_toxicity[1] > self.arm_toxicity[0]
        word = "worse" if value.value > 0 else "adds less" if adds else "better"
        if self.fits == 1:
            return f"{word} (1 fit)"
        return word if self.interaction.over_fits.excludes_zero else f"{word} on these fits"


@dataclass(frozen=True)
class Interactions:
    """All methods on all arms against one reference: one family.

    Attributes:
        headline: scorer, with what must be said of it.
        price: asked, nats per token.
        rows: by method, then by arm.
        left_out: what could not be compared, and why.
    """

    headline: str
    price: float
    rows: tuple[InteractionRow, ...]
    left_out: tuple[str, ...] = ()


def interactions(
    comparison: Comparison,
    factors: Mapping[str, Mapping[str, Any]],
    *,
    reference: str | None = None,
    price: float = PRICE,
) -> Interactions | None:
    """Every method of a comparison on every arm against a reference arm.

    Args:
        comparison: its rows.
        factors: of the bases, by name; those that differ in "seed" alone are one arm. A base without any is an arm of its own.
        reference: label of an arm (see `arm_label`); None takes the clean one (`arm: clean`, share 0, or the name "clean") where it
            was measured with a method, else the full one, else the first. Arms of another `stage` are held against the same arm of theirs.
        price: nats per token of clean cross-entropy at which methods are read; less where a path costs less than that.

    Returns:
        None without two arms that share a method.

    Raises:
        UnknownName: no arm of that label was measured with a method.
        InputError: the price is not above 0.
    """
    require_price(price)
    if comparison.headline is None:
        return None
    arms = _arms(comparison, factors)
    treated = [label for label, bases in arms.items() if any(_methods(comparison, base) for base in bases.values())]
    if len(treated) < 2 and reference is None:
        return None
    if reference is not None and reference not in treated:
        raise UnknownName("arm measured with a method", reference, treated)
    rows: list[InteractionRow] = []
    left_out: list[str] = []
    changes: list[float] = []
    for stage in dict.fromkeys(_stage(factors, arms[label]) for label in treated):
        here = [label for label in treated if _stage(factors, arms[label]) == stage]
        chosen = reference if reference in here else _default_reference(here, factors, arms)
        for method in dict.fromkeys(
            m for label in here for base in arms[label].values() for m in _methods(comparison, base)
        ):
            for arm in (label for label in here if label != chosen):
                found = _row(comparison, method, arm, arms[arm], chosen, arms[chosen], price)
                if isinstance(found, str):
                    left_out.append(f"{method} on {arm}: {found}")
                elif found is not None:
                    rows.append(found)
                    changes.append(math.nan if found.unsaid else found.p)
    if not rows:
        return None
    adjusted = holm(changes)
    done = tuple(replace(row, p_holm=float(p)) for row, p in zip(rows, adjusted, strict=True))
    return Interactions(comparison.independence.named(comparison.headline), price, done, tuple(left_out))


def arm_label(name: str, factors: Mapping[str, Any]) -> str:
    """What an arm is called: its base's factors but for the seed, or the base's own name where it has none."""
    return ", ".join(str(v) if isinstance(v, str) else f"{k} {v:g}" for k, v in factors.items() if k != "seed") or name


def _arms(comparison: Comparison, factors: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """Label of an arm -> seed -> base."""
    arms: dict[str, dict[int, str]] = {}
    for row in comparison.rows:
        own = factors.get(row.base, {})
        arms.setdefault(arm_label(row.base, own), {})[int(own.get("seed", 0))] = row.base
    return arms


def _methods(comparison: Comparison, base: str) -> list[str]:
    """Those of a base that were not all chosen on the prompts that they are measured on."""
    rows = (row for row in comparison.rows if row.base == base and row.chosen_on != "test")
    return list(dict.fromkeys(row.method for row in rows if row.method is not None))


def _stage(factors: Mapping[str, Mapping[str, Any]], bases: Mapping[int, str]) -> Any:
    return factors.get(next(iter(bases.values())), {}).get("stage")


def _default_reference(
    labels: Sequence[str], factors: Mapping[str, Mapping[str, Any]], arms: Mapping[str, Mapping[int, str]]
) -> str:
    def is_clean(label: str) -> bool:
        own = factors.get(next(iter(arms[label].values())), {})
        return (
            own.get("arm") == "clean"
            or (own.get("arm") in (None, "full") and own.get("share") == 0)
            or label == "clean"
        )

    def is_full(label: str) -> bool:
        own = factors.get(next(iter(arms[label].values())), {})
        return bool(own.get("arm") == "full") or label == "full"

    return next((one for kind in (is_clean, is_full) for one in labels if kind(one)), labels[0])


def _row(
    comparison: Comparison,
    method: str,
    arm: str,
    arm_bases: Mapping[int, str],
    reference: str,
    reference_bases: Mapping[int, str],
    price: float,
) -> InteractionRow | str | None:
    """None where the method was not asked of both arms; a reason where it was and cannot be read."""
    asked = [
        [s for s, base in side.items() if method in _methods(comparison, base)] for side in (arm_bases, reference_bases)
    ]
    if not asked[0] or not asked[1]:
        return None
    seeds = sorted(set(asked[0]) & set(asked[1]))
    if not seeds:
        return "no seed in common"
    paths = [[cost_path(comparison, side[seed], method) for seed in seeds] for side in (arm_bases, reference_bases)]
    flat = [path for side in paths for path in side if path is not None]
    if len(flat) < 2 * len(seeds):
        return "a cell lacks documents or scores"
    if len({(path.toxicity.shape[1], path.nats.shape[1]) for path in flat}) > 1:
        return "cells of other prompts or documents"
    ceiling = min(float(path.prices.max()) for path in flat)
    matched, price = ceiling > 0, min(price, ceiling) if ceiling > 0 else price
    flat = [path.until(price) for path in flat]  # a strength beyond it may write nothing that can be scored
    levels = [toxicity_at(path, price) for path in flat]
    n = len(seeds)
    bases = [path.toxicity[0] for path in flat]
    sides = [np.stack(part) for part in (bases[:n], levels[:n], bases[n:], levels[n:])]
    found = difference_of_differences(*sides)
    means = [float(known_means(side.reshape(1, -1))[0]) for side in sides]
    changes = ((sides[1] - sides[0]) - (sides[3] - sides[2])).mean(0)
    exact, draws = (_sides(one, n) for one in drawn(flat, price, matched=matched))
    p = sign_flip_test(changes)
    interval = [_interval(value, one, found.over_prompts) for value, one in zip(exact, draws, strict=True)]
    strengths = {row.method_label for row in comparison.rows if row.method == method and row.chosen_on != "test"}
    return InteractionRow(
        method=next(iter(strengths)) if len(strengths) == 1 else method,
        arm=arm, reference=reference, fits=n, price=price, matched=matched, crossing=max(float(path.prices[-1]) for path in flat),
        arm_toxicity=(means[0], means[1]),
        reference_toxicity=(means[2], means[3]),
        interaction=replace(found, over_prompts=interval[0]),
        ends=interval[1],
        taken=interval[2] if min(means[0], means[2]) >= MEASURABLE else None,
        p=p, p_holm=p,
        missing=max(
            float(np.isnan(np.concatenate([path.toxicity for path in flat])).any(0).mean()),
            *(path.missing for path in flat),
        ),
    )  # fmt: skip


def _sides(levels: Floats, n: int) -> tuple[Any, Any, Any]:
    """Interaction, difference of the ends and of the parts taken, from (..., 2, paths): the first n paths are the arm's."""
    base, end = levels[..., 0, :], levels[..., 1, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        taken = 1 - end / base
    changes, ends, parts = (one[..., :n].mean(-1) - one[..., n:].mean(-1) for one in (end - base, end, taken))
    return changes, ends, parts


def _interval(value: float, draws: Floats, like: Estimate) -> Estimate:
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [0.025, 0.975]) if len(draws) else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), like.n, like.missing)
