"""95 % intervals of means over units: which one, when. Columns are cells, so that simulations and many metrics are one call.

Values without known bounds have a percentile bootstrap. A share, or any value between two bounds, has a studentised bootstrap, which
knows that the mean of few events is skewed; and an exact interval where the bootstrap has too little to resample: fewer than
EXACT_BELOW_UNITS units, or fewer than EXACT_BELOW_EVENTS effective events or non-events. A paired difference, and a ratio, has a
percentile bootstrap that is stretched where few units carry it. benchmarks/results/statistics/coverage.md shows what they cover.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from detox.statistics.resampling import DRAWS, Floats, bootstrap_weights

EXACT_BELOW_UNITS = 200
EXACT_BELOW_EVENTS = (
    4.0  # of x events, e^-x of resamples hold none; above 2.5 % (x = 3.7) the bootstrap has no upper end
)
_NORMAL = 1.959963984540054
_MOST_TRIALS = 1e9  # beyond it the interval is as good as the point
_WITHOUT_SPREAD = 1e6  # studentised value of a resample without spread: beyond every bound

Ends = tuple[Floats, Floats]


def percentile_ends(values: Floats, *, draws: int = DRAWS) -> Ends:
    """(cells,) ends for (units, cells) values: quantiles of resampled means (Efron 1979); an infinite mean is both of its ends."""
    n, finite = len(values), np.isfinite(values).all(0)
    if not finite.all():
        with np.errstate(invalid="ignore"):
            ends = np.stack([values.sum(0)] * 2)
        if finite.any():
            ends[:, finite] = percentile_ends(values[:, finite], draws=draws)
        return ends[0], ends[1]
    means = np.concatenate([weights @ values / n for weights in bootstrap_weights(n, draws=draws)])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


def share_ends(values: Floats, *, draws: int = DRAWS) -> Ends:
    """(cells,) ends for (units, cells) values in [0, 1].

    Exact where events are few, studentised where units are many. Of few units with many events the exact interval of yes or no; of
    other values the wider of the two at each end, since Clopper and Pearson's does not know how skewed they may be.
    """
    n = len(values)
    low, high = exact_share_ends(values)
    resampled = effective_events(values) >= EXACT_BELOW_EVENTS - 1e-9
    if n < EXACT_BELOW_UNITS:
        resampled &= ((values > 0) & (values < 1)).any(0)
    if not resampled.any():
        return low, high
    ends = studentised_ends(values[:, resampled], draws=draws)
    if n < EXACT_BELOW_UNITS:
        ends = np.minimum(low[resampled], ends[0]), np.maximum(high[resampled], ends[1])
    low[resampled], high[resampled] = ends
    return low, high


def studentised_ends(values: Floats, *, draws: int = DRAWS) -> Ends:
    """(cells,) ends for (units, cells) values in [0, 1]: the bootstrap of mean over standard error (Efron and Tibshirani 1993, ch. 12)."""
    n = len(values)
    means = values.mean(0)
    centred = values - means
    squares = centred**2
    drawn = []
    for weights in bootstrap_weights(n, draws=draws):
        moved = weights @ centred / n
        errors = np.sqrt(np.maximum(weights @ squares / n - moved**2, 0.0) / (n - 1))
        beyond = np.sign(moved) * _WITHOUT_SPREAD
        drawn.append(np.divide(moved, errors, out=beyond, where=errors > 1e-9 * np.abs(moved)))
    lower, upper = np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
    error = np.sqrt(squares.mean(0) / (n - 1))
    return np.clip(means - upper * error, 0.0, 1.0), np.clip(means - lower * error, 0.0, 1.0)


def exact_share_ends(values: Floats) -> Ends:
    """(cells,) ends for (units, cells) values in [0, 1]: `exact_ends` of their means.

    A mean m whose variance is s^2 / n is as uncertain as m (1 - m) n / s^2 yes-or-no trials, of which a share m are events. Values in
    [0, 1] never give fewer than n, which is what 0 and 1 give: for them the interval is Clopper and Pearson's own.
    """
    return exact_ends(values.mean(0), effective_trials(values), len(values))


def exact_ends(means: Floats, trials: Floats, units: int) -> Ends:
    """(cells,) ends of shares: Clopper and Pearson's (1934) with Korn and Graubard's (1998) effective trials.

    Where the spread is itself read off few events, trials shrink by the square of Student's quantile over the normal one, with one
    degree of freedom fewer than there are effective events (Korn and Graubard take those of the design).

    Args:
        means: (cells,) in [0, 1].
        trials: (cells,) yes-or-no trials that would be as uncertain, at least `units`.
        units: the fewest trials that they can be worth.
    """
    n = units
    freedom = np.clip(trials * np.minimum(means, 1 - means) - 1, 1, max(n - 1, 1))
    shrunk = np.maximum(trials * (_NORMAL / special.stdtrit(freedom, 0.975)) ** 2, n)
    events = shrunk * means
    low = np.where(means > 0, special.betaincinv(np.maximum(events, 1e-300), shrunk - events + 1, 0.025), 0.0)
    high = np.where(means < 1, special.betaincinv(events + 1, np.maximum(shrunk - events, 1e-300), 0.975), 1.0)
    certain = trials >= _MOST_TRIALS
    return np.where(certain, means, low), np.where(certain, means, high)


def effective_events(values: Floats) -> Floats:
    """(cells,) events, or non-events if fewer, that (units, cells) values in [0, 1] are worth: 0 and 1 are worth their count."""
    means = values.mean(0)
    events: Floats = effective_trials(values) * np.minimum(means, 1 - means)
    return events


def effective_trials(values: Floats) -> Floats:
    """(cells,) trials that would be as uncertain as the mean; as many as units where all values are 0 or all 1."""
    n, means = len(values), values.mean(0)
    spread, most = values.var(0), means * (1 - means)
    trials = np.divide(most * n, spread, out=np.full(len(means), _MOST_TRIALS), where=spread > most * n / _MOST_TRIALS)
    return np.where(most > 0, np.maximum(trials, n), n)


def difference_ends(differences: Floats, *, reach: float | None = None, draws: int = DRAWS) -> Ends:
    """(cells,) ends for (units, cells) paired differences.

    The percentile interval, stretched about the mean by Student's quantile over the normal one with one degree of freedom fewer than
    there are effective units, (sum |d|)^2 / sum d^2: where few units differ, the spread is known as badly as from so few.

    Args:
        differences: (units, cells). An infinite one makes its cell's mean infinite, and that is both of its ends.
        reach: the largest absolute difference that can be: 1 for two shares. Where it is known and fewer than EXACT_BELOW_EVENTS
            effective units differ, `exact_difference_ends` takes the place of the bootstrap, which would call no difference certain.
        draws: resamples.
    """
    finite = np.isfinite(differences).all(0)
    if not finite.all():
        low, high = percentile_ends(differences, draws=draws)
        if finite.any():
            low[finite], high[finite] = difference_ends(differences[:, finite], reach=reach, draws=draws)
        return low, high
    means, units = differences.mean(0), effective_units(differences)
    low, high = stretched(means, percentile_ends(differences, draws=draws), units)
    if reach is not None:
        low, high = np.maximum(low, -reach), np.minimum(high, reach)
        few = units < EXACT_BELOW_EVENTS - 1e-9
        if few.any():
            exact = exact_difference_ends(differences[:, few] / reach)
            low[few], high[few] = reach * exact[0], reach * exact[1]
    return low, high


def effective_units(parts: Floats) -> Floats:
    """(cells,) how many of (units, cells) parts of a sum carry it: (sum |d|)^2 / sum d^2, all of them if all are alike; 0 if all are 0."""
    squares = (parts**2).sum(0)
    units: Floats = np.divide(np.abs(parts).sum(0) ** 2, squares, out=np.zeros(len(squares)), where=squares > 0)
    return units


def stretched(values: Floats, ends: Ends, units: Floats) -> Ends:
    """(cells,) ends pulled away from the values by Student's quantile for `units` effective units over the normal quantile."""
    by = special.stdtrit(np.maximum(units - 1, 1.0), 0.975) / _NORMAL
    return values - by * (values - ends[0]), values + by * (ends[1] - values)


def exact_difference_ends(differences: Floats) -> Ends:
    """(cells,) ends for (units, cells) paired differences in [-1, 1]: the exact intervals of gains and of losses, put together.

    The mean difference is the mean gain less the mean loss, two shares that exclude each other; their intervals are combined with
    their correlation (MOVER: Zou and Donner 2008).
    """
    gains, losses = np.maximum(differences, 0.0), np.maximum(-differences, 0.0)
    (low_a, high_a), (low_b, high_b) = exact_share_ends(gains), exact_share_ends(losses)
    a, b = gains.mean(0), losses.mean(0)
    both = gains.std(0) * losses.std(0)
    correlation = np.divide((gains * losses).mean(0) - a * b, both, out=np.zeros(len(a)), where=both > 0)

    def apart(one: Floats, other: Floats) -> Floats:
        length: Floats = np.sqrt(np.maximum(one**2 - 2 * correlation * one * other + other**2, 0.0))
        return length

    return a - b - apart(a - low_a, high_b - b), a - b + apart(high_a - a, b - low_b)
