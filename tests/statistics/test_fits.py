from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from detox.errors import InputError
from detox.statistics import difference_estimate, difference_of_differences, fit_seed_interval


def test_the_interval_over_fits_is_students():
    values = [0.2, 0.5, 0.3, np.nan]
    found = fit_seed_interval(values)
    low, high = student.interval(0.95, 2, loc=np.mean(values[:3]), scale=np.std(values[:3], ddof=1) / math.sqrt(3))
    assert (found.value, found.low, found.high) == pytest.approx((1 / 3, low, high))
    assert (found.n, found.missing) == (3, 1)


def test_a_single_fit_has_no_interval():
    one = fit_seed_interval([0.4])
    assert (one.value, one.n) == (0.4, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(fit_seed_interval([]).value)
    assert math.isnan(fit_seed_interval([np.nan]).value)


@pytest.fixture
def four():
    """Three fits, 200 prompts: the method takes .10 from the reference and .25 from the arm."""
    rng = np.random.default_rng(0)
    prompts, fits = rng.uniform(0.3, 0.7, 200), rng.normal(scale=0.02, size=(4, 3, 1))
    levels = np.array([0.05, -0.20, 0.0, -0.10])[:, None, None]
    return prompts + fits + levels + rng.normal(scale=0.03, size=(4, 3, 200))


def test_negative_is_more_taken_away_on_the_arm(four):
    found = difference_of_differences(*four)
    by_hand = (four[1] - four[0]) - (four[3] - four[2])
    assert found.over_prompts.value == pytest.approx(by_hand.mean())
    assert found.over_prompts.high < 0
    assert found.by_seed == pytest.approx(by_hand.mean(1))
    assert found.over_prompts == difference_estimate(by_hand.mean(0))
    assert found.over_fits == fit_seed_interval(found.by_seed)


def test_arm_and_reference_exchanged_change_the_sign(four):
    there, back = difference_of_differences(*four), difference_of_differences(*four[[2, 3, 0, 1]])
    assert back.over_prompts.value == pytest.approx(-there.over_prompts.value)
    assert back.over_fits.high == pytest.approx(-there.over_fits.low)
    assert difference_of_differences(*four[[0, 1, 0, 1]]).over_prompts.value == 0  # an arm against itself


def test_what_prompts_or_fits_share_cancels(four):
    shifted = four + np.linspace(0, 0.3, 200)
    assert difference_of_differences(*shifted).over_prompts.value == pytest.approx(
        difference_of_differences(*four).over_prompts.value
    )


def test_what_one_of_the_four_lacks_leaves_that_seed(four):
    four[1, 0, :5] = np.nan
    four[3, :, 7] = np.nan
    found = difference_of_differences(*four)
    by_hand = (four[1] - four[0]) - (four[3] - four[2])
    assert (found.over_prompts.n, found.over_prompts.missing) == (199, 1)
    assert found.by_seed == pytest.approx(np.nanmean(by_hand, axis=1))
    gone = four.copy()
    gone[0, 2] = np.nan
    assert math.isnan(difference_of_differences(*gone).by_seed[2])
    assert difference_of_differences(*gone).over_fits.n == 2


def test_other_shapes_are_named(four):
    with pytest.raises(InputError, match=r"\(fits, prompts\)"):
        difference_of_differences(four[0], four[1], four[2], four[3][:2])
    with pytest.raises(InputError, match=r"\(fits, prompts\)"):
        difference_of_differences(*four[:, 0])
