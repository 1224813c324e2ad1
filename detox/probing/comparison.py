"""Probes of several bases side by side: each way of training against the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.errors import InputError
from detox.probing.distributions import HeadComparison, compare_head_distributions
from detox.probing.entanglement import KINDS
from detox.probing.measurement import SITES, BaseProbes
from detox.probing.tails import TailComparison, compare_tails
from detox.statistics import Estimate

Floats = NDArray[np.float64]
Sides = Mapping[str, Sequence[BaseProbes]]


@dataclass(frozen=True)
class EntanglementTest:
    """Mean over sites (and models) of the largest |cosine| of toxicity's direction with another feature's, of two sides.

    Attributes:
        a, b: of each side, with a 95 % interval over texts.
        difference: b minus a, texts resampled together.
        a_shuffled, b_shuffled: what shuffled labels give.
        p_seeds: two-sided, by Welch's t test over models; NaN with fewer than two models a side.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    a_shuffled: float
    b_shuffled: float
    p_seeds: float


@dataclass(frozen=True)
class BaseComparison:
    """One way of training against another.

    Attributes:
        a, b: their labels; a is the control.
        heads: mean gain and its tests; None where the bases have other numbers of layers or heads.
        tails: shapes of the two distributions.
        entanglement: "heads, means" and so on -> the test; empty where there is no feature but toxicity.
    """

    a: str
    b: str
    heads: HeadComparison | None
    tails: TailComparison
    entanglement: dict[str, EntanglementTest]


def compare_bases(sides: Sides, *, seed: int = 0) -> list[BaseComparison]:
    """Compare every side with the first.

    Args:
        sides: label -> measurements of one base, or of several seeds of one way of training.
        seed: of the tests.

    Raises:
        InputError: a side without a base, or bases measured on other texts or with other settings.
    """
    require_comparable(sides)
    (control, first), *others = sides.items()
    found = []
    for label, second in others:
        shapes = {base.heads.accuracy.shape for base in (*first, *second)}
        heads = None
        if len(shapes) == 1:
            heads = compare_head_distributions(
                np.stack([base.heads.accuracy for base in first]),
                np.stack([base.heads.accuracy for base in second]),
                texts_a=np.stack([_by_group(base) for base in first]),
                texts_b=np.stack([_by_group(base) for base in second]),
                seed=seed,
            )
        tails = compare_tails(_correct(first), _correct(second), first[0].groups, seed=seed)
        found.append(BaseComparison(control, label, heads, tails, _entanglement(first, second)))
    return found


def require_comparable(sides: Sides) -> None:
    """Prove that all bases were measured on the same texts in the same way.

    Raises:
        InputError: they were not, or there is nothing to compare.
    """
    if not sides or not all(sides.values()):
        raise InputError("a side without a base; expected at least one measurement on each")
    everyone = [base for side in sides.values() for base in side]
    for base in everyone[1:]:
        if (base.data["digest"], base.settings) != (everyone[0].data["digest"], everyone[0].settings):
            raise InputError(
                f"{base.name} was measured on other texts or with other settings than {everyone[0].name}; measure both alike"
            )
    for label, side in sides.items():
        if len({base.heads.accuracy.shape for base in side}) > 1:
            raise InputError(f"the bases of {label!r} have other numbers of layers or heads; expected one architecture")


def comparison_card(comparison: BaseComparison) -> dict[str, Any]:
    """A comparison as JSON-like values."""
    return {
        "a": comparison.a,
        "b": comparison.b,
        "heads": None if comparison.heads is None else asdict(comparison.heads),
        "tails": asdict(comparison.tails),
        "entanglement": {key: asdict(test) for key, test in comparison.entanglement.items()},
    }


def _entanglement(first: Sequence[BaseProbes], second: Sequence[BaseProbes]) -> dict[str, EntanglementTest]:
    from scipy import stats

    found = {}
    for kind in SITES:
        keys = [set(getattr(base, kind).entanglement) for base in (*first, *second)]
        for key in (k for k in KINDS if all(k in some for some in keys)):
            sides = [[getattr(base, kind).entanglement[key] for base in side] for side in (first, second)]
            values = [np.array([one.largest[:, 0].mean() for one in side]) for side in sides]
            draws = [np.mean([one.draws.mean(1) for one in side], axis=0) for side in sides]
            shuffled = [float(np.mean([one.shuffled.mean() for one in side])) for side in sides]
            p = math.nan
            if min(len(side) for side in sides) > 1 and any(v.var() > 0 for v in values):
                p = float(stats.ttest_ind(values[1], values[0], equal_var=False).pvalue)
            n = int(first[0].data["texts"]) - len(first[0].labels)
            a, b = (_estimate(float(v.mean()), d, n) for v, d in zip(values, draws, strict=True))
            apart = _estimate(b.value - a.value, draws[1] - draws[0], n)
            found[f"{kind}, {key}"] = EntanglementTest(a, b, apart, shuffled[0], shuffled[1], p)
    return found


def _estimate(value: float, draws: Floats, n: int) -> Estimate:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)


def _correct(side: Sequence[BaseProbes]) -> Any:
    return np.stack([base.correct for base in side])


def _by_group(base: BaseProbes) -> Any:
    """(groups,) mean share of heads that judge the texts of a group right."""
    return np.bincount(base.groups, weights=base.correct.mean(1)) / np.bincount(base.groups)
