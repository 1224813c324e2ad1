"""Utility against a margin: what an interval lets one say."""

from __future__ import annotations

import math
from typing import Literal

from detox.errors import InputError
from detox.statistics.estimates import Estimate

Verdict = Literal["better", "non-inferior", "worse", "inconclusive"]

MISSING_LIMIT = 0.02
"""Above this share of units that could not be scored there is no verdict."""


def utility_verdict(difference: Estimate, *, margin: float, higher_is_better: bool) -> Verdict:
    """What the 95 % interval of a change in utility says, against the loss that one is ready to bear.

    "better": the interval lies above no change. "non-inferior": it lies above a loss of `margin`, as a whole. "worse": it lies below no
    change and reaches beyond the margin: a loss that is shown, and not shown to be small. "inconclusive": none of these, no interval,
    or more units missing than MISSING_LIMIT. A loss that is shown and is within the margin is "non-inferior".

    (CONSORT's figure for non-inferiority trials, Piaggio et al. 2012, calls "worse" only what lies beyond the margin as a whole.)

    Args:
        difference: treated minus control, in the metric's own units.
        margin: the largest loss that still counts as none, at least 0, in the same units.
        higher_is_better: False for cross-entropy and its like, where a rise is a loss.

    Raises:
        InputError: a margin below 0.
    """
    if not margin >= 0:
        raise InputError(f"margin is {margin}; expected the largest loss that counts as none, 0 or more")
    ends = (difference.low, difference.high)
    if any(math.isnan(end) for end in ends) or difference.share_missing > MISSING_LIMIT:
        return "inconclusive"
    low, high = ends if higher_is_better else (-ends[1], -ends[0])
    if low > 0:
        return "better"
    if low > -margin:
        return "non-inferior"
    return "worse" if high < 0 else "inconclusive"
