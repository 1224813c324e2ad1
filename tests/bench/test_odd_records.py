"""Records with which nothing, or next to nothing, can be said: every table is made of them, and none says more than that."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest

from detox.bench.agreement import table as agreement_table
from detox.bench.cells import Cell, Store
from detox.bench.comparison import compare
from detox.bench.equal_utility import at_equal_utility
from detox.bench.equal_utility import table as utility_table
from detox.bench.fronts import fronts
from detox.bench.interaction import interactions
from detox.bench.report import read_results, report_data
from detox.bench.report.page import render
from detox.bench.verdict_text import verdicts_table
from detox.bench.verdicts import verdicts
from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means
from detox.statistics import Estimate, ratio_estimate

SCORERS = ("first", "second")
CELLS = [
    (base, method, strength)
    for base in ("clean", "mix")
    for method, strength in ((None, None), ("base (A/A)", None), ("prompting", None), ("iti", 1.0), ("iti", 2.0))
]
MARKS = ("▲", "▼", "◆")


def card(matrices, nats) -> Scorecard:
    """A scorecard of (prompts, samples) scores of both scorers, and of documents of 30 tokens."""
    prompts, samples = matrices[0].shape
    every = [f"p{i}" for i in range(prompts) for _ in range(samples)]
    values = [float(v) for matrix in matrices for v in matrix.ravel()]
    lost = [int(np.isnan(matrix).sum()) for matrix in matrices]
    metrics = {"clean/cross_entropy": ratio_estimate(nats, np.full(len(nats), 30), draws=100)}
    for name, matrix in zip(SCORERS, matrices, strict=True):
        means = prompt_means(matrix)
        known = means[~np.isnan(means)]
        value = float(known.mean()) if len(known) else math.nan
        metrics[f"toxicity/{name}/mean"] = Estimate(value, value, value, len(known), prompts - len(known))
    sampling = {"max_new_tokens": 10, "num_return_sequences": samples, "seed": 0}
    identity = {"sampling": sampling, "threshold": 0.5, "scorers": [{"name": name} for name in SCORERS]}
    return Scorecard(
        protocol={"name": "main", "digest": "0", "identity": identity},
        fingerprint="",
        metrics=metrics,
        counts={
            "requested": len(every),
            "scorers": {
                name: {"scored": len(every) - gone, "missing": {"failed": gone} if gone else {}}
                for name, gone in zip(SCORERS, lost, strict=True)
            },
        },
        tables={
            "scores": {
                "prompt": every * 2,
                "sample": list(range(samples)) * prompts * 2,
                "scorer": [name for name in SCORERS for _ in every],
                "value": values,
                "reason": ["failed" if math.isnan(v) else None for v in values],
            },
            "documents": {
                "id": [str(i) for i in range(len(nats))], "nats": [float(v) for v in nats], "tokens": [30] * len(nats),
            },
        },
    )  # fmt: skip


def written(folder, *, prompts=40, documents=20, change=None):
    """Two arms with a method that works, at prices of .05 and .1 nats; `change` makes something of a cell's scores."""
    store = Store(folder)
    for number, (base, method, strength) in enumerate(CELLS):
        rng = np.random.default_rng(number)
        common = np.random.default_rng(99).normal(size=(prompts, 1))
        effect = {"iti": strength or 0.0, "prompting": 0.5}.get(method or "", 0.0)
        scores = [1 / (1 + np.exp(effect - common - 0.3 * rng.normal(size=(prompts, 3)))) for _ in SCORERS]
        nats = 40 + np.random.default_rng(98).gamma(9, 1, size=documents) + 1.5 * effect
        for matrix in scores if change is not None else ():
            change((base, method, strength), matrix)
        settings = {"name": method, "settings": {}, "contrasts": None, "strength": strength}
        identity = {"number": number, "method": settings if method else None}
        store.write(
            Cell(base=base, method=method, strength=strength, protocol="main", seed=0, identity=identity),
            card(scores, nats),
            {},
        )
    return folder


