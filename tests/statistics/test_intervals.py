"""Which interval, and that it is its formula. What they cover is in benchmarks/results/statistics, repeated in part by tests/benchmarks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import beta, binomtest
from scipy.stats import t as student

from detox.errors import InputError
from detox.statistics import (
    bootstrap_weights,
    difference_estimate,
    mean_estimate,
    mean_estimates,
    paired_difference,
    paired_ratio_difference,
    ratio_estimate,
)
from detox.statistics.intervals import (
    difference_ends,
    effective_events,
    exact_difference_ends,
    exact_share_ends,
    percentile_ends,
    share_ends,
    studentised_ends,
)

shares = arrays(
    np.float64, st.tuples(st.integers(2, 30), st.just(1)), elements=st.integers(0, 20).map(lambda x: x / 20)
)


@given(st.integers(2, 199), st.data())
@settings(max_examples=60)
def test_few_yes_or_no_have_clopper_and_pearsons_interval(n, data):
    events = data.draw(st.integers(0, n))
    values = np.zeros(n)
    values[:events] = 1
    found = mean_estimate(np.random.default_rng(0).permutation(values), bounds=(0, 1))
    exact = binomtest(events, n).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_the_exact_interval_of_shares_is_its_formula():
    values = np.array([0.0, 0.2, 0.0, 0.4, 0.0, 0.0, 0.2, 0.0, 0.0, 0.6, 0.0, 0.0])
    m = values.mean()
    few = np.array([0.0, 0.2, 0.0, 0.4, 0.0, 0.0])
    assert effective_events(few[:, None]) < 3 < effective_events(values[:, None])
    # Spread read off so few: no more than the six units count.
    assert exact_share_ends(few[:, None]) == (
        pytest.approx(beta.ppf(0.025, 0.6, 6 - 0.6 + 1)),
        pytest.approx(beta.ppf(0.975, 0.6 + 1, 6 - 0.6)),
    )
    many = np.tile(values, 12)
    trials = m * (1 - m) * 144 / ((many - m) ** 2).mean()
    shrunk = trials * (1.959963984540054 / student.ppf(0.975, trials * m - 1)) ** 2
    assert shrunk > 144
    low, high = exact_share_ends(many[:, None])
    assert low == pytest.approx(beta.ppf(0.025, shrunk * m, shrunk - shrunk * m + 1))
    assert high == pytest.approx(beta.ppf(0.975, shrunk * m + 1, shrunk - shrunk * m))
    assert effective_events(many[:, None]) == pytest.approx(trials * m)


@given(shares)
@settings(max_examples=80, deadline=None)
def test_the_exact_interval_holds_the_mean_mirrors_and_knows_no_order(values):
    (low, high), mean = exact_share_ends(values), values.mean(0)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    mirrored = exact_share_ends(1 - values)
    assert (1 - mirrored[1], 1 - mirrored[0]) == (pytest.approx(low, abs=1e-7), pytest.approx(high, abs=1e-7))
    assert exact_share_ends(values[::-1]) == (pytest.approx(low), pytest.approx(high))
    longer = exact_share_ends(np.tile(values, (4, 1)))
    assert longer[1] - longer[0] <= high - low + 1e-9


def test_the_studentised_interval_is_its_formula():
    values = np.random.default_rng(1).beta(0.3, 1.5, size=240)
    n, mean = 240, values.mean()
    drawn = []
    for weights in np.concatenate(list(bootstrap_weights(n, draws=300))):
        copy = np.repeat(values, weights.astype(int))
        drawn.append((copy.mean() - mean) / (copy.std(ddof=1) / math.sqrt(n)))
    error = values.std(ddof=1) / math.sqrt(n)
    expected = mean - np.quantile(drawn, 0.975) * error, mean - np.quantile(drawn, 0.025) * error
    low, high = studentised_ends(values[:, None], draws=300)
    assert (low[0], high[0]) == pytest.approx(expected)
    found = mean_estimate(values, bounds=(0, 1), draws=300)
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "events", "exact"), [(200, 3, True), (200, 4, False), (200, 197, True), (199, 50, True)])
def test_few_units_or_events_are_exact_and_the_rest_is_resampled(n, events, exact):
    values = np.zeros((n, 1))
    values[:events] = 1
    assert effective_events(values)[0] == pytest.approx(min(events, n - events))
    for ends, other in ((exact_share_ends(values), exact), (studentised_ends(values), not exact)):
        assert (share_ends(values)[1] == ends[1]).all() == other


def test_few_units_between_the_bounds_have_the_wider_of_both():
    values = np.random.default_rng(3).beta(0.2, 3, size=(60, 1))
    exact, resampled = exact_share_ends(values), studentised_ends(values)
    low, high = share_ends(values)
    assert resampled[1] > exact[1]  # so skewed that yes or no would be too short
    assert (low, high) == (min(exact[0], resampled[0]), resampled[1])


def test_no_event_in_a_prompt_of_many_samples_is_no_event_in_n_prompts():
    found = mean_estimate(np.zeros(1000), bounds=(0, 1))
    assert (found.low, found.high) == (0, pytest.approx(1 - 0.025 ** (1 / 1000)))
    constant = mean_estimate(np.full(40, 0.3), bounds=(0, 1))
    assert (constant.low, constant.high) == (pytest.approx(0.3), pytest.approx(0.3))


@given(shares, st.floats(-3, 3), st.floats(0.1, 5))
@settings(max_examples=40, deadline=None)
def test_other_bounds_are_another_scale(values, start, span):
    plain = mean_estimate(values[:, 0], bounds=(0, 1))
    scaled = mean_estimate(start + span * values[:, 0], bounds=(start, start + span))
    assert (scaled.low, scaled.high) == pytest.approx((start + span * plain.low, start + span * plain.high), abs=1e-5)


def test_a_value_out_of_bounds_is_named():
    with pytest.raises(InputError, match=r"values from 0\.2 to 1\.5"):
        mean_estimate([0.2, 1.5], bounds=(0, 1))
    assert mean_estimate([0.2, 1 + 1e-9], bounds=(0, 1)).high <= 1  # a cosine of equal texts


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_many_metrics_at_once_are_each_by_itself(bounds):
    rng = np.random.default_rng(2)
    cells = rng.beta(0.5, 2, size=(6, 220))
    cells[1, 3] = cells[2, 3] = np.nan
    cells[3] = np.nan
    cells[4, 1:] = np.nan
    together = mean_estimates(list(cells), bounds=bounds, draws=400)
    for cell, found in zip(cells, together, strict=True):
        alone = mean_estimate(cell, bounds=bounds, draws=400)
        for name in ("value", "low", "high", "n", "missing"):
            assert getattr(found, name) == pytest.approx(getattr(alone, name), nan_ok=True)
    assert [(e.n, e.missing) for e in together] == [(220, 0), (219, 1), (219, 1), (0, 220), (1, 219), (220, 0)]


def test_a_difference_is_stretched_by_the_units_that_carry_it():
    values = np.zeros((100, 1))
    values[:12, 0] = [0.2, 0.4, -0.2, 0.2, 0.6, -0.2, 0.2, 0.2, -0.4, 0.2, 0.2, 0.2]
    units = np.abs(values).sum() ** 2 / (values**2).sum()
    stretch = student.ppf(0.975, units - 1) / 1.959963984540054
    assert 5 < units < 12
    low, high = percentile_ends(values)
    mean = values.mean()
    found = difference_estimate(values[:, 0], reach=1.0)
    assert found.low == pytest.approx(mean - stretch * (mean - low[0]))
    assert found.high == pytest.approx(mean + stretch * (high[0] - mean))
    paired = paired_difference(values[:, 0] + 0.3, np.full(100, 0.3), reach=1.0)
    assert (paired.low, paired.high) == pytest.approx((found.low, found.high))


def test_a_ratio_is_stretched_by_the_documents_that_carry_it():
    rng = np.random.default_rng(4)
    tokens = np.ceil(rng.lognormal(4, 1, size=(2, 30)))
    nats = tokens * rng.normal(3, 0.5, size=(2, 30))
    (a, b), (p, q) = nats, tokens
    weights = np.concatenate(list(bootstrap_weights(30)))
    for found, drawn, parts in (
        (ratio_estimate(a, p), weights @ a / (weights @ p), a - a.sum() / p.sum() * p),
        (
            paired_ratio_difference(a, p, b, q),
            weights @ a / (weights @ p) - weights @ b / (weights @ q),
            (a - a.sum() / p.sum() * p) / p.sum() - (b - b.sum() / q.sum() * q) / q.sum(),
        ),
    ):
        stretch = student.ppf(0.975, np.abs(parts).sum() ** 2 / (parts**2).sum() - 1) / 1.959963984540054
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert found.low == pytest.approx(found.value - stretch * (found.value - low))
        assert found.high == pytest.approx(found.value + stretch * (high - found.value))
        assert stretch > 1.02


@given(arrays(np.float64, st.tuples(st.integers(2, 40), st.just(1)), elements=st.integers(-5, 5).map(lambda x: x / 5)))
@settings(max_examples=60, deadline=None)
def test_a_difference_the_other_way_round_mirrors(values):
    for ends in (lambda v: difference_ends(v, reach=1.0, draws=200), exact_difference_ends):
        low, high = ends(values)
        back = ends(-values)
        assert (-back[1][0], -back[0][0]) == pytest.approx((low[0], high[0]), abs=1e-9)
        assert -1 <= low[0] <= values.mean() + 1e-12
        assert values.mean() - 1e-12 <= high[0] <= 1


def test_no_difference_in_few_prompts_is_not_certainly_none():
    none = difference_estimate(np.zeros(60), reach=1.0)
    most = 1 - 0.025 ** (1 / 60)
    assert (none.low, none.high) == pytest.approx((-most, most))
    assert (difference_estimate(np.zeros(60)).low, difference_estimate(np.zeros(60)).high) == (0, 0)
    twice = difference_estimate(np.zeros(60), reach=2.0)
    assert twice.high == pytest.approx(2 * most)
    with pytest.raises(InputError, match=r"difference of 1\.5"):
        difference_estimate([0.1, -1.5], reach=1.0)


def test_a_difference_of_gains_and_losses_is_zou_and_donners_formula():
    values = np.zeros((80, 1))
    values[:2, 0], values[2:3, 0] = 1, -1
    (la, ha), (lb, hb) = (binomtest(k, 80).proportion_ci() for k in (2, 1))
    a, b = 2 / 80, 1 / 80
    r = -a * b / math.sqrt(a * (1 - a) * b * (1 - b))
    low = a - b - math.sqrt((a - la) ** 2 - 2 * r * (a - la) * (hb - b) + (hb - b) ** 2)
    high = a - b + math.sqrt((ha - a) ** 2 - 2 * r * (ha - a) * (b - lb) + (b - lb) ** 2)
    found = difference_estimate(values[:, 0], reach=1.0)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_kept_and_drawn_weights_are_one_stream():
    from detox.statistics.resampling import _drawn_weights

    kept, drawn = (np.concatenate(list(of)) for of in (bootstrap_weights(30, draws=250), _drawn_weights(30, 250, 0)))
    assert np.array_equal(kept, drawn)
    with pytest.raises(ValueError, match="read-only"):
        next(iter(bootstrap_weights(30, draws=250)))[0, 0] = 7
