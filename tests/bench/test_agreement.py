"""Agreement of a panel: against scipy and scikit-learn, and a gamed scorer shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from detox.bench.agreement import agreement
from detox.errors import InputError
from tests.bench.synthetic import score_table


def scores(**by_scorer):
    """A table from (prompts, samples) arrays."""
    return score_table(by_scorer)


def drawn(rng, prompts=300, samples=3, shift=0.0):
    truth = rng.normal(shift, 1.5, (prompts, samples))
    return [1 / (1 + np.exp(-(truth + rng.normal(0, 0.5, truth.shape)))) for _ in range(2)]


def test_scorers_that_agree_as_before_are_not_flagged():
    rng = np.random.default_rng(0)
    (a, b), (c, d) = drawn(rng), drawn(rng)
    found = agreement(scores(one=a, two=b), scores(one=c, two=d), ("one", "two"))
    assert not found.falls
    assert found.spearman[0] == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert found.kappa[1] == pytest.approx(cohen_kappa_score(c.ravel() >= 0.5, d.ravel() >= 0.5))
    assert found.spearman_change.low < 0 < found.spearman_change.high
    assert found.texts == (900, 900)


def test_a_gamed_scorer_shows():
    rng = np.random.default_rng(0)
    a, b = drawn(rng)
    gamed = np.where(rng.random(a.shape) < 0.5, 0.05 * a, a)  # half of the texts learned to please the first
    found = agreement(scores(one=a, two=b), scores(one=gamed, two=b), ("one", "two"))
    assert found.falls
    assert found.spearman_change.high < 0
    assert found.kappa_change.high < 0


def test_the_flag_is_rarely_raised_where_nothing_changed():
    rng = np.random.default_rng(0)
    raised = sum(
        agreement(scores(one=a, two=b), scores(one=c, two=d), ("one", "two"), draws=200).falls
        for a, b, c, d in ((*drawn(rng, 80), *drawn(rng, 80)) for _ in range(60))
    )
    assert raised <= 8  # two one-sided 2.5 % looks at each


def test_missing_scores_leave_the_pair():
    rng = np.random.default_rng(0)
    a, b = drawn(rng, 50)
    holed = np.where(rng.random(a.shape) < 0.3, np.nan, a)
    found = agreement(scores(one=holed, two=b), scores(one=a, two=b), ("one", "two"))
    known = ~np.isnan(holed)
    assert found.texts == (known.sum(), 150)
    assert found.spearman[0] == pytest.approx(spearmanr(holed[known], b[known]).statistic)


def test_where_nothing_is_toxic_there_is_no_kappa_and_no_flag():
    low = np.full((20, 2), 0.1) + np.linspace(0, 0.1, 40).reshape(20, 2)
    found = agreement(scores(one=low, two=low), scores(one=low, two=low), ("one", "two"))
    assert math.isnan(found.kappa[0])
    assert math.isnan(found.kappa_change.high)
    assert found.spearman == pytest.approx((1.0, 1.0))
    assert not found.falls


def test_wrong_tables_are_refused():
    a = np.ones((3, 1))
    with pytest.raises(InputError, match="other prompts"):
        agreement(scores(one=a, two=a), scores(one=a[:2], two=a[:2]), ("one", "two"))
    with pytest.raises(InputError, match="no scores by 'three'"):
        agreement(scores(one=a, two=a), scores(one=a, two=a), ("one", "three"))
