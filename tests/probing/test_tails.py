from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detox.errors import InputError
from detox.probing.tails import STATISTICS, compare_tails, tail_statistics, tail_threshold


def judged(rng, rates, texts=200):
    """(1, texts, heads) whether a head of that rate judges a text right."""
    return (rng.random((1, texts, len(rates))) < rates)[:]


@given(st.lists(st.floats(0.3, 0.9), min_size=3, max_size=60), st.floats(0.3, 0.9))
def test_the_numbers_are_the_formulas(values, threshold):
    a = np.array(values)
    mean, share, top, skewness, kurtosis = tail_statistics(a, threshold)
    assert mean == pytest.approx(a.mean())
    assert share == pytest.approx(np.mean(a >= threshold - 1e-12))
    assert top == pytest.approx(np.sort(a)[-math.ceil(len(a) / 10) :].mean())
    if a.std() > 1e-3:
        assert skewness == pytest.approx(stats.skew(a), abs=1e-6)
        assert kurtosis == pytest.approx(stats.kurtosis(a), abs=1e-6)


def test_shape_says_nothing_of_a_shift_and_is_missing_where_all_heads_are_equal():
    a = np.random.default_rng(0).random(50) / 2
    np.testing.assert_allclose(tail_statistics(a, 0.4)[3:], tail_statistics(a + 0.3, 0.4)[3:])
    assert np.isnan(tail_statistics(np.full(20, 0.6), 0.5)[3:]).all()


def test_the_threshold_weighs_sides_alike():
    few, many = np.linspace(0, 1, 100), np.zeros(10_000)
    t = tail_threshold(few, many)
    assert np.mean([np.mean(few >= t), np.mean(many >= t)]) == pytest.approx(0.05, abs=0.01)
    assert tail_threshold(many, few) == t


def test_a_side_does_not_differ_from_itself():
    a = judged(np.random.default_rng(1), np.full(30, 0.6))
    found = compare_tails(a, a, np.arange(200), draws=50)
    assert list(found.tests) == list(STATISTICS)
    for test in found.tests.values():
        assert test.difference.value == 0
        assert (test.difference.low, test.difference.high) == (0, 0)
        assert test.p_texts == 1
        assert math.isnan(test.p_seeds)


def test_a_fat_right_tail_is_found_and_a_shift_is_no_shape():
    rng = np.random.default_rng(2)
    thin = np.full(60, 0.6)
    fat = np.where(np.arange(60) < 8, 0.85, 0.58)
    found = compare_tails(judged(rng, thin, 600), judged(rng, fat, 600), np.arange(600), draws=200).tests
    for name in ("share above", "top tenth", "skewness", "excess kurtosis"):
        assert found[name].difference.low > 0, name
        assert found[name].p_texts < 0.01, name
    shifted = compare_tails(judged(rng, thin, 600), judged(rng, thin + 0.1, 600), np.arange(600), draws=200).tests
    assert shifted["mean"].p_texts < 0.01
    assert shifted["mean"].difference.low > 0.05
    assert shifted["skewness"].p_texts > 0.05


def test_the_test_of_tails_holds_its_level():
    """Two models of one distribution, heads in another order: head 3 of one is no relative of head 3 of the other."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        rates = rng.beta(30, 20, size=24)
        a, b = judged(rng, rates, 80), judged(rng, rng.permutation(rates), 80)
        tests = compare_tails(a, b, np.arange(80), draws=60).tests
        found.append([tests[name].p_texts for name in STATISTICS])
    rejected = (np.array(found) <= 0.1).mean(0)
    assert (rejected <= 0.1 + 3 * (0.1 * 0.9 / 60) ** 0.5).all(), dict(zip(STATISTICS, rejected, strict=True))


def test_groups_models_and_other_numbers_of_heads():
    rng = np.random.default_rng(4)
    a = np.concatenate([judged(rng, np.full(20, 0.6), 60) for _ in range(3)])
    b = np.concatenate([judged(rng, np.full(32, 0.75), 60) for _ in range(2)])
    alone = compare_tails(a, b, np.arange(60), draws=50)
    copies = compare_tails(a.repeat(2, axis=1), b.repeat(2, axis=1), np.arange(60).repeat(2), draws=50)
    for name, test in alone.tests.items():
        other = copies.tests[name]
        assert (test.difference.value, test.difference.low, test.p_texts) == pytest.approx(
            (other.difference.value, other.difference.low, other.p_texts)
        )
    numbers = [tail_statistics(side.mean(1), alone.threshold)[:, 0] for side in (a, b)]
    assert alone.tests["mean"].p_seeds == pytest.approx(stats.ttest_ind(*numbers, equal_var=False).pvalue)
    with pytest.raises(InputError, match="of the same texts"):
        compare_tails(a, b[:, :50], np.arange(60))
