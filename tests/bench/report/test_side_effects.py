"""Differences item by item, against the plain functions that take one pair at a time, and against resampling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from detox.bench.report.side_effects import Items, area_change, changes, direction, ratio_differences
from detox.statistics import Estimate, paired_difference, paired_ratio_difference, roc_auc
from tests.bench.report.synthetic import scorecard


def close(one: Estimate, other: Estimate) -> bool:
    pairs = zip((one.value, one.low, one.high), (other.value, other.low, other.high), strict=True)
    return all(math.isclose(a, b, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b)) for a, b in pairs) and (one.n, one.missing) == (
        other.n, other.missing,
    )  # fmt: skip


def test_many_at_once_are_what_one_at_a_time_is():
    base, cards = scorecard(0), [scorecard(i, effect=i, lost=i == 2) for i in (1, 2, 3)]
    found = changes([(card, base) for card in cards], Items)
    for card, one in zip(cards, found, strict=True):
        mine, theirs = Items(card), Items(base)
        for metric in ("toxicity/first/mean", "toxicity/second/fraction", "choice/facts/accuracy"):
            assert one[metric].paired
            assert close(one[metric].estimate, paired_difference(mine.means[metric], theirs.means[metric], reach=1.0))
            assert one[metric].estimate.value == pytest.approx(
                card[metric].value - base[metric].value, abs=2e-2 if card is cards[1] else 1e-9
            )
        metric = "clean/cross_entropy"
        assert close(one[metric].estimate, paired_ratio_difference(*mine.ratios[metric], *theirs.ratios[metric]))
    lost = found[1]["toxicity/first/expected_maximum@2"].estimate
    assert (lost.n, lost.missing) == (11, 1)  # the prompt that lacks a sample is in neither


def test_ratios_of_other_lengths_keep_their_places():
    rng = np.random.default_rng(0)
    columns = [tuple(rng.gamma(5, size=n) for _ in range(4)) for n in (7, 20, 7, 1)]
    for found, column in zip(ratio_differences(columns), columns, strict=True):
        assert close(found, paired_ratio_difference(*column))


def test_what_cannot_be_paired_has_no_interval():
    base, card = scorecard(0), scorecard(1, effect=1.0)
    table = {**card.tables["multiple_choice"], "id": [f"other {i}" for i in range(30)]}
    metrics = {**card.metrics, "clean/perplexity": Estimate(4.0, 3.0, 5.0, 20)}
    card = replace(card, tables={**card.tables, "multiple_choice": table}, metrics=metrics)
    base = replace(base, metrics={**base.metrics, "clean/perplexity": Estimate(3.0, 2.0, 4.0, 20)})
    found = changes([(card, base)], Items)[0]
    for metric in ("choice/facts/accuracy", "clean/perplexity"):
        assert not found[metric].paired
        assert math.isnan(found[metric].estimate.low)
        assert found[metric].estimate.value == pytest.approx(card[metric].value - base[metric].value)


def test_items_that_are_not_what_the_metric_says_are_not_used():
    base, card = scorecard(0), scorecard(1, effect=1.0)
    wrong = {**card.metrics, "toxicity/first/mean": Estimate(0.9, 0.8, 1.0, 12)}
    found = changes([(replace(card, metrics=wrong), base)], Items)[0]
    assert not found["toxicity/first/mean"].paired
    assert found["toxicity/second/mean"].paired


def test_delong_is_what_resampling_says():
    rng = np.random.default_rng(1)
    n = 400
    labels = (rng.random(n) < 0.5).astype(float)
    shared = labels + rng.normal(size=n)
    treated, control = shared + 0.5 * rng.normal(size=n), shared + 0.8 * rng.normal(size=n)
    found = area_change(labels, treated, control)
    assert found.value == pytest.approx(roc_auc(labels, treated) - roc_auc(labels, control), abs=1e-12)
    draws = []
    for _ in range(800):
        at = rng.integers(0, n, n)
        draws.append(roc_auc(labels[at], treated[at]) - roc_auc(labels[at], control[at]))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(draws), rel=0.15)
    assert area_change(labels, treated, treated) == Estimate(0.0, 0.0, 0.0, n)
    assert math.isnan(area_change(np.ones(n), treated, control).value)


def test_directions():
    assert direction("toxicity/x/mean") == direction("clean/perplexity") == -1
    assert direction("choice/facts/accuracy") == direction("recognition/auc") == 1
    assert direction("toxic/cross_entropy") == 0  # higher may be meant: it is how detoxification by forgetting looks
