from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.bench.cost_paths import along
from detox.bench.equal_cost import AgainstControl, at_equal_cost
from detox.evaluation import Scorecard
from tests.bench.synthetic import TOKENS, card_of

PROMPTS, DOCUMENTS = 80, 40


def card(toxicity: np.ndarray, cost: float, rng: np.random.Generator) -> Scorecard:
    """A cell whose prompts have these rates, on documents that cost 3 nats per token and `cost` more."""
    values = rng.random((PROMPTS, 5)) < toxicity[:, None]
    return card_of(values, nats=3 + cost + 0.02 * rng.normal(size=DOCUMENTS))


def paths(seed: int = 0):
    """A method that takes half of the toxicity for .2 nats; one that takes a tenth for the same; and a bare base."""
    rng = np.random.default_rng(seed)
    rates = rng.uniform(0.3, 0.7, size=PROMPTS)
    base = card(rates, 0.0, rng)
    good = [card(rates * (1 - 0.5 * s), 0.2 * s, rng) for s in (0.5, 1.0)]
    poor = [card(rates * (1 - 0.1 * s), 0.2 * s, rng) for s in (0.5, 1.0, 2.0)]
    return base, good, poor


def test_a_better_path_is_better_at_every_price():
    base, good, poor = paths()
    found = at_equal_cost(base, good, poor, "truth")
    assert [one.reached for one in found] == [True, True]
    np.testing.assert_allclose([one.price for one in found], [0.1, 0.2], atol=0.02)
    assert all(one.difference.high < 0 for one in found)
    assert found[1].difference.value == pytest.approx(-0.2, abs=0.07)
    # The second path costs .2 and .4 nats at its ends: the price of .2 lies on its second point, to the noise of the documents.
    means = [np.mean(c.tables["scores"]["value"]) for c in (good[1], poor[1])]
    assert found[1].first == pytest.approx(means[0])
    assert found[1].second == pytest.approx(means[1], abs=0.02)


def test_a_path_against_itself_is_no_difference_at_all():
    base, good, _ = paths()
    for one in at_equal_cost(base, good, good, "truth"):
        np.testing.assert_allclose([one.difference.value, one.difference.low, one.difference.high], 0, atol=1e-12)
        assert one.reached


def test_where_the_second_path_never_costs_as_much_both_are_read_at_its_end():
    base, good, poor = paths()
    found = at_equal_cost(base, good, poor[:1], "truth")  # at most .1 nats
    assert len(found) <= 2
    assert not found[-1].reached
    costs = [np.sum(c.tables["documents"]["nats"]) / (DOCUMENTS * TOKENS) for c in (base, poor[0])]
    assert found[-1].price == pytest.approx(costs[1] - costs[0])
    assert found[-1].second == pytest.approx(np.mean(poor[0].tables["scores"]["value"]))


def test_a_control_that_is_free_is_told_of():
    """Nothing it does costs anything: no price can be set, and what it reaches for nothing must be seen."""
    base, good, _ = paths()
    rng = np.random.default_rng(5)
    rates = np.full(PROMPTS, 0.1)
    free = [card(rates, -0.05, rng), card(rates, -0.1, rng)]
    (found,) = at_equal_cost(base, good, free, "truth")
    assert (found.price, found.reached) == (0.0, False)
    assert found.first == pytest.approx(np.mean(base.tables["scores"]["value"]))
    assert found.second == pytest.approx(np.mean(free[1].tables["scores"]["value"]))
    assert found.difference.low > 0  # the base against it: the method has lost


def test_nothing_to_compare_is_nothing():
    base, good, poor = paths()
    assert at_equal_cost(base, good, [], "truth") == []
    free = [card(np.full(PROMPTS, 0.2), -0.5, np.random.default_rng(1))]
    assert at_equal_cost(base, free, poor, "truth") == []
    without = replace(base, tables={"scores": base.tables["scores"]})
    assert at_equal_cost(without, good, poor, "truth") == []


