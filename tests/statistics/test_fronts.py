from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detox.errors import InputError
from detox.statistics import dominance, front_membership, hypervolume, pareto_front

# Few values, so that ties and equal points are common; some points could not be measured.
grid = arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 6), st.just(2)), elements=st.integers(0, 5))


def beats(a, b) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(grid, st.randoms())
@settings(max_examples=60)
def test_fronts_are_brute_force(costs, random):
    table = costs.astype(float)
    fronts = [[not any(beats(b, a) for b in draw) for a in draw] for draw in table]
    assert pareto_front(table[0]).tolist() == fronts[0]
    np.testing.assert_allclose(front_membership(table), np.mean(fronts, axis=0))
    expected = np.mean([[[beats(a, b) for b in draw] for a in draw] for draw in table], axis=0)
    np.testing.assert_allclose(dominance(table), expected)
    order = list(range(table.shape[1]))
    random.shuffle(order)
    np.testing.assert_allclose(front_membership(table[:, order]), front_membership(table)[order])


@given(grid)
@settings(max_examples=60)
def test_hypervolume_counts_the_cells_of_a_grid(costs):
    """Whole numbers: the area is the number of unit cells whose lower corner some point is at or below."""
    x, y = np.meshgrid(np.arange(4), np.arange(3), indexing="ij")
    covered = [sum(((x >= a) & (y >= b)) for a, b in draw).astype(bool).sum() for draw in costs]
    np.testing.assert_allclose(hypervolume(costs, (4, 3)), covered)


@given(grid, st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=60)
def test_one_more_point_never_covers_less(costs, x, y):
    more = np.concatenate([costs, np.broadcast_to([x, y], (len(costs), 1, 2))], axis=1)
    assert (hypervolume(more, (6, 6)) >= hypervolume(costs, (6, 6)) - 1e-12).all()
    assert (hypervolume(costs + 0.5, (6, 6)) <= hypervolume(costs, (6, 6))).all()


def test_what_was_not_measured_is_on_no_front_and_beats_nobody():
    costs = np.array([[0.0, np.nan], [1, 1], [2, 2], [np.nan, np.nan]])
    assert pareto_front(costs).tolist() == [False, True, False, False]
    assert dominance(costs[None])[0].tolist() == [0, 0, 0, 0]
    assert hypervolume(costs[None], (3, 3)).tolist() == [4]
    assert hypervolume(costs[None], (1, 1)).tolist() == [0]


def test_wrong_shapes_are_named():
    with pytest.raises(InputError, match=r"\(draws, points, 2\)"):
        front_membership(np.zeros((3, 2)))
    with pytest.raises(InputError, match="two finite costs"):
        hypervolume(np.zeros((1, 1, 2)), [1, np.inf])
