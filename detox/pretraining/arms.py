"""The papers' arms as one option: what each trains on, and with which objective."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from detox.errors import require_known
from detox.losses import Objective
from detox.pretraining.mixture import Mixture

Arm = Literal["full", "masked", "unlikelihood", "filtered", "clean"]

ARMS: tuple[str, ...] = get_args(Arm)
"""Full: risky text like any other. Masked: context without a loss. Unlikelihood: made unlikely. Filtered: deleted from
the documents. Clean: the base of the mixture alone, without the sources that have a share."""

_OBJECTIVES: dict[str, Objective] = {
    "full": "full",
    "masked": "masked",
    "unlikelihood": "unlikelihood",
    "filtered": "full",
    "clean": "full",
}


def objective_of(arm: str) -> Objective:
    """The loss objective of an arm, as `PretrainingRecipe` takes it.

    Raises:
        UnknownName: no such arm.
    """
    require_known("arm", arm, ARMS)
    return _OBJECTIVES[arm]


def apply_arm(arm: str, mixture: Mixture) -> Mixture:
    """What an arm reads of a mixture.

    Args:
        arm: one of `ARMS`.
        mixture: as the full arm reads it.

    Returns:
        "filtered": the same documents with their risky spans deleted (see `Mixture` for what that does to shares);
        "clean": without the sources that have a share; otherwise `mixture` itself. What becomes of the middle band stays
        as the mixture's treatment says: the selective-loss paper's filtered arm also drops it.

    Raises:
        UnknownName: no such arm.
    """
    objective_of(arm)
    if arm == "filtered":
        return replace(mixture, treatment=replace(mixture.treatment, risky_text="delete"))
    if arm == "clean":
        return replace(mixture, sources=tuple(source for source in mixture.sources if source.share is None))
    return mixture
