from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detox.errors import InputError
from detox.probing import compare_head_distributions, fit_head_probes


def pair(rng, *, texts=80, heads=30, gain=0.0, shared=0.0):
    """Right and wrong answers (texts, heads) of two models; `shared` is how much the heads of one model err together."""

    def model(rate):
        common = rng.normal(size=(texts, 1)) * shared
        noise = rng.normal(size=(texts, heads)) * (1 - shared**2) ** 0.5
        return (common + noise < stats.norm.ppf(rate)).astype(float)

    return model(0.7), model(0.7 + gain)


def compared(a, b, **options):
    return compare_head_distributions(
        a.mean(0).reshape(-1, 5), b.mean(0).reshape(-1, 5), texts_a=a.mean(1), texts_b=b.mean(1), **options
    )


def test_over_heads_it_is_scipy():
    a, b = pair(np.random.default_rng(0), gain=0.1)
    found = compared(a, b)
    x, y = 100 * a.mean(0), 100 * b.mean(0)
    assert found.gain == pytest.approx((y - x).mean())
    t = stats.ttest_rel(y, x)
    interval = t.confidence_interval(0.95)
    test = found.tests["heads/t"]
    assert (test.low, test.high, test.p) == pytest.approx((interval.low, interval.high, t.pvalue))
    assert found.tests["heads/wilcoxon"].p == pytest.approx(stats.wilcoxon((y - x).round(9)).pvalue)
    assert found.tests["heads/mann-whitney"].p == pytest.approx(stats.mannwhitneyu(y.round(9), x.round(9)).pvalue)


def test_over_texts_it_is_the_sign_flip_test():
    a, b = pair(np.random.default_rng(1), texts=12, gain=0.15)
    found = compared(a, b, draws=20_000).tests["texts"]
    difference = 100 * (b.mean(1) - a.mean(1))
    exact = stats.permutation_test((difference,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found.p == pytest.approx(exact.pvalue, abs=0.01)
    assert found.low < difference.mean() < found.high


def test_over_seeds_it_is_welch():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0.5, 0.7, (3, 2, 4)), rng.uniform(0.6, 0.8, (4, 2, 4))
    found = compare_head_distributions(a, b)
    x, y = 100 * a.mean((1, 2)), 100 * b.mean((1, 2))
    assert found.tests["seeds"].p == pytest.approx(stats.ttest_ind(y, x, equal_var=False).pvalue)
    assert found.headline is found.tests["seeds"]
    assert found.gain == pytest.approx(y.mean() - x.mean())


def test_without_a_difference_p_is_uniform_over_texts_and_not_over_heads_that_err_together():
    rng = np.random.default_rng(3)
    texts, heads = [], []
    for _ in range(300):
        found = compared(*pair(rng, texts=40, shared=0.7), draws=200)
        texts.append(found.tests["texts"].p)
        heads.append(found.tests["heads/t"].p)
    assert stats.kstest(texts, "uniform").pvalue > 0.01
    assert np.mean(np.array(texts) < 0.05) < 0.09
    assert np.mean(np.array(heads) < 0.05) > 0.3  # why the test over heads is not to be believed


def test_a_gain_is_found():
    found = compared(*pair(np.random.default_rng(4), texts=300, gain=0.1))
    assert found.headline.unit == "texts"
    assert found.headline.p < 0.001
    assert 6 < found.headline.low < found.gain < found.headline.high < 14
    assert "over 300 texts" in str(found)
    assert "over 30 heads" in str(found)


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_the_other_way_round_the_sign_turns(seed):
    a, b = pair(np.random.default_rng(seed), texts=20, heads=10)
    one, other = compared(a, b, draws=300), compared(b, a, draws=300)
    assert one.gain == pytest.approx(-other.gain)
    assert one.tests["texts"].p == pytest.approx(other.tests["texts"].p)
    assert one.tests["texts"].low == pytest.approx(-other.tests["texts"].high, abs=0.5)
    assert one.tests["heads/t"].low == pytest.approx(-other.tests["heads/t"].high)


def test_equal_models_have_no_gain():
    a = np.full((2, 3, 4), 0.75)
    found = compare_head_distributions(a, a, texts_a=[0.5, 1.0], texts_b=[0.5, 1.0])
    assert found.gain == 0
    assert all(test.p == 1 for test in found.tests.values())


def test_the_probes_of_real_heads_go_in_as_they_are():
    rng = np.random.default_rng(5)
    labels = np.arange(80) % 2
    noise = rng.normal(size=(80, 2, 3, 4))
    knowing = noise + 1.5 * (2 * labels - 1)[:, None, None, None]
    sides = np.arange(40), np.arange(40, 80)
    a, b = (fit_head_probes(x.astype(np.float32), labels.tolist(), *sides) for x in (noise, knowing))
    assert a.correct.shape == (40, 2, 3)
    np.testing.assert_allclose(a.correct.mean(0), a.accuracy)
    assert a.text_accuracy.mean() == pytest.approx(a.accuracy.mean())
    found = compare_head_distributions(a.accuracy, b.accuracy, texts_a=a.text_accuracy, texts_b=b.text_accuracy)
    assert found.headline.low > 0


def test_wrong_input_is_one_clear_line():
    fine = np.full((2, 3), 0.5)
    for a, b, options, message in (
        (fine, np.full((2, 4), 0.5), {}, "only in equal architectures"),
        (fine, fine + 1, {}, "b holds values outside"),
        (fine[0], fine, {}, "a has shape"),
        (fine[:1, :1], fine[:1, :1], {}, "1 head cannot be compared"),
        (fine, fine, {"texts_a": [0.5, 0.5]}, "texts_b is missing"),
        (fine, fine, {"texts_a": [0.5, 0.5], "texts_b": [0.5]}, "expected the same texts"),
    ):
        with pytest.raises(InputError, match=message):
            compare_head_distributions(a, b, **options)
