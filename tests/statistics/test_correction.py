from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import InputError
from detox.statistics import rogan_gladen


@given(st.floats(0, 1), st.integers(60, 100), st.integers(60, 100))
def test_the_value_is_the_formula(rate, found, passed):
    se, sp = found / 100, passed / 100
    got = rogan_gladen([rate, rate], sensitivity=(found, 100), specificity=(passed, 100), draws=50)
    assert got.value == pytest.approx(min(1, max(0, (rate + sp - 1) / (se + sp - 1))))
    assert 0 <= got.low <= got.high <= 1


def test_fewer_labelled_texts_give_a_wider_interval():
    positives = np.random.default_rng(0).random(1000) < 0.3
    widths = [
        (lambda e: e.high - e.low)(rogan_gladen(positives, sensitivity=(8 * n, 10 * n), specificity=(9 * n, 10 * n)))
        for n in (5, 50, 5000)
    ]
    assert widths[0] > widths[1] > widths[2]


def test_a_scorer_no_better_than_chance_tells_nothing():
    assert math.isnan(rogan_gladen([0.2, 0.3], sensitivity=(50, 100), specificity=(50, 100)).value)
    hardly = rogan_gladen(np.full(500, 0.45), sensitivity=(11, 20), specificity=(11, 20))
    assert (hardly.low, hardly.high) == (0, 1)
    assert math.isnan(rogan_gladen([np.nan], sensitivity=(9, 10), specificity=(9, 10)).value)
    one = rogan_gladen([0.5, np.nan], sensitivity=(9, 10), specificity=(9, 10))
    assert (one.n, one.missing) == (1, 1)
    assert math.isnan(one.low)


def test_wrong_counts_are_named():
    with pytest.raises(InputError, match="sensitivity is 11 of 10"):
        rogan_gladen([0.1], sensitivity=(11, 10), specificity=(9, 10))
    with pytest.raises(InputError, match="specificity is 0 of 0"):
        rogan_gladen([0.1], sensitivity=(9, 10), specificity=(0, 0))
    with pytest.raises(InputError, match=r"lie in \[0, 1\]"):
        rogan_gladen([3.0], sensitivity=(9, 10), specificity=(9, 10))


@pytest.mark.slow
def test_the_interval_covers_the_rate_behind_the_scorer():
    rng = np.random.default_rng(1)
    held, runs, n = 0, 400, 300
    for _ in range(runs):
        toxic = rng.random(n) < 0.2
        called = np.where(toxic, rng.random(n) < 0.8, rng.random(n) >= 0.9)
        found = rogan_gladen(
            called,
            sensitivity=(int(rng.binomial(150, 0.8)), 150),
            specificity=(int(rng.binomial(150, 0.9)), 150),
            draws=500,
        )
        held += found.low <= 0.2 <= found.high
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / runs) - 0.01 < held / runs
