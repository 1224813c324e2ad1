from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from detox.errors import InputError
from detox.statistics import holm, mcnemar_exact, paired_difference, paired_ratio_difference, sign_flip_test

marks = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(marks)
def test_mcnemar_is_the_binomial_test_of_the_discordant(pairs):
    treated, control = ([pair[side] for pair in pairs] for side in (0, 1))
    gained = sum(a and not b for a, b in pairs)
    lost = sum(b and not a for a, b in pairs)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_exact(treated, control) == pytest.approx(expected)
    assert mcnemar_exact(control, treated) == mcnemar_exact(treated, control)


def test_a_unit_missing_in_one_leaves_both():
    treated = [1, 1, 1, np.nan, 0, 1.0]
    control = [0, 0, 0, 0, np.nan, 0.0]
    assert mcnemar_exact(treated, control) == pytest.approx(2 * 0.5**4)
    assert math.isnan(mcnemar_exact([np.nan], [1]))
    with pytest.raises(InputError, match="same units"):
        mcnemar_exact([True], [True, False])
    with pytest.raises(InputError, match="0, 1 or NaN"):
        mcnemar_exact([0.5], [1])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=10))
@settings(max_examples=50, deadline=None)
def test_sign_flips_are_enumerated_where_they_can_be(whole):
    differences = np.array(whole) / 10  # sums of tenths differ in their last bits: ties must still be ties
    sums = [
        sum(s * d for s, d in zip(signs, whole, strict=True)) for signs in itertools.product([1, -1], repeat=len(whole))
    ]
    expected = np.mean([abs(one) >= abs(sum(whole)) for one in sums])
    assert sign_flip_test(differences) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 0.12, 0.3])
def test_random_sign_flips_are_near_the_enumeration(shift):
    differences = np.random.default_rng(4).normal(shift, 0.5, size=16)
    exact = sign_flip_test(differences, draws=2**16)
    assert sign_flip_test(differences, draws=20_000) == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 20_000))


def test_a_p_of_random_flips_is_never_zero_and_knows_no_order():
    differences = np.random.default_rng(5).normal(1, 0.1, size=200)
    assert sign_flip_test(differences, draws=999) == pytest.approx(1 / 1000)
    assert sign_flip_test(np.r_[differences, np.nan, 0], draws=999) == pytest.approx(1 / 1000)
    assert sign_flip_test(-differences, draws=999) == sign_flip_test(differences, draws=999)
    assert sign_flip_test(np.zeros(5)) == 1.0
    assert math.isnan(sign_flip_test([np.nan]))


def test_many_units_are_as_students_test():
    differences = np.random.default_rng(6).normal(size=70)  # more units than bits in a number
    assert sign_flip_test(differences) == pytest.approx(ttest_1samp(differences, 0).pvalue, abs=0.02)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=8), st.randoms())
def test_holm_is_its_definition(p, random):
    """Step down: the i-th smallest of m is multiplied by m - i + 1, and none may fall below the one before."""
    made = sorted(one for one in p if not math.isnan(one))
    running, expected = 0.0, {}
    for rank, one in enumerate(made):
        running = max(running, min(1.0, (len(made) - rank) * one))
        expected[one] = max(expected.get(one, 0.0), running)
    adjusted = holm(p)
    for one, got in zip(p, adjusted, strict=True):
        assert (math.isnan(one) and math.isnan(got)) or got >= one
    smallest = {one: min(a for b, a in zip(p, adjusted, strict=True) if b == one) for one in made}
    largest = {one: max(a for b, a in zip(p, adjusted, strict=True) if b == one) for one in made}
    assert largest == pytest.approx(expected)
    assert all(smallest[one] <= largest[one] for one in made)
    order = list(range(len(p)))
    random.shuffle(order)
    np.testing.assert_allclose(np.sort(holm([p[i] for i in order])), np.sort(adjusted))


def test_holm_by_hand():
    # statsmodels' multipletests(method="holm") gives the same for the four that were made
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04, 0.03, 0.005]), [0.03, np.nan, 0.06, 0.06, 0.02])
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        holm([1.2])


def test_pairing_is_worth_having():
    rng = np.random.default_rng(2)
    base = rng.normal(size=300)
    treated = base - 0.1 + rng.normal(scale=0.05, size=300)
    difference = paired_difference(treated, base)
    assert difference.high < 0
    assert difference.excludes_zero
    assert difference.high - difference.low < 0.02
    with pytest.raises(InputError, match="same units"):
        paired_difference([1.0], [1.0, 2.0])


def test_one_document_has_no_interval_and_no_tokens_have_no_mean():
    one = paired_ratio_difference([6.0], [3.0], [3.0], [3.0])
    assert (one.value, one.n) == (1.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert not one.excludes_zero
    for weights in (([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0])):
        assert math.isnan(paired_ratio_difference([0.0, 0.0], weights[0], [0.0, 0.0], weights[1]).value)
