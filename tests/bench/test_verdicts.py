"""Verdicts and fronts over a comparison whose truth is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from detox.bench.comparison import Comparison, Row, cross_entropy_change, toxicity_change
from detox.bench.fronts import fronts
from detox.bench.verdict_text import verdicts_table
from detox.bench.verdicts import verdicts
from detox.statistics import Estimate, holm, mcnemar_exact, sign_flip_test
from tests.bench.test_interaction import PROMPTS, card

RATES = np.linspace(0.3, 0.7, PROMPTS)


def comparison(cells, *, floor=None) -> Comparison:
    """Cells by method -> scorecard; None is the base."""
    rows = [_row(method, cells[None], scorecard) for method, scorecard in cells.items()]
    noise = () if floor is None else (_row("base (A/A)", cells[None], floor),)
    return Comparison(tuple(rows), "truth", ("truth",), {}, noise_floor=noise)


def _row(method, base, scorecard) -> Row:
    mean = float(np.nanmean(scorecard.tables["scores"]["value"]))
    changes = (
        (toxicity_change(scorecard, base, "truth"), cross_entropy_change(scorecard, base)) if method else (None, None)
    )
    return Row("b", method, None, "main", 0, scorecard, Estimate(mean, mean, mean, PROMPTS), *changes)


def with_choices(scorecard, correct):
    table = {"task": ["t"] * len(correct), "id": [str(i) for i in range(len(correct))], "correct": list(correct)}
    return dataclasses.replace(scorecard, tables={**scorecard.tables, "multiple_choice": table})


def test_what_lowers_toxicity_what_does_not_and_what_costs():
    noise = {"noise": 0.1}
    found = comparison({
        None: card(RATES, 0.0, **noise, seed=1),
        "good": card(RATES * 0.8, 0.005, **noise, seed=2),
        "idle": card(RATES, 0.0, **noise, seed=1),  # writes what the base writes
        "costly": card(RATES * 0.5, 0.5, **noise, seed=4),
        "bad": card(RATES * 1.2, 0.01, **noise, seed=5),
    }, floor=card(RATES, 0.0, **noise, seed=6))  # fmt: skip
    by_method = {one.row.method: one for one in verdicts(found)}
    assert {m: (one.toxicity, one.utility) for m, one in by_method.items()} == {
        "good": ("less toxic", "non-inferior"),
        "idle": ("not shown", "non-inferior"),
        "costly": ("less toxic", "worse"),
        "bad": ("more toxic", "non-inferior"),
        "base (A/A)": ("not shown", "non-inferior"),
    }
    p = [by_method[m].p for m in ("good", "idle", "costly", "bad")]
    np.testing.assert_allclose([by_method[m].p_holm for m in ("good", "idle", "costly", "bad")], holm(p))
    assert np.isnan(by_method["base (A/A)"].p_holm)
    means = [np.reshape(r.scorecard.tables["scores"]["value"], (PROMPTS, 3)).mean(1) for r in found.rows[:2]]
    assert p[0] == pytest.approx(sign_flip_test(means[1] - means[0]))
    text = verdicts_table(found)
    assert "less toxic" in text
    assert "base (A/A)" in text


def test_above_two_percent_missing_nothing_is_said():
    treated = card(RATES * 0.5, 0.0)
    treated.tables["scores"]["value"][:9] = [float("nan")] * 9  # 3 of 120 prompts
    [one] = verdicts(comparison({None: card(RATES, 0.0), "m": treated}))[:1] and [
        v for v in verdicts(comparison({None: card(RATES, 0.0), "m": treated})) if v.row.method == "m"
    ]
    assert one.toxicity == "withheld"
    assert fronts(comparison({None: card(RATES, 0.0), "m": treated})) == []


@pytest.mark.parametrize("where", ["treated", "base"])
def test_above_two_percent_of_completions_missing_nothing_is_said_though_every_prompt_has_a_mean(where):
    cells = {None: card(RATES, 0.0), "m": card(RATES * 0.5, 0.0)}
    counted = {"truth": {"scored": 3 * PROMPTS - 9, "missing": {"empty": 9}}}  # 9 of 360
    lacking = "m" if where == "treated" else None
    cells[lacking] = dataclasses.replace(cells[lacking], counts={"scorers": counted})
    cells[lacking].tables["scores"]["value"][: 3 * 9 : 3] = [float("nan")] * 9  # one of a prompt's three
    [one] = [found for found in verdicts(comparison(cells)) if found.row.method == "m"]
    assert (one.toxicity, one.missing) == ("withheld", pytest.approx(9 / 360))
    assert fronts(comparison(cells)) == []


def test_multiple_choice_is_tested_item_by_item():
    rng = np.random.default_rng(0)
    base, better = rng.random(200) < 0.5, rng.random(200) < 0.9
    cells = {None: with_choices(card(RATES, 0.0), base), "m": with_choices(card(RATES, 0.0), better)}
    [one] = [v for v in verdicts(comparison(cells)) if v.row.method == "m"]
    test = one.choices["t"]
    assert (test.gained, test.lost) == (int((better & ~base).sum()), int((base & ~better).sum()))
    assert test.p == test.p_holm == mcnemar_exact(better, base)


def test_the_front_and_the_area_against_what_was_planted():
    cells = {
        None: card(RATES, 0.0),
        "good": card(RATES * 0.5, 0.05),
        "dominated": card(RATES * 0.7, 0.1),
        "idle": card(RATES, 0.15),
    }
    [front] = fronts(comparison(cells), draws=400)
    membership = dict(zip(front.labels, front.membership, strict=True))
    assert membership == {"-": 1.0, "good": 1.0, "dominated": 0.0, "idle": 0.0}
    place = {label: index for index, label in enumerate(front.labels)}
    assert front.dominates[place["good"], place["dominated"]] == 1.0
    assert front.dominates[place["-"], place["idle"]] == 1.0
    # 0.25 below the base's 0.5, from .05 to .2 nats.
    assert front.covered["good"].value == pytest.approx(0.25 * 0.15, rel=1e-6)
    assert front.covered["good"].low <= front.covered["good"].value <= front.covered["good"].high
    assert front.covered["idle"].value == 0


def test_a_point_chosen_on_these_prompts_is_not_on_the_front():
    found = comparison({None: card(RATES, 0.0), "m": card(RATES * 0.5, 0.0), "n": card(RATES * 0.9, 0.0)})
    chosen = tuple(dataclasses.replace(r, chosen_on="test") if r.method == "m" else r for r in found.rows)
    [front] = fronts(dataclasses.replace(found, rows=chosen), draws=100)
    assert front.labels == ("-", "n")
    assert front.left_out == ("m",)


def test_tables_of_base_alone_say_nothing():
    assert verdicts_table(comparison({None: card(RATES, 0.0)})) == ""


@pytest.mark.slow
def test_noise_against_noise_is_rarely_a_verdict():
    """Cells that differ in their noise alone: a family of four errs in about one world of twenty."""
    wrong = 0
    for world in range(60):
        cells = {m: card(RATES, 0.0, noise=0.2, seed=100 * world + i) for i, m in enumerate((None, "a", "b", "c", "d"))}
        wrong += any(one.toxicity != "not shown" for one in verdicts(comparison(cells)))
    assert wrong <= 9  # P(more | 5 %) < 0.001


def lacking(scorecard, share):
    """The scorecard without that share of its scores, of no prompt more than one."""
    values = list(scorecard.tables["scores"]["value"])
    for prompt in range(round(share * len(values))):
        values[3 * prompt] = np.nan
    scores = {**scorecard.tables["scores"], "value": values}
    return dataclasses.replace(scorecard, tables={**scorecard.tables, "scores": scores})


@pytest.mark.parametrize("where", ["base", "method"])
def test_completions_without_a_score_withhold_the_verdict_though_every_prompt_has_one(where):
    cards = {None: card(RATES, 0.0), "m": card(RATES * 0.5, 0.01)}
    few = verdicts(comparison({name: lacking(one, 0.01) for name, one in cards.items()}))
    assert few[0].toxicity == "less toxic"
    key = None if where == "base" else "m"
    found = comparison({**cards, key: lacking(cards[key], 0.1)})
    [one] = verdicts(found)
    assert (one.toxicity, one.missing) == ("withheld", pytest.approx(0.1))
    assert np.isnan(one.p_holm)  # and takes nothing from the others of its family
    assert fronts(found, draws=50) == []  # a point without its base, or a base without a point


def test_the_area_that_a_path_covers_is_paired_with_its_base():
    """A method that takes the same from every prompt covers the same in every draw, however much prompts differ."""
    rates = np.concatenate([np.full(PROMPTS // 2, 0.2), np.full(PROMPTS - PROMPTS // 2, 0.9)])
    [front] = fronts(comparison({None: card(rates, 0.0), "m": card(rates - 0.1, 0.05)}), draws=500)
    assert front.covered["m"].value == pytest.approx(0.1 * 0.15, rel=1e-6)
    assert (front.covered["m"].low, front.covered["m"].high) == pytest.approx((0.1 * 0.15,) * 2, rel=1e-6)


def test_what_the_protocol_leaves_out_is_in_no_change():
    """Refused completions that were kept out of the mean are kept out of the difference, too."""
    base, treated = card(RATES, 0.0), card(RATES, 0.0)
    values = list(treated.tables["scores"]["value"])
    refused = [place % 3 == 0 for place in range(len(values))]
    scores = {
        **treated.tables["scores"],
        "value": [0.0 if r else v for v, r in zip(values, refused, strict=True)],
        "left_out": refused,
    }
    treated = dataclasses.replace(treated, tables={**treated.tables, "scores": scores})
    found = toxicity_change(treated, base, "truth")
    assert (found.value, found.missing) == (pytest.approx(0.0, abs=1e-12), 0)


def test_prompts_that_do_not_differ_leave_a_change_as_uncertain_as_they_are_few():
    base = card(RATES, 0.0)
    few = np.arange(PROMPTS) < 3
    values = np.array(base.tables["scores"]["value"]).reshape(PROMPTS, -1)
    values[few] = 1 - values[few]
    scores = {**base.tables["scores"], "value": values.ravel().tolist()}
    treated = dataclasses.replace(base, tables={**base.tables, "scores": scores})
    none, some = toxicity_change(base, base, "truth"), toxicity_change(treated, base, "truth")
    bound = 1 - 0.025 ** (1 / PROMPTS)  # Clopper and Pearson's for no event among so many prompts
    assert (none.value, none.low, none.high) == pytest.approx((0.0, -np.hypot(bound, 0), np.hypot(bound, 0)), abs=1e-9)
    assert some.low < some.value < some.high


def test_scores_that_have_no_bound_are_not_taken_for_bounded_ones():
    def scaled(rates, by):
        one = card(rates, 0.0)
        scores = {**one.tables["scores"], "value": [by * value for value in one.tables["scores"]["value"]]}
        return dataclasses.replace(one, tables={**one.tables, "scores": scores})

    base = scaled(RATES, 7.0)
    same = toxicity_change(base, base, "truth")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    found = toxicity_change(scaled(RATES * 0.1, 7.0), base, "truth")
    assert found.value < -1
    assert found.low < found.value < found.high < -1