def test_intervals_cover_no_difference_as_often_as_they_say():
    """Two methods that are the same one, measured apart: 95 % intervals should hold zero in about 95 of 100."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng([seed, 1])
        rates = rng.uniform(0.3, 0.7, size=PROMPTS)
        base = card(rates, 0.0, rng)
        one, other = ([card(rates * (1 - 0.5 * s), 0.2 * s, rng) for s in (0.5, 1.0)] for _ in range(2))
        difference = at_equal_cost(base, one, other, "truth")[-1].difference
        held += difference.low <= 0 <= difference.high
    assert 180 <= held <= 199


def by_hand(prices, toxicities, asked):
    asked = min(max(asked, 0.0), max(prices))
    if asked == 0:
        return toxicities[0]
    end = next(i for i, price in enumerate(prices) if price >= asked)
    share = (asked - prices[end - 1]) / (prices[end] - prices[end - 1])
    return toxicities[end - 1] + share * (toxicities[end] - toxicities[end - 1])


@given(
    st.lists(st.tuples(st.floats(-0.2, 2), st.floats(0, 1)), min_size=1, max_size=6),
    st.floats(0, 1),
    st.floats(-0.5, 3),
)
def test_a_path_is_read_where_it_first_costs_what_is_asked(points, start, asked):
    prices, toxicities = [0.0, *(p for p, _ in points)], [start, *(t for _, t in points)]
    found = along(np.array([prices]), np.array([toxicities]), np.array([asked]))[0]
    assert found == pytest.approx(by_hand(prices, toxicities, asked), abs=1e-9)


def test_all_methods_of_a_base_are_read_at_one_price_and_every_pair_compared():
    from detox.bench.comparison import Comparison, Row
    from detox.bench.equal_utility import at_equal_utility, table

    base, good, poor = paths()
    cells = [(None, None, base), *(("good", s, c) for s, c in zip((0.5, 1.0), good, strict=True)),
             *(("poor", s, c) for s, c in zip((0.5, 1.0, 2.0), poor, strict=True))]  # fmt: skip
    rows = tuple(Row("b", method, strength, "main", 0, one, None, None, None) for method, strength, one in cells)
    [found] = at_equal_utility(Comparison(rows, "truth", ("truth",), {}), price=0.1)
    assert [one.method for one in found.methods] == ["good", "poor"]
    assert all(one.paid == pytest.approx(0.1) for one in found.methods)
    # At .1 nats the good one has lost a quarter of about .5, the poor one a twentieth.
    assert found.methods[0].change.value == pytest.approx(-0.125, abs=0.05)
    pair = found.differences["good", "poor"]
    assert pair.high < 0
    [against] = [one for one in at_equal_cost(base, good, poor, "truth") if one.price < 0.15]
    assert pair.value == pytest.approx(against.difference.value, abs=0.02)
    assert "minus the next" in table([found])
    # Beyond what the good one costs at most, it is read at its end.
    [far] = at_equal_utility(Comparison(rows, "truth", ("truth",), {}), price=0.3)
    assert next(one.paid for one in far.methods if one.method == "good") == pytest.approx(0.2, abs=0.02)


def test_completions_without_a_score_withhold_the_verdict_where_they_are_read():
    base, good, poor = paths()
    scores = good[1].tables["scores"]
    values = [np.nan if i % 10 == 0 else v for i, v in enumerate(scores["value"])]  # no prompt lacks all of its samples
    lacking = replace(good[1], tables={**good[1].tables, "scores": {**scores, "value": values}})
    found = at_equal_cost(base, [good[0], lacking], poor, "truth")
    assert [one.missing for one in found] == pytest.approx([0.0, 0.1])
    words = [AgainstControl("b", 0, "good", "poor", 1.0, one).verdict for one in found]
    assert words == ["beats", "withheld (10.0% missing)"]


def without_scores(one: Scorecard, prompts: int) -> Scorecard:
    """The card, and nothing that a scorer could read for its first prompts."""
    scores = one.tables["scores"]
    values = [np.nan if int(p) < prompts else v for p, v in zip(scores["prompt"], scores["value"], strict=True)]
    return replace(one, tables={**one.tables, "scores": {**scores, "value": values}})


def test_what_an_extreme_strength_cannot_be_scored_on_is_missing_there_alone():
    base, good, poor = paths()
    whole = at_equal_cost(base, good, poor, "truth")
    # A strength of the control beyond .4, which is twice the most that the method costs, is not read at any of the prices.
    extreme = without_scores(card(np.full(PROMPTS, 0.5), 0.8, np.random.default_rng(1)), PROMPTS)
    assert at_equal_cost(base, good, [*poor, extreme], "truth") == whole
    # The method's last strength is read at its own price.
    found = at_equal_cost(base, [good[0], without_scores(good[1], 20)], poor, "truth")
    assert found[0] == whole[0]
    assert (found[1].difference.n, found[1].difference.missing, found[1].missing) == (PROMPTS - 20, 20, 0.25)
    kept = [i >= 20 * 5 for i in range(PROMPTS * 5)]
    assert found[1].first == pytest.approx(np.mean(np.array(good[1].tables["scores"]["value"])[kept]))
    none = at_equal_cost(base, [good[0], without_scores(good[1], PROMPTS)], poor, "truth")[1]
    assert np.isnan(none.first)
    assert AgainstControl("b", 0, "good", "poor", 1.0, none).verdict == "withheld (100.0% missing)"


def test_a_strength_of_infinite_cost_is_compared_at_what_the_other_costs_at_most():
    base, good, poor = paths()
    nats = [float("inf"), *poor[2].tables["documents"]["nats"][1:]]
    banned = replace(poor[2], tables={**poor[2].tables, "documents": {**poor[2].tables["documents"], "nats": nats}})
    found = at_equal_cost(base, good, [*poor[:2], banned], "truth")
    assert [one.price for one in found] == pytest.approx([0.1, 0.2], abs=0.02)
    assert all(one.reached and np.isfinite([one.difference.low, one.difference.high]).all() for one in found)
    [*_, last] = at_equal_cost(base, [good[0], banned], poor[:2], "truth")
    assert (last.reached, last.price) == (False, pytest.approx(0.2, abs=0.02))
    assert at_equal_cost(banned, good, poor, "truth") == []
    both = at_equal_cost(base, [good[0], banned], [poor[0], banned], "truth")
    assert [one.price for one in both] == pytest.approx([0.1], abs=0.02)
