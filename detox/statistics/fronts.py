"""Two costs at once, smaller is better in both: fronts, who dominates whom, the area covered, and paths through strengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.errors import InputError
from detox.statistics.resampling import Bools, Floats


def first_crossing(prices: Floats, asked: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Where paths first cost what is asked, linear between their points.

    Args:
        prices: (draws, points), the first of them 0.
        asked: (draws,), between 0 and what the path costs at most.

    Returns:
        (draws,) the point before the crossing, and the share in [0, 1] of the way from there to the next.
    """
    rows = np.arange(len(prices))
    start = np.maximum((prices >= asked[:, None]).argmax(1), 1) - 1
    span = prices[rows, start + 1] - prices[rows, start]
    share = np.divide(asked - prices[rows, start], span, out=np.zeros_like(span), where=span != 0)
    return start, np.clip(share, 0.0, 1.0)


def pareto_front(costs: ArrayLike) -> Bools:
    """Which points no other one dominates: is at most as costly in both and less in one.

    Args:
        costs: (points, 2), smaller is better in both; a point with a NaN is never on the front and dominates none.

    Returns:
        (points,). Equal points stand or fall together.

    Raises:
        InputError: not (points, 2).
    """
    front: Bools = _on_front(_pairs(np.asarray(costs, dtype=np.float64)[None]))[0]
    return front


def front_membership(costs: ArrayLike) -> Floats:
    """(points,) share of draws in which a point is on the front.

    Args:
        costs: (draws, points, 2) over one stream of resamples (`resampled_means`); smaller is better, NaN as in `pareto_front`.
    """
    found: Floats = _on_front(_pairs(costs)).mean(0)
    return found


def dominance(costs: ArrayLike) -> Floats:
    """(points, points) share of draws in which the row's point dominates the column's.

    Args:
        costs: (draws, points, 2) over one stream of resamples; smaller is better, NaN as in `pareto_front`.
    """
    table = _pairs(costs)
    return np.stack([_beaten_by(table, point).mean(0) for point in range(table.shape[1])])


def hypervolume(costs: ArrayLike, reference: ArrayLike) -> Floats:
    """Area that is dominated by the points and bounded by the reference (Zitzler and Thiele 1998), draw by draw; more is better.

    Args:
        costs: (draws, points, 2), smaller is better in both. Points beyond the reference or with a NaN cover nothing.
        reference: (2,) the worst that counts, such as the base's toxicity and the highest cross-entropy that one would bear.

    Returns:
        (draws,) in the product of the two costs' units.

    Raises:
        InputError: other shapes, or a reference that is not finite.
    """
    table, corner = _pairs(costs), np.asarray(reference, dtype=np.float64)
    if corner.shape != (2,) or not np.isfinite(corner).all():
        raise InputError(f"the reference must be two finite costs, got {corner.tolist()}")
    inside = np.where(np.isnan(table).any(2, keepdims=True), corner, np.minimum(table, corner))
    order = np.argsort(inside[:, :, 0], axis=1, kind="stable")
    x, y = (np.take_along_axis(inside[:, :, axis], order, 1) for axis in (0, 1))
    widths = np.diff(x, axis=1, append=np.full((len(x), 1), corner[0]))
    areas: Floats = (widths * (corner[1] - np.minimum.accumulate(y, axis=1))).sum(1)
    return areas


def _pairs(costs: ArrayLike) -> Floats:
    table = np.asarray(costs, dtype=np.float64)
    if table.ndim != 3 or table.shape[2] != 2:
        raise InputError(f"costs must be (draws, points, 2), two costs a point, got shape {table.shape[-3:]}")
    return table


def _beaten_by(table: Floats, point: int) -> Bools:
    """(draws, points) whether this point dominates them. NaN compares as false."""
    x, y = table[:, :, 0], table[:, :, 1]
    one, other = x[:, point, None], y[:, point, None]
    beaten: Bools = (one <= x) & (other <= y) & ((one < x) | (other < y))
    return beaten


def _on_front(table: Floats) -> Bools:
    beaten = np.isnan(table).any(2)
    for point in range(table.shape[1]):
        beaten |= _beaten_by(table, point)
    return ~np.asarray(beaten, dtype=np.bool_)
