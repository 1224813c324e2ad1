from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from detox.errors import InputError
from detox.statistics import bootstrap_weights, cohen_kappa, spearman, weighted_kappas, weighted_spearmans
from detox.statistics.agreement import _midranks, _runs

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30)


@given(pairs)
@settings(max_examples=50, deadline=None)
def test_both_are_the_libraries_own(items):
    a, b = ([item[side] for item in items] for side in (0, 1))
    kappa, rho = cohen_kappa(a, b, draws=20), spearman(a, b, draws=20)
    if len({*a, *b}) > 1:
        assert kappa.value == pytest.approx(cohen_kappa_score(a, b))
    else:
        assert math.isnan(kappa.value)
    if min(len(set(a)), len(set(b))) > 1:
        assert rho.value == pytest.approx(spearmanr(a, b).statistic)
        assert spearman(np.exp(a), b, draws=20).value == pytest.approx(rho.value)  # ranks know no scale
    else:
        assert math.isnan(rho.value)


def test_midranks_of_weighted_texts_are_those_of_repeated_ones():
    rng = np.random.default_rng(0)
    values, weights = rng.integers(0, 5, 20).astype(float), rng.integers(0, 4, 20)
    from scipy.stats import rankdata

    repeated = rankdata(np.repeat(values, weights))
    ranks = np.repeat(_midranks(weights[None].astype(float), *_runs(values))[0], weights)
    np.testing.assert_allclose(ranks, repeated)


def test_the_interval_is_that_of_resampled_texts():
    rng = np.random.default_rng(1)
    a = np.round(rng.normal(size=80), 1)
    b = np.round(a + rng.normal(size=80), 1)
    drawn = [
        spearmanr(np.repeat(a, w.astype(int)), np.repeat(b, w.astype(int))).statistic
        for chunk in bootstrap_weights(80, draws=200)
        for w in chunk
    ]
    found = spearman(a, b, draws=200)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_missing_texts_leave_both_and_are_counted():
    found = cohen_kappa([1, 0, 1, np.nan, 0], [1, 0, np.nan, 1, 0])
    assert (found.value, found.n, found.missing) == (1.0, 3, 2)
    assert math.isnan(spearman([np.nan], [1.0]).value)
    with pytest.raises(InputError, match="same texts"):
        spearman([1.0, 2.0], [1.0])


VALUES = st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0])
ROWS = st.lists(st.tuples(VALUES, VALUES, st.integers(0, 3)), min_size=3, max_size=30)


@settings(max_examples=60)
@given(ROWS)
def test_weights_count_texts_as_often_as_they_say(rows):
    x, y, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    repeated = [np.repeat(side, w.astype(int)) for side in (x, y)]
    rank, kappa = (
        weighted_spearmans(x, y, w[None])[0],
        weighted_kappas((x >= 0.5).astype(float), (y >= 0.5).astype(float), w[None])[0],
    )
    if len(repeated[0]) < 2 or any(np.ptp(side) == 0 for side in repeated):
        assert math.isnan(rank)
    else:
        assert rank == pytest.approx(spearmanr(*repeated).statistic, abs=1e-12)
    verdicts = [side >= 0.5 for side in repeated]
    if len(repeated[0]) == 0 or len({*verdicts[0], *verdicts[1]}) == 1:
        assert math.isnan(kappa)
    else:
        assert kappa == pytest.approx(cohen_kappa_score(*verdicts), abs=1e-12)
