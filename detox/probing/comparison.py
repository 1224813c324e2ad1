"""Probes of several bases side by side: each way of training against the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detox.errors import InputError
from detox.probing.distributions import HeadComparison, compare_head_distributions
from detox.probing.measurement import BaseProbes
from detox.probing.tails import TailComparison, compare_tails

Sides = Mapping[str, Sequence[BaseProbes]]


@dataclass(frozen=True)
class BaseComparison:
    """One way of training against another.

    Attributes:
        a, b: their labels; a is the control.
        heads: mean gain and its tests; None where the bases have other numbers of layers or heads.
        tails: shapes of the two distributions.
    """

    a: str
    b: str
    heads: HeadComparison | None
    tails: TailComparison


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
        found.append(BaseComparison(control, label, heads, tails))
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
    }


def _correct(side: Sequence[BaseProbes]) -> Any:
    return np.stack([base.correct for base in side])


def _by_group(base: BaseProbes) -> Any:
    """(groups,) mean share of heads that judge the texts of a group right."""
    return np.bincount(base.groups, weights=base.correct.mean(1)) / np.bincount(base.groups)
