from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

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


def test_a_rate_of_which_nothing_was_seen_is_not_certain():
    """With a scorer that never errs, the interval is as wide as Jeffreys' own of the rate."""
    never = {"sensitivity": (10**6, 10**6), "specificity": (10**6, 10**6)}
    for events, n in ((0, 50), (1, 50), (50, 50), (30, 200)):
        found = rogan_gladen(np.arange(n) < events, draws=20_000, **never)
        exact = stats.beta.ppf([0.025, 0.975], events + 0.5, n - events + 0.5)
        assert (found.low, found.high) == pytest.approx(exact, abs=0.004)
        assert found.high - found.low > 0.02


def test_samples_of_a_prompt_are_not_as_many_prompts():
    """Prompts that are all toxic or not at all are worth their number; prompts that are all alike are worth more."""
    options = {"sensitivity": (900, 1000), "specificity": (950, 1000), "draws": 4000}
    apart, alike = rogan_gladen(np.arange(100) < 30, **options), rogan_gladen(np.full(100, 0.3), **options)
    assert apart.value == pytest.approx(alike.value)
    assert apart.high - apart.low > 2 * (alike.high - alike.low)


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


@pytest.mark.parametrize(
    ("rate", "n", "se", "sp", "labelled"), [(0.01, 50, 0.8, 0.99, 200), (0.02, 100, 0.8, 0.999, 1000)]
)
def test_the_interval_covers_rare_events(rate, n, se, sp, labelled):
    rng = np.random.default_rng(2)
    held, runs = 0, 300
    for _ in range(runs):
        called = np.where(rng.random(n) < rate, rng.random(n) < se, rng.random(n) >= sp)
        sides = [(int(rng.binomial(labelled, right)), labelled) for right in (se, sp)]
        found = rogan_gladen(called, sensitivity=sides[0], specificity=sides[1], draws=500)
        held += found.low <= rate <= found.high
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / runs) - 0.01 < held / runs


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
