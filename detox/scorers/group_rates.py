"""How often a scorer calls harmless texts of each group toxic: groups of authors (dialects) or of people that are written about.

Texts by speakers of African American English are called toxic more often than others (Sap et al. 2019, "The Risk of Racial Bias in Hate
Speech Detection"; Davidson et al. 2019, arXiv 1905.12516). The groups are the texts' own column, not words in them: for those see
`identity_bias`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detox.data.records import group_names
from detox.errors import InputError
from detox.statistics import Estimate, independent_difference, mean_estimate


def group_rates(
    groups: Sequence[str | None],
    labels: Sequence[int | None],
    scores: Sequence[float],
    *,
    threshold: float = 0.5,
) -> dict[str, Any]:
    """False positives by group.

    Args:
        groups: of each text, several joined by "+", None for none.
        labels: 1 toxic, 0 not, None where nobody said; one a text. Where no text has one, all count as if harmless: the rate is then how
            often each group is called toxic, which is no error rate.
        scores: in [0, 1], NaN where missing; one a text.
        threshold: a score at or above it is a positive.

    Returns:
        JSON: labelled; groups, by name: n (texts with a score that count), missing, called_toxic as [positives, n], rate and mean_score,
        each {value, low, high}, and difference, the rate minus that of the texts that are not of the group, {value, low, high}, null
        without any. Texts are units. Intervals of rates are exact; the difference's is put together of the two.

    Raises:
        InputError: different lengths.
    """
    if not len(groups) == len(labels) == len(scores):
        raise InputError(
            f"{len(groups)} groups, {len(labels)} labels, {len(scores)} scores; expected one of each a text"
        )
    labelled = any(label is not None for label in labels)
    counts = np.array([label == 0 or not labelled for label in labels], dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    called = np.where(np.isnan(values), np.nan, (values >= threshold).astype(np.float64))
    members = [set(group_names(group)) for group in groups]
    found: dict[str, Any] = {}
    for name in sorted(set().union(*members)) if members else []:
        inside = np.array([name in own for own in members], dtype=bool)
        rate, other = (mean_estimate(called[side & counts], bounds=(0.0, 1.0)) for side in (inside, ~inside))
        found[name] = {
            "n": rate.n,
            "missing": rate.missing,
            "called_toxic": [int(np.nansum(called[inside & counts])), rate.n],
            "rate": _json(rate),
            "mean_score": _json(mean_estimate(values[inside & counts], bounds=(0.0, 1.0))),
            "difference": _json(independent_difference(rate, other)) if rate.n and other.n else None,
        }
    return {"labelled": labelled, "threshold": threshold, "groups": found}


def _json(found: Estimate) -> dict[str, float | None]:
    return {
        key: None if math.isnan(value) else value
        for key, value in (("value", found.value), ("low", found.low), ("high", found.high))
    }
