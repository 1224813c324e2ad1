"""The difference of differences at matched cross-entropy, on cells whose truth is known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from detox.bench.comparison import Comparison, Row
from detox.bench.interaction import interactions
from detox.bench.interaction_text import markdown, table, to_dict, write
from detox.errors import InputError, UnknownName
from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means, score_matrix
from detox.statistics import Estimate, fit_seed_interval
from tests.bench.synthetic import card_of

PROMPTS, DOCUMENTS = 120, 40


def card(rates, cost: float, *, noise=0.0, seed=0) -> Scorecard:
    """A cell whose prompts have these rates and some noise, on documents that cost 3 nats per token and `cost` more."""
    values = np.clip(rates + noise * np.random.default_rng(seed).normal(size=(3, PROMPTS)), 0, 1).T
    return card_of(values, nats=3 + cost + 0.02 * np.sin(np.arange(DOCUMENTS)))


def row(base, method, strength, scorecard) -> Row:
    mean = float(np.nanmean(scorecard.tables["scores"]["value"]))
    return Row(base, method, strength, "main", 0, scorecard, Estimate(mean, mean, mean, PROMPTS), None, None)


def comparison(cells) -> Comparison:
    return Comparison(tuple(row(*cell) for cell in cells), "truth", ("truth",), {})


def two_arms(*, taken=(0.3, 0.1), dial=(0.1, 0.2), noise=0.02, seeds=(0, 1)):
    """A method that takes parts of the toxicity away in proportion to its cost, up to .2 nats, on two arms of several seeds."""
    rates = np.linspace(0.3, 0.7, PROMPTS)
    cells, factors = [], {}
    for arm, part in (("masked", taken[0]), ("full", taken[1])):
        for seed in seeds:
            name = f"{arm} s{seed}"
            factors[name] = {"arm": arm, "seed": seed}
            own = rates if arm == "full" else rates * 0.8
            cells.append((name, None, None, card(own, 0.0, noise=noise, seed=10 * seed)))
            for strength, cost in enumerate(dial, start=1):
                left = own * (1 - part * cost / 0.2)
                cells.append(
                    (name, "method", float(strength), card(left, cost, noise=noise, seed=10 * seed + strength))
                )
    return comparison(cells), factors


def test_the_planted_interaction_is_found_at_the_matched_price():
    given, factors = two_arms(noise=0.0)
    found = interactions(given, factors, price=0.05)
    [only] = found.rows
    assert (only.arm, only.reference, only.fits, only.matched) == ("masked", "full", 2, True)
    # At .05 nats the arm loses .3 / 4 of .4 on the mean, the reference .1 / 4 of .5: read off the line between 0 and .1.
    assert only.interaction.over_prompts.value == pytest.approx(-(0.4 * 0.3 - 0.5 * 0.1) / 4, rel=1e-6)
    assert only.ends.value == pytest.approx(0.4 * (1 - 0.3 / 4) - 0.5 * (1 - 0.1 / 4), rel=1e-6)
    assert only.taken.value == pytest.approx((0.3 - 0.1) / 4, rel=1e-6)
    assert only.interaction.by_seed == pytest.approx([only.interaction.over_prompts.value] * 2)
    assert only.verdict == "better"


def test_swapping_arm_and_reference_turns_the_sign():
    given, factors = two_arms()
    one, other = (interactions(given, factors, reference=name).rows[0] for name in ("full", "masked"))
    assert one.interaction.over_prompts.value == pytest.approx(-other.interaction.over_prompts.value)
    assert one.verdict == "better"
    assert other.verdict == "worse"
    with pytest.raises(UnknownName, match="arm measured with a method"):
        interactions(given, factors, reference="clean")


def test_equal_methods_show_nothing_and_one_fit_is_marked():
    given, factors = two_arms(taken=(0.25, 0.2), noise=0.2, seeds=(0,))
    [only] = interactions(given, factors).rows
    assert only.verdict == "not shown (1 fit)"
    assert np.isnan(only.interaction.over_fits.low)
    assert "1 fit" in table(interactions(given, factors))


def test_where_a_path_costs_less_all_are_read_at_what_it_costs():
    given, factors = two_arms(noise=0.0)
    shorter = [r for r in given.rows if not (r.base == "full s1" and r.strength == 2)]
    found = interactions(dataclasses.replace(given, rows=tuple(shorter)), factors, price=0.15)
    assert found.rows[0].price == pytest.approx(0.1)
    assert found.rows[0].interaction.over_prompts.value == pytest.approx(-(0.4 * 0.3 - 0.5 * 0.1) / 2, rel=1e-6)


def test_a_free_method_is_not_matched_and_a_price_far_below_any_strength_is_not_judged():
    given, factors = two_arms(dial=(0.0, -0.01))
    [free] = interactions(given, factors).rows
    assert not free.matched
    assert free.verdict == "cost not matched"
    given, factors = two_arms(dial=(1.0, 2.0))
    [steep] = interactions(given, factors).rows
    assert steep.verdict == "no strength near the price (next +1.00)"


def test_an_arm_with_nothing_to_take_away_and_missing_prompts_have_no_verdict():
    given, factors = two_arms()
    rows = [
        dataclasses.replace(r, scorecard=card(np.full(PROMPTS, 0.002), 0.1 if r.method else 0.0))
        if "masked" in r.base
        else r
        for r in given.rows
    ]
    [found] = interactions(dataclasses.replace(given, rows=tuple(rows)), factors).rows
    assert found.verdict == "nothing to take away (masked)"
    assert found.taken is None
    given, factors = two_arms()
    values = given.rows[1].scorecard.tables["scores"]["value"]
    values[: 3 * 5] = [float("nan")] * 15
    [found] = interactions(given, factors).rows
    assert found.missing == pytest.approx(5 / PROMPTS)
    assert found.verdict.startswith("withheld (4.2%")


@pytest.mark.slow
def test_the_interval_covers_an_interaction_that_is_zero():
    """Prompts drawn anew: the interval over prompts holds zero in about 95 of 100 worlds."""
    held = 0
    for world in range(60):
        rng = np.random.default_rng(world)
        rates = rng.uniform(0.2, 0.8, size=PROMPTS)
        cells = []
        for arm in ("full", "masked"):
            cells.append((arm, None, None, card(rates, 0.0, noise=0.2, seed=rng.integers(1e9))))
            cells.append((arm, "method", 1.0, card(rates * 0.8, 0.05, noise=0.2, seed=rng.integers(1e9))))
        [found] = interactions(comparison(cells), {}, price=0.05).rows
        held += not found.interaction.over_prompts.excludes_zero
    assert held >= 51  # P(fewer | 95 %) < 0.001


def test_against_numpy_from_the_formula():
    given, factors = two_arms(seeds=(3, 5))
    [found] = interactions(given, factors, price=0.1).rows
    means = {
        (r.base, r.strength): prompt_means(
            score_matrix(r.scorecard.tables["scores"], "truth", [str(p) for p in range(PROMPTS)])
        )
        for r in given.rows
    }
    by_seed = [
        (
            (means[f"masked s{s}", 1.0] - means[f"masked s{s}", None])
            - (means[f"full s{s}", 1.0] - means[f"full s{s}", None])
        ).mean()
        for s in (3, 5)
    ]
    np.testing.assert_allclose(found.interaction.by_seed, by_seed, atol=1e-9)
    assert found.interaction.over_prompts.value == pytest.approx(np.mean(by_seed), abs=1e-9)


def test_it_is_written_as_text_markdown_and_json():
    given, factors = two_arms(seeds=(0,))
    found = interactions(given, factors)
    assert len(markdown(found).splitlines()) >= 5
    values = json.loads(json.dumps(to_dict(found), allow_nan=False))
    assert values["rows"][0]["verdict"] == "better (1 fit)"
    assert values["rows"][0]["interaction"]["over_fits"]["low"] is None


def test_one_arm_or_no_shared_method_is_no_table():
    given, factors = two_arms()
    alone = [r for r in given.rows if r.base.startswith("full")]
    assert interactions(dataclasses.replace(given, rows=tuple(alone)), factors) is None


def test_completions_without_a_score_withhold_the_verdict():
    given, factors = two_arms(noise=0.0)
    place = next(i for i, r in enumerate(given.rows) if r.base == "masked s0" and r.strength == 1.0)
    scores = given.rows[place].scorecard.tables["scores"]
    # One of three samples of every fifth prompt: no prompt is missing, and 6.7 % of what was asked for is.
    values = [np.nan if i % 15 == 0 else v for i, v in enumerate(scores["value"])]
    tables = {**given.rows[place].scorecard.tables, "scores": {**scores, "value": values}}
    lacking = dataclasses.replace(
        given.rows[place], scorecard=dataclasses.replace(given.rows[place].scorecard, tables=tables)
    )
    rows = (*given.rows[:place], lacking, *given.rows[place + 1 :])
    [only] = interactions(dataclasses.replace(given, rows=rows), factors).rows
    assert only.verdict == "withheld (6.7% missing)"
    [whole] = interactions(given, factors).rows
    assert whole.missing == 0


def test_a_strength_chosen_on_these_prompts_is_no_point_of_a_path():
    given, factors = two_arms(noise=0.0)
    chosen = tuple(dataclasses.replace(r, chosen_on="test") if r.strength == 1.0 else r for r in given.rows)
    [only] = interactions(dataclasses.replace(given, rows=chosen), factors).rows
    assert only.crossing == pytest.approx(0.2)  # read between the base and the second strength
    everything = tuple(dataclasses.replace(r, chosen_on="test") if r.method else r for r in given.rows)
    assert interactions(dataclasses.replace(given, rows=everything), factors) is None


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_nothing_can_be_read_at_is_refused(price):
    given, factors = two_arms()
    with pytest.raises(InputError, match="expected nats per token above 0"):
        interactions(given, factors, price=price)


@pytest.mark.parametrize(
    ("seeds", "arm", "value", "says"),
    [
        ((-0.050, -0.051, -0.049), (0.5, 0.4), -0.05, "better"),
        (
            (-0.050, -0.051, -0.049),
            (0.5, 0.55),
            -0.05,
            "adds less",
        ),  # more toxic than before, and less so than the reference
        ((-0.001, -0.051, -0.098), (0.5, 0.4), -0.05, "better on these fits"),
        ((0.050, 0.051, 0.049), (0.5, 0.55), 0.05, "worse"),
        ((0.001, 0.051, 0.098), (0.5, 0.55), 0.05, "worse on these fits"),
        ((-0.050, 0.001, -0.101), (0.5, 0.4), -0.05, "not shown"),
    ],
)
def test_a_verdict_says_whether_it_is_of_the_pretraining_or_of_these_models(seeds, arm, value, says):
    given, factors = two_arms()
    [row] = interactions(given, factors).rows
    over = fit_seed_interval(np.array(seeds))
    found = dataclasses.replace(
        row.interaction,
        over_prompts=Estimate(value, value - 0.01, value + 0.01, PROMPTS),
        by_seed=seeds,
        over_fits=over,
    )
    one = dataclasses.replace(row, fits=3, interaction=found, arm_toxicity=arm, p_holm=0.01, price=0.2, matched=True)
    assert one.unsaid is None
    assert one.verdict == says
    assert dataclasses.replace(one, p_holm=0.05).verdict == "not shown"


def test_it_is_written_as_table_numbers_and_picture(tmp_path):
    given, factors = two_arms(taken=(0.3, 0.1))
    names = write(interactions(given, factors), tmp_path, stem="-truth")
    assert names == ["interaction-truth.md", "interaction-truth.json", "interaction-truth.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert (tmp_path / names[-1]).read_bytes()[:4] == b"\x89PNG"
