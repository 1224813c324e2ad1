import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import cohen_kappa_score, recall_score, roc_auc_score

from detox.data.records import LabelledText
from detox.errors import InputError
from detox.scorers import Score, scorer_agreement, scorer_quality
from detox.scorers.checking import measure_set

PAIRS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.sampled_from([0.0, 0.4, 0.6, 1.0])), min_size=2
)


@settings(max_examples=50)
@given(PAIRS)
def test_roc_auc_is_scikit_learns_also_with_ties(pairs):
    scores, targets = map(np.array, zip(*pairs, strict=True))
    measured = scorer_quality(scores, targets, n_bootstrap=0)["roc_auc"]
    toxic = targets >= 0.5
    if toxic.all() or not toxic.any():
        assert measured is None
    else:
        assert measured == pytest.approx(roc_auc_score(toxic, scores))


@settings(max_examples=50)
@given(PAIRS)
def test_kappa_is_scikit_learns(pairs):
    first, second = map(np.array, zip(*pairs, strict=True))
    x, y = first >= 0.5, second >= 0.5
    kappa = scorer_agreement(first, second)["kappa"]
    if len({*x, *y}) == 1:
        assert kappa is None
    else:
        assert kappa == pytest.approx(cohen_kappa_score(x, y))


def test_the_interval_holds_the_value_and_narrows_with_more_texts():
    rng = np.random.default_rng(0)

    def measured(n):
        targets = rng.integers(0, 2, n).astype(float)
        scores = np.clip(0.5 + 0.2 * (targets - 0.5) + rng.normal(0, 0.2, n), 0, 1)
        return scorer_quality(scores, targets)

    few, many = measured(100), measured(5000)
    for quality in (few, many):
        low, high = quality["roc_auc_interval"]
        assert low < quality["roc_auc"] < high
    width = [high - low for low, high in (few["roc_auc_interval"], many["roc_auc_interval"])]
    assert width[1] < width[0] / 4


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # Normal scores one standard deviation apart: the true ROC-AUC is Phi(1 / sqrt(2)).
    truth, rng = 0.5 * (1 + math.erf(0.5)), np.random.default_rng(1)
    hits = 0
    for repeat in range(100):
        targets = np.repeat([0.0, 1.0], 60)
        scores = 1 / (1 + np.exp(-(targets + rng.normal(size=120))))
        low, high = scorer_quality(scores, targets, n_bootstrap=400, seed=repeat)["roc_auc_interval"]
        hits += low <= truth <= high
    assert 87 <= hits <= 100


def test_calibration_by_hand():
    quality = scorer_quality([0.05, 0.05, 0.95, 1.0], [0, 0.2, 1, 0], n_bins=10, n_bootstrap=0)
    assert quality["reliability"] == [
        {"low": 0.0, "high": 0.1, "n": 2, "mean_score": pytest.approx(0.05), "mean_target": pytest.approx(0.1)},
        {"low": 0.9, "high": 1.0, "n": 2, "mean_score": pytest.approx(0.975), "mean_target": pytest.approx(0.5)},
    ]
    assert quality["ece"] == pytest.approx((2 * 0.05 + 2 * 0.475) / 4)


def test_missing_scores_are_counted_and_left_out():
    scores = [Score(0.1), Score.missing("empty"), Score(0.9), Score(0.8)]
    quality = scorer_quality(scores, [0, 1, 1, math.nan], n_bootstrap=0)
    assert (quality["n"], quality["n_missing"], quality["roc_auc"]) == (2, 1, 1.0)
    assert scorer_agreement(scores, [0.2, 0.9, 0.7, 0.6])["n"] == 3


def test_a_constant_scorer_has_no_rank_correlation():
    quality = scorer_quality([0.3, 0.3, 0.3], [0, 1, 0], n_bootstrap=0)
    assert (quality["spearman"], quality["roc_auc"]) == (None, 0.5)


def test_same_seed_same_interval():
    scores, targets = np.linspace(0, 1, 50), np.arange(50) % 2
    assert scorer_quality(scores, targets, seed=3) == scorer_quality(scores, targets, seed=3)
    assert scorer_quality(scores, targets, seed=3) != scorer_quality(scores, targets, seed=4)


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="2 scores but 1 targets"):
        scorer_quality([0.1, 0.2], [1])
    with pytest.raises(InputError, match="none of 1 texts"):
        scorer_quality([math.nan], [1])
    with pytest.raises(InputError, match="agreement is unknown"):
        scorer_agreement([math.nan], [0.5])


def test_every_number_of_the_check_is_scikit_learns_or_scipys_and_has_an_interval():
    rng = np.random.default_rng(5)
    targets = rng.random(400)
    scores = np.clip(targets + rng.normal(0, 0.25, 400), 0, 1).round(2)
    found = scorer_quality(scores, targets, n_bootstrap=500)
    assert found["spearman"] == pytest.approx(spearmanr(scores, targets).statistic)
    bins = np.minimum((scores * 10).astype(int), 9)
    ece = sum(abs(scores[bins == b].sum() - targets[bins == b].sum()) for b in range(10)) / 400
    assert found["ece"] == pytest.approx(ece)
    resampled = [rng.integers(400, size=400) for _ in range(500)]
    ranks = np.quantile([spearmanr(scores[i], targets[i]).statistic for i in resampled], [0.025, 0.975])
    assert found["spearman_interval"] == pytest.approx(ranks, abs=0.015)
    assert found["ece_interval"][0] < ece < found["ece_interval"][1]
    labels = (targets >= 0.5).astype(float)
    records = [LabelledText(id=str(i), text="x", label=int(label)) for i, label in enumerate(labels)]
    counted = measure_set([Score(float(s)) for s in scores], records, draws=50)
    for kind, side in (("sensitivity", 1), ("specificity", 0)):
        right, n = counted[kind]
        assert right / n == pytest.approx(recall_score(labels, scores >= 0.5, pos_label=side))
        low, high = counted[f"{kind}_interval"]
        assert (low, high) == pytest.approx(binomtest(right, n).proportion_ci(method="exact"), abs=0.01)
