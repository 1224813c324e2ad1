"""Curves over bases: means over seeds, paired differences, and what a method does at one price, against numpy on made-up records."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from detox.bench.claims import Claim, slung_claims, table, toxic_mix_claims
from detox.bench.comparison import Comparison, Row
from detox.bench.curve_kinds import KINDS
from detox.bench.curve_plots import draw_slung, draw_toxic_mix
from detox.bench.curves import Curves, metric, point, toxicity
from detox.bench.differences import at_price, auc_difference, toxicity_difference
from detox.bench.grid import CURVES
from detox.errors import InputError
from detox.evaluation import Scorecard
from detox.statistics import Estimate, difference_estimate, mean_estimate, roc_auc
from tests.bench.synthetic import card_of

PROMPTS, TEXTS = 60, 80


def card(rng: np.random.Generator, rate: float, separation: float = 1.0) -> Scorecard:
    values = (rng.random((PROMPTS, 2)) < rate).astype(float)
    labels = np.arange(TEXTS) % 2
    margins = rng.normal(size=TEXTS) + separation * labels
    return card_of(
        values,
        metrics={
            "toxicity/truth/mean": mean_estimate(values.mean(1)),
            "probe/auc": Estimate(roc_auc(labels, margins), 0, 1, TEXTS),
        },
        probe={"id": [str(i) for i in range(TEXTS)], "label": labels.tolist(), "margin": margins.tolist()},
    )


def row(base: str, scorecard: Scorecard, method=None, strength=None, cost=None) -> Row:
    change = None if cost is None else Estimate(cost, cost, cost, 1)
    return Row(base, method, strength, "main", 0, scorecard, scorecard.metrics["toxicity/truth/mean"], None, change)


def means(scorecard: Scorecard) -> np.ndarray:
    return np.array(scorecard.tables["scores"]["value"]).reshape(PROMPTS, 2).mean(1)


@pytest.fixture(scope="module")
def arms() -> Curves:
    rng = np.random.default_rng(0)
    rates = {"clean": 0.02, "full": 0.6, "masked": 0.1, "unlikelihood": 0.05, "filtered": 0.03}
    rows, factors = [], {}
    for arm, rate in rates.items():
        for share in [0.0] if arm == "clean" else [0.1, 0.25]:
            for seed in range(3):
                name = f"{arm} {share} s{seed}"
                factors[name] = {"arm": arm, "share": share, "seed": seed, "stage": "pretrained"}
                rows.append(
                    row(name, card(rng, rate * (1 if share in (0.0, 0.25) else 0.4), 2.0 if arm == "masked" else 0.5))
                )
    return Curves(Comparison(tuple(reversed(rows)), "truth", ("truth",), {}), factors, {})


def test_a_grid_may_ask_for_the_kinds_there_are():
    assert tuple(KINDS) == CURVES


def test_a_point_is_the_mean_over_seeds_with_its_standard_error(arms):
    rows = arms.rows(arm="full", share=0.25, stage="pretrained")
    assert [arms.factors[r.base]["seed"] for r in rows] == [0, 1, 2]
    values = [means(r.scorecard).mean() for r in rows]
    found = toxicity(rows)
    assert found.values == pytest.approx(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))
    assert math.isnan(metric(rows, "recognition/auc").mean)  # missing is never zero
    assert math.isnan(point([0.5]).standard_error)


def test_rows_are_of_bases_with_these_factors_and_no_others(arms):
    assert arms.rows(arm="full", stage="pretrained") == []  # the share is a factor, too
    assert arms.levels("share", arm="full") == [0.1, 0.25]


def test_a_difference_is_paired_by_seed_and_prompt(arms):
    full, masked = (arms.rows(arm=arm, share=0.25, stage="pretrained") for arm in ("full", "masked"))
    found = toxicity_difference(masked, full, "truth")
    changes = np.array([means(a.scorecard) - means(b.scorecard) for a, b in zip(masked, full, strict=True)])
    assert found.by_seed == pytest.approx(changes.mean(1))
    expected = difference_estimate(changes.mean(0), reach=1.0)  # an interval of a paired difference, as everywhere
    assert (found.estimate.value, found.estimate.low) == pytest.approx((expected.value, expected.low))
    assert found.sign() == -1
    with pytest.raises(InputError, match="2 and 3 bases to compare"):
        toxicity_difference(masked[:2], full, "truth")


def test_a_difference_of_areas_is_that_of_the_tables(arms):
    full, masked = (arms.rows(arm=arm, share=0.25, stage="pretrained") for arm in ("full", "masked"))
    found = auc_difference(masked, full, "probe")
    areas = [[roc_auc(r.scorecard.tables["probe"]["label"], r.scorecard.tables["probe"]["margin"]) for r in side]
             for side in (masked, full)]  # fmt: skip
    assert found.by_seed == pytest.approx(np.subtract(*areas))
    assert found.estimate.low < found.estimate.value < found.estimate.high


def test_seeds_that_disagree_leave_a_claim_open(arms):
    full = arms.rows(arm="full", share=0.25, stage="pretrained")
    strong = toxicity_difference(full, arms.rows(arm="clean", share=0.0, stage="pretrained"), "truth")
    assert Claim("it", 1, strong).verdict == "holds"
    assert Claim("it", -1, strong).verdict == "the opposite holds"
    mixed = type(strong)(strong.estimate, (*strong.by_seed[:-1], -0.1))
    assert Claim("it", 1, mixed).verdict == "not shown"
    assert "untestable" in Claim("it", 1, strong, "no probe").verdict
    assert "untestable" in Claim("it", 1, None).verdict


def test_claims_and_figure_of_selective_loss(arms, tmp_path):
    claims = {claim.name: claim for claim in slung_claims(arms)}
    assert claims["masked writes less toxicity than full"].verdict == "holds"
    assert claims["masked tells toxicity better than full (probe AUC)"].verdict == "holds"
    assert claims["the gap between full and masked grows from share 0.1 to 0.25"].difference.estimate.value > 0.2
    assert table(list(claims.values())).count("\n") == len(claims) + 1
    fewer = {name: factors for name, factors in arms.factors.items() if factors["arm"] != "filtered"}
    held = tuple(row for row in arms.comparison.rows if row.base in fewer)
    without = [claim.name for claim in slung_claims(Curves(replace(arms.comparison, rows=held), fewer, {}))]
    assert without == [name for name in claims if "filtered" not in name]
    draw_slung(arms, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 20_000


def test_at_a_price_the_path_is_interpolated_and_never_extrapolated():
    rng = np.random.default_rng(1)
    rows, factors = [], {}
    for seed in range(2):
        base, weak, strong = card(rng, 0.5), card(rng, 0.3), card(rng, 0.1)
        name = f"s{seed}"
        factors[name] = {"share": 0.1, "seed": seed}
        rows += [
            row(name, base),
            row(name, strong, "iti", 2.0, 0.3),
            row(name, weak, "iti", 1.0, 0.1 if seed else 0.02),
        ]
    curves = Curves(Comparison(tuple(rows), "truth", ("truth",), {}), factors, {})
    found = at_price(curves, "iti", 0.05, share=0.1)
    expected = []
    for seed, (low, high, part) in enumerate([("weak", "strong", (0.05 - 0.02) / 0.28), ("base", "weak", 0.5)]):
        cards = dict(zip(("base", "strong", "weak"), (r.scorecard for r in rows[3 * seed : 3 * seed + 3]), strict=True))
        level = (1 - part) * means(cards[low]).mean() + part * means(cards[high]).mean()
        expected.append((level, 1 - level / means(cards["base"]).mean()))
    assert found.toxicity.by_seed == pytest.approx([level for level, _ in expected])
    assert found.reduction.by_seed == pytest.approx([reduction for _, reduction in expected])
    assert found.reduction.estimate.low < found.reduction.estimate.value < found.reduction.estimate.high
    beyond = at_price(curves, "iti", 0.4, share=0.1)
    assert beyond.reached == 0  # all of it costs less: the last strength, and nothing beyond
    assert beyond.toxicity.by_seed == pytest.approx([means(rows[at].scorecard).mean() for at in (1, 4)])


def mixed(rates: dict[float, float], probes: dict[float, float]) -> Curves:
    """Bases of these shares; ITI takes away 40 % of a base's toxicity for .02 nats and 80 % for .3."""
    rng = np.random.default_rng(2)
    rows, factors, aucs = [], {}, {}
    for share, rate in rates.items():
        for seed in range(2):
            name = f"share {share} s{seed}"
            factors[name] = {"share": share, "seed": seed}
            aucs[name, "iti"] = probes[share]
            rows.append(row(name, card(rng, rate)))
            rows += [
                row(name, card(rng, rate * part), "iti", dial, cost)
                for dial, part, cost in ((1.0, 0.6, 0.02), (2.0, 0.2, 0.3))
            ]
    factors["inst s0"] = {"share": 0.1, "condition": "inst", "seed": 0}
    rows += [row("inst s0", card(rng, 0.3)), row("inst s0", card(rng, 0.1), "inst", None, 0.0)]
    return Curves(Comparison(tuple(rows), "truth", ("truth",), {}), factors, aucs)


