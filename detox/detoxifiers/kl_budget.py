"""How far a dial may be turned before the model has moved by so much: a budget of KL divergence instead of a strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from detox.errors import InputError
from detox.models import Edit, LanguageModel
from detox.models.divergence import kl_to_base

_TEXTS = 64
_MOST = 512.0
_LEAST = 1e-6
_HALVINGS = 10  # to a thousandth of the strength


def strength_that_spends(
    lm: LanguageModel, budget: float, edit_at: Callable[[float], Edit], texts: Sequence[str]
) -> float:
    """The strength at which the mean KL divergence of the edited model from the base is the budget, by bisection.

    Args:
        lm: the base.
        budget: nats per token, above 0.
        edit_at: the edit at a strength; more of it costs more.
        texts: held-out safe text; the first 64 are read.

    Raises:
        InputError: no texts; a strength of 512 costs less than the budget, or what `lm` stands for costs more by itself.
    """

    def spent(strength: float) -> float:
        with lm.edited(edit_at(strength)) as edited:
            return float(torch.cat(kl_to_base(edited, texts[:_TEXTS])).double().mean())

    if (beneath := spent(0.0)) >= budget:
        raise InputError(
            f"what is beneath costs {beneath:.3g} nats per token already, and kl_budget is {budget:g}; give a larger one"
        )
    low, high = 0.0, 1.0
    while high > _LEAST and spent(high / 2) >= budget:
        high /= 2
    while (now := spent(high)) < budget:
        low, high = high, 2 * high
        if high > _MOST:
            raise InputError(
                f"a strength of {_MOST:g} costs {now:.3g} nats per token, less than kl_budget {budget:g}; give a smaller budget, more "
                "heads, or a strength"
            )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) < budget else (low, middle)
    return (low + high) / 2
