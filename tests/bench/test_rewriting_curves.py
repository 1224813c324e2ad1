"""What a method does to paraphrases, by seed and text, against numpy on made-up records."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from detox.bench.comparison import Comparison, Row
from detox.bench.curves import Curves, summary
from detox.bench.differences import Difference
from detox.bench.rewriting_curves import draw_rewriting, rewriting_claims, text_difference
from detox.errors import InputError
from detox.statistics import Estimate, mean_estimate
from tests.bench.synthetic import card_of

TEXTS = 50


def card(rng, rate, near, answered=1.0):
    there = rng.random((TEXTS, 2)) < answered
    score = np.where(there, rng.random((TEXTS, 2)) < rate, np.nan).astype(float)
    similarity = np.where(there, np.clip(rng.normal(near, 0.05, (TEXTS, 2)), -1, 1), np.nan)
    columns = {"score": score, "similarity": similarity}
    means = {
        name: [np.nanmean(row) if there[i].any() else math.nan for i, row in enumerate(values)]
        for name, values in columns.items()
    }
    return card_of(
        metrics={
            "rewriting/toxicity": mean_estimate(means["score"]),
            "rewriting/similarity": mean_estimate(means["similarity"]),
        },
        rewriting={
            "text": [str(t) for t in range(TEXTS) for _ in range(2)],
            **{name: values.reshape(-1).tolist() for name, values in columns.items()},
        },
    )


def curves(bare=0.5, answered=1.0):
    rng = np.random.default_rng(0)
    kinds = {
        None: (bare, 0.8), "contrastive_perplexity": (0.05, 0.7), "sft": (0.3, 0.6), "cp safe only": (0.5, 0.8),
        "cp toxic only": (0.0, 0.1),
    }  # fmt: skip
    rows, factors = [], {}
    for seed in range(3):
        factors[f"base s{seed}"] = {"stage": "pretrained", "seed": seed}
        rows.append(Row(f"base s{seed}", None, None, "main", 0, card(rng, 0.9, 0.0), None, None, None))
        factors[f"p s{seed}"] = {"stage": "paraphraser", "seed": seed}
        for method, (rate, near) in kinds.items():
            rows.append(Row(f"p s{seed}", method, None, "main", 0, card(rng, rate, near, answered), None, None, None))
    return Curves(Comparison(tuple(rows), "truth", ("truth",), {}), factors, {})


def rows_of(found, method):
    return [r for r in found.comparison.rows if r.method == method and r.base.startswith("p")]


@pytest.mark.parametrize("column", ["score", "similarity"])
def test_a_difference_is_paired_by_seed_and_text_where_both_answered(column):
    found = curves(answered=0.9)
    ours, theirs = rows_of(found, "contrastive_perplexity"), rows_of(found, None)

    def by_text(row):
        values = np.array(row.scorecard.tables["rewriting"][column]).reshape(TEXTS, 2)
        return np.array([np.mean(v[~np.isnan(v)]) if not np.isnan(v).all() else math.nan for v in values])

    changes = np.array([by_text(a) - by_text(b) for a, b in zip(ours, theirs, strict=True)])
    assert np.isnan(changes).any()  # some text is answered by one of them only
    difference = text_difference(ours, theirs, column)
    assert difference.by_seed == pytest.approx(np.nanmean(changes, axis=1))
    assert difference.estimate.value == pytest.approx(np.nanmean(np.nanmean(changes, axis=0)))


def test_claims_are_asked_of_the_paraphraser_and_not_of_its_base():
    verdicts = {claim.name: claim.verdict for claim in rewriting_claims(curves())}
    assert verdicts["contrastive_perplexity writes less toxic paraphrases than no method"] == "holds"
    assert verdicts["contrastive_perplexity writes less toxic paraphrases than sft"] == "holds"
    assert verdicts["contrastive_perplexity writes less toxic paraphrases than cp toxic only"] != "holds"
    assert verdicts["contrastive_perplexity stays nearer to the meaning than cp toxic only"] == "holds"
    assert verdicts["cp safe only writes less toxic paraphrases than no method"] == "not shown"
    assert verdicts["cp toxic only strays from the meaning"] == "holds"


def test_what_was_not_answered_is_not_claimed():
    verdicts = {claim.name: claim.verdict for claim in rewriting_claims(curves(answered=0.9))}
    assert verdicts["contrastive_perplexity writes less toxic paraphrases than no method"].startswith("withheld (")


def test_paraphrases_that_are_not_toxic_leave_nothing_to_claim():
    claims = {claim.name: claim.verdict for claim in rewriting_claims(curves(bare=0.0))}
    assert "untestable" in claims["sft writes less toxic paraphrases than no method"]
    assert "untestable" not in claims["sft strays from the meaning"]


def test_the_figure_and_the_table_are_made(tmp_path):
    found = curves()
    draw_rewriting(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    lines = summary(found).splitlines()
    assert lines[0] == "| base | method | rewriting/toxicity | rewriting/similarity |"
    assert sum(line.startswith("| paraphraser | ") for line in lines) == 5


def test_a_seed_that_is_missing_is_no_agreement():
    whole = curves()
    rows = tuple(r for r in whole.comparison.rows if not (r.method == "sft" and r.base == "p s1"))
    claims = {
        c.name: c.verdict for c in rewriting_claims(replace(whole, comparison=replace(whole.comparison, rows=rows)))
    }
    assert claims["sft writes less toxic paraphrases than no method"].endswith("(not measured on every base)")
    assert claims["contrastive_perplexity writes less toxic paraphrases than no method"] == "holds"
    assert Difference(Estimate(-0.2, -0.3, -0.1, 50), (-0.2, math.nan, -0.3)).sign() == 0


def test_strengths_are_told_apart_and_a_grid_without_paraphrasers_is_refused():
    whole = curves()
    strong = tuple(replace(r, strength=2.0) for r in whole.comparison.rows if r.method == "sft")
    both = replace(whole, comparison=replace(whole.comparison, rows=(*whole.comparison.rows, *strong)))
    names = [claim.name for claim in rewriting_claims(both)]
    assert "sft writes less toxic paraphrases than no method" in names
    assert "sft @ 2 writes less toxic paraphrases than no method" in names
    with pytest.raises(InputError, match="the factor `stage: paraphraser`"):
        rewriting_claims(replace(whole, factors={name: {"seed": 0} for name in whole.factors}))