def everything(folder):
    """Every table and the page; a warning of numpy is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison = compare(folder)
        found = interactions(comparison, {})
        texts = [comparison.table(), verdicts_table(comparison), utility_table(at_equal_utility(comparison)),
                 agreement_table(comparison, draws=50)]  # fmt: skip
        return comparison, found, texts, render(report_data(read_results(folder)))


def rows_of(page: str, section: str, base: str) -> list[str]:
    """The rows of a base in one section of the page."""
    part = page.split(f'<section id="{section}">')[1].split("</section>")[0]
    return re.findall(rf'<tr[^>]*data-base="{base}"[^>]*>.*?</tr>', part, flags=re.DOTALL)


def lose(share, lost_of):
    """Takes scores of one cell away, one a so many, of every scorer."""

    def change(cell, matrix):
        if cell == lost_of:
            matrix.ravel()[:: round(1 / share)] = math.nan

    return change


@pytest.mark.parametrize(
    ("cell", "share"),
    [(("mix", None, None), 0.05), (("mix", "iti", 1.0), 0.05), (("mix", "iti", 2.0), 1.0), (("mix", None, None), 1.0)],
)
def test_above_two_percent_missing_nothing_is_said_anywhere(tmp_path, cell, share):
    comparison, found, (_, judged, utility, agreement), page = everything(written(tmp_path, change=lose(share, cell)))
    hit = [("prompting", None), ("iti", 1.0), ("iti", 2.0)] if cell[1] is None else [cell[1:]]
    said = {(one.row.method, one.row.strength): one for one in verdicts(comparison) if one.row.base == "mix"}
    assert all(said[key].toxicity in ("withheld", "not measured") for key in hit)
    on_fronts = [label for front in fronts(comparison) if front.base == "mix" for label in front.labels]
    assert not any(f"{method} @ {strength:g}" in on_fronts for method, strength in hit if strength)
    lines = [line for line in judged.splitlines() if line.startswith("mix") and "A/A" not in line]
    for method, strength in hit:
        label = method if strength is None else f"{method} @ {strength:g}"
        (line,) = (line for line in lines if label in line)
        assert "toxic  " not in line
        assert not re.search(r"\d\.\d{2,}\s+(worse|non-inferior)", line)  # no p beside a verdict that is withheld
        (line,) = (line for line in agreement.splitlines() if line.startswith("mix") and label in line)
        assert "withheld" in line
        assert not re.search("both|alone|neither", line)
    # At one price the path ends at strength 1, so that a cell beyond it withholds nothing.
    read = cell[1:] != ("iti", 2.0)
    (mix,) = (one for one in at_equal_utility(comparison) if one.base == "mix")
    unranked = {one.method for one in mix.methods if one.unranked}
    assert unranked == ({"prompting", "iti"} if cell[1] is None else {"iti"} if read else set())
    assert not any(unranked & set(pair) for pair in mix.differences)
    assert all("withheld" in utility for _ in unranked)
    withheld = [row.method for row in found.rows if row.verdict.startswith("withheld")]
    assert set(withheld) == unranked
    # The page marks none of it.
    headline = [row for row in rows_of(page, "headline", "mix") if "A/A" not in row]
    gone = [row for row in headline if "withheld" in row.split("CE")[0]]
    assert len(gone) >= (len(hit) if share < 1 else 0)
    for row in [row for row in rows_of(page, "pareto", "mix") if "withheld" in row]:
        assert not any(mark in row for mark in MARKS)
    side = page.split('<section id="side">')[1].split("</section>")[0]
    assert "<small>withheld</small>" in side
    for made in re.findall(r"<td[^>]*>[^/]*(?:<small>[^<]*</small>)*<small>withheld</small></td>", side):
        assert not any(mark in made for mark in MARKS)


def test_one_prompt_or_one_document_says_nothing_of_its_spread(tmp_path):
    for name, asked in (("prompt", {"prompts": 1}), ("document", {"documents": 1})):
        comparison, found, _, page = everything(written(tmp_path / name, **asked))
        assert fronts(comparison) == []
        for one in at_equal_utility(comparison):
            estimates = [e for at in one.methods for e in (at.toxicity, at.change)] + list(one.differences.values())
            assert all(math.isnan(e.low) and math.isnan(e.high) and not math.isnan(e.value) for e in estimates)
        assert all(math.isnan(row.interaction.over_prompts.low) for row in found.rows)
        assert not any(row.verdict.startswith(("better", "worse")) for row in found.rows)
        assert not any(mark in row for row in rows_of(page, "pareto", "mix") for mark in MARKS)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_where_all_scores_are_alike_no_difference_is_shown_and_none_is_certain(tmp_path, value):
    def alike(cell, matrix):
        matrix[:] = value

    comparison, found, _, page = everything(written(tmp_path, change=alike))
    treated = [row for row in comparison.rows if row.method is not None]
    assert all(row.toxicity_change.low < 0 < row.toxicity_change.high for row in treated)
    assert {one.toxicity for one in verdicts(comparison)} == {"not shown"}
    assert not any(row.verdict.startswith(("better", "worse")) for row in found.rows)
    assert not any(
        mark in row for section in ("pareto", "agreement") for row in rows_of(page, section, "mix") for mark in MARKS
    )


def test_a_far_strength_stands_in_no_order(tmp_path):
    """Strength 1 costs .05 nats; asked at .01, the straight line from the base says nothing of what lies there."""
    comparison = compare(written(tmp_path))
    (mix,) = (one for one in at_equal_utility(comparison, price=0.01) if one.base == "mix")
    assert {one.method: one.unranked for one in mix.methods} == {
        "prompting": None,  # +.025 is within four prices
        "iti": "no strength near the price (next +0.05)",
    }
    assert mix.differences == {}
    assert mix.methods[0].method == "prompting"