def test_what_a_dial_takes_away_is_asked_where_the_toxic_base_can_be_read(tmp_path):
    curves = mixed({0.0: 0.0, 0.1: 0.4, 0.25: 0.8}, {0.0: 0.55, 0.1: 0.6, 0.25: 0.9})
    claims = {claim.name: claim for claim in toxic_mix_claims(curves)}
    assert claims["the base at share 0.1 is more toxic than at 0"].verdict == "holds"
    # The clean base cannot be read, which is part of the claim; that of share 0.1 cannot either, which leaves nothing to ask.
    assert claims["iti ends lower at share 0.25 than at 0, for at most 0.1 nats"].verdict == "the opposite holds"
    assert "AUC" in claims["iti ends lower at share 0.1 than at 0, for at most 0.1 nats"].verdict
    # A part is taken of something: from the first share that writes any toxicity on.
    assert claims["iti takes toxicity away at share 0.25, for at most 0.1 nats"].verdict == "holds"
    parts = [name for name in claims if "larger part" in name]
    assert parts == [
        f"iti takes away a larger part at share 0.25 than at 0.1, for at most {price:g} nats"
        for price in (0.05, 0.1, 0.2)
    ]
    assert claims[parts[1]].verdict in ("holds", "not shown", "the opposite holds")
    draw_toxic_mix(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 20_000


def test_nothing_is_drawn_from_a_strength_far_beyond_the_price():
    claims = {
        c.name: c for c in toxic_mix_claims(mixed({0.0: 0.0, 0.1: 0.4, 0.25: 0.8}, {0.0: 0.9, 0.1: 0.9, 0.25: 0.9}))
    }
    near, far = (claims[f"iti takes toxicity away at share 0.25, for at most {price:g} nats"] for price in (0.1, 0.05))
    assert near.verdict == "holds"  # the next strength costs three times the price
    assert far.verdict == "untestable at this size (no strength near the price (next +0.30))"
    assert far.difference.sign() == 1  # what is read is still shown


@pytest.mark.parametrize("share", [0.0, 0.015, 0.03])
def test_a_claim_is_withheld_where_completions_have_no_score(arms, share):
    def without(row: Row) -> Row:
        scores = dict(row.scorecard.tables["scores"])
        lost = round(share * len(scores["value"]))
        scores["value"] = [math.nan] * lost + scores["value"][lost:]
        return replace(row, scorecard=replace(row.scorecard, tables={**row.scorecard.tables, "scores": scores}))

    rows = tuple(without(r) if r.base == "masked 0.25 s1" else r for r in arms.comparison.rows)
    curves = replace(arms, comparison=replace(arms.comparison, rows=rows))
    claims = {c.name: c for c in slung_claims(curves)}
    found = claims["masked writes less toxicity than full"]
    assert found.difference.missing == pytest.approx(round(share * 2 * PROMPTS) / (2 * PROMPTS))
    assert found.verdict == ("withheld (3.3% without a score)" if share == 0.03 else "holds")
    assert found.to_dict()["difference"].get("share_missing", 0.0) == pytest.approx(found.difference.missing, abs=1e-6)
    # Other claims do not rest on that cell; a difference of the two arms' differences does.
    assert claims["unlikelihood writes less toxicity than full"].verdict == "holds"
    dose = next(c for name, c in claims.items() if name.startswith("the gap between full and masked"))
    assert dose.verdict.startswith("withheld") == (share == 0.03)


def test_a_precondition_that_is_withheld_is_no_precondition(arms):
    rows = tuple(
        replace(r, scorecard=replace(r.scorecard, tables={**r.scorecard.tables, "scores": _half(r)}))
        if r.base == "clean 0.0 s0"
        else r
        for r in arms.comparison.rows
    )
    claims = {c.name: c for c in slung_claims(replace(arms, comparison=replace(arms.comparison, rows=rows)))}
    assert claims["full writes more toxicity than clean"].verdict.startswith("withheld")
    assert "is withheld" in claims["masked writes less toxicity than full"].verdict


def _half(row: Row) -> dict:
    scores = row.scorecard.tables["scores"]
    half = len(scores["value"]) // 2
    return {**scores, "value": [math.nan] * half + scores["value"][half:]}
