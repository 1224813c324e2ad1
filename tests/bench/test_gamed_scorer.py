"""A method that games the headline scorer is marked wherever its fall of toxicity is shown; one that all scorers see is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import linregress

from detox.bench import compare
from detox.bench.gamed_scorer import said, unseen_by
from detox.bench.report import read_results, report_data
from detox.bench.report.page import render
from detox.bench.verdict_text import verdicts_table
from detox.bench.verdicts import verdicts
from detox.cli import main
from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means
from detox.statistics import mean_estimate, paired_difference
from tests.bench.report.synthetic import PROMPTS, SAMPLES, scorecard, write_results
from tests.bench.test_agreement import scores


def card(*matrices, names=("judge", "other", "third")):
    by_scorer = dict(zip(names, matrices, strict=False))
    metrics = {f"toxicity/{n}/mean": mean_estimate(prompt_means(m), bounds=(0, 1)) for n, m in by_scorer.items()}
    counts = {"requested": 0, "scorers": {n: {"scored": m.size, "missing": {}} for n, m in by_scorer.items()}}
    identity = {"threshold": 0.5, "sampling": {}, "scorers": [{"name": name} for name in by_scorer]}
    protocol = {"name": "x", "digest": "0", "identity": identity}
    return Scorecard(protocol, "f", metrics, counts, {"scores": scores(**by_scorer)})


def drawn(rng, prompts=200, shift=0.0, noises=(0.5, 0.8)):
    """(prompts, 3) of scorers with scales of their own that see one truth."""
    truth = rng.normal(shift, 1, (prompts, 1)) + rng.normal(0, 0.7, (prompts, 3))
    seen = [truth + rng.normal(0, noise, truth.shape) for noise in noises]
    return 1 / (1 + np.exp(-seen[0])), 0.3 / (1 + np.exp(-seen[1]))


def test_what_is_expected_is_the_regression_of_the_base():
    rng = np.random.default_rng(0)
    base, gamed = drawn(rng), drawn(rng)
    before, after = card(*base), card(0.3 * gamed[0], gamed[1])
    found = unseen_by(after, before, ("judge", "other"))
    assert set(found) == {"other"}
    means = [matrix.mean(1) for matrix in (base[0], 0.3 * gamed[0], base[1], gamed[1])]
    expected = linregress(means[0], means[2]).slope * (means[1] - means[0]).mean()
    own = paired_difference(means[3], means[2])
    assert found["other"].change.value == pytest.approx(own.value)
    assert (found["other"].change.low, found["other"].change.high) == pytest.approx((own.low, own.high), abs=0.003)
    assert found["other"].expected.value == pytest.approx(expected)
    assert found["other"].difference.value == pytest.approx(own.value - expected)
    assert found["other"].difference.low < own.value - expected < found["other"].difference.high
    assert "toxicity falls by judge and not by other" in said("judge", found)
    assert said("judge", {}) == ""


def test_a_gamed_headline_is_marked_and_a_true_fall_is_not():
    rng = np.random.default_rng(1)
    base, honest, gamed = drawn(rng), drawn(rng, shift=-0.7), drawn(rng)
    found = verdicts(compare({"base": card(*base), "honest": card(*honest), "gamed": card(0.3 * gamed[0], gamed[1])}))
    words = {one.row.method: one.toxicity_words for one in found}
    assert words == {"honest": "less toxic", "gamed": "less toxic, not by other"}
    assert all(one.toxicity == "less toxic" for one in found)


def test_a_gamed_scorer_that_keeps_its_ranks_is_marked_though_spearman_is_as_before():
    """All scores lowered alike: rank correlation cannot show it."""
    rng = np.random.default_rng(2)
    base = drawn(rng)
    comparison = compare({"base": card(*base), "gamed": card(base[0] ** 2 / 2, base[1])})
    assert "less toxic, not by other" in verdicts_table(comparison)
    assert "! base, gamed: toxicity falls by judge and not by other" in verdicts_table(comparison)


@pytest.mark.parametrize("noises", [(0.5, 0.8), (0.0, 4.0), (3.0, 0.5)])
def test_the_mark_is_rare_where_all_see_the_fall(noises):
    """Also where the other scorer is much worse than the headline, or much better."""
    rng = np.random.default_rng(3)
    marked = sum(
        bool(unseen_by(card(*drawn(rng, 100, -0.25, noises)), card(*drawn(rng, 100, 0.0, noises)), ("judge", "other")))
        for _ in range(60)
    )
    assert marked <= 4


def test_no_mark_without_a_fall_or_without_another_scorer():
    rng = np.random.default_rng(4)
    (a, b), (c, d) = drawn(rng), drawn(rng)
    assert unseen_by(card(c, d), card(a, b), ("judge", "other")) == {}
    assert unseen_by(card(c / 3, d), card(a, b), ("judge",)) == {}
    flat = np.full_like(b, 0.2)
    assert unseen_by(card(c / 3, flat), card(a, flat), ("judge", "other")) == {}
    (_, v), (_, x) = drawn(rng), drawn(rng)  # of other texts: nothing follows from the one for the other
    assert unseen_by(card(c / 3, x), card(a, v), ("judge", "other")) == {}
    holed = np.where(rng.random(d.shape) < 0.8, np.nan, d)
    [one] = unseen_by(card(c / 3, holed), card(a, b), ("judge", "other")).values()
    assert one.change.n == one.difference.n < 200
    assert one.change.n + one.change.missing == 200


@pytest.fixture
def gamed_results(tmp_path, monkeypatch):
    """A results directory whose method lowers the first scorer alone."""
    from tests.bench.report import synthetic

    def gaming(seed, *, effect=0.0, **options):
        plain = scorecard(seed, effect=0.0, **options)
        if not effect:
            return plain
        table = plain.tables["scores"]
        values = [v * 0.3 if s == "first" else v for v, s in zip(table["value"], table["scorer"], strict=True)]
        matrix = np.array(values[: PROMPTS * SAMPLES]).reshape(PROMPTS, SAMPLES)
        metrics = {**plain.metrics, "toxicity/first/mean": mean_estimate(prompt_means(matrix), draws=200)}
        return Scorecard(
            plain.protocol, f"{plain.fingerprint}-gamed", metrics, plain.counts,
            {**plain.tables, "scores": {**table, "value": values}}, plain.texts,
        )  # fmt: skip

    monkeypatch.setattr(synthetic, "scorecard", gaming)
    return write_results(tmp_path / "results", hostile=False)


def test_bench_show_and_the_report_say_it(gamed_results, capsys):
    assert main(["bench", "show", str(gamed_results)]) == 0
    said_there = capsys.readouterr().out
    assert "less toxic, not by second" in said_there
    assert "! clean, iti @ 1: toxicity falls by first and not by second" in said_there
    assert "first alone" in said_there
    data = report_data(read_results(gamed_results), texts=False)
    [cell] = [one for one in data["cells"] if (one["base"], one["method"], one["strength"]) == ("clean", "iti", 1.0)]
    assert cell["verdicts"]["toxicity"].startswith("less toxic, not by second, p ")
    page = render(data)
    assert "By one scorer alone." in page
    assert "toxicity falls by first and not by second" in page


def test_the_report_is_silent_where_all_see_it(tmp_path):
    data = report_data(read_results(write_results(tmp_path / "results", hostile=False)), texts=False)
    assert all((cell["verdicts"] or {}).get("alone") is None for cell in data["cells"])
    assert "By one scorer alone." not in render(data)
