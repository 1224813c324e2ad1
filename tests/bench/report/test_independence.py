"""A scorer that overlaps a fit is named as such wherever its numbers stand: terminal, page, tables, pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from detox.bench import compare
from detox.bench.report import read_results, report_data, write_report
from detox.cli import main
from tests.bench.report import synthetic

OVERLAPPING = {"first": ["jigsaw-toxic-comments"], "second": []}


@pytest.fixture(params=["first clean", "both overlap"])
def results(request, tmp_path, monkeypatch):
    """Methods that learned from ParaDetox, judged by scorers of which the first, or both, learned from the comments it is made of."""
    trained = OVERLAPPING if request.param == "first clean" else dict.fromkeys(OVERLAPPING, OVERLAPPING["first"])
    plain = synthetic.scorecard

    def with_cards(seed, **options):
        card = plain(seed, **options)
        cards = [{"name": name, "revision": "1", "trained_on": sets} for name, sets in trained.items()]
        return replace(card, protocol={**card.protocol, "scorer_cards": cards})

    monkeypatch.setattr(synthetic, "scorecard", with_cards)
    folder = synthetic.write_results(tmp_path / "results", hostile=False)
    for path in folder.glob("cells/*/cell.json"):
        cell = json.loads(path.read_text())
        if "fit" in cell:
            cell["fit"]["sources"] = {"datasets": ["paradetox"], "guides": [], "unknown": []}
            path.write_text(json.dumps(cell))
    return folder, "second" if request.param == "first clean" else "first"


def test_every_output_says_it(results, capsys):
    folder, headline = results
    data = report_data(read_results(folder), texts=False)
    assert data["headline"] == headline
    assert data["named"]["first"] == "first, not independent"
    write_report(folder, output=None, formats=("html", "csv", "latex", "markdown", "svg"), say=lambda line: None)
    for suffix in ("html", "md", "tex"):
        text = (folder / f"report.{suffix}").read_text()
        assert "first, not independent" in text, suffix
    page = (folder / "report.html").read_text()
    assert ("which is not independent of the methods" in page) == (headline == "first")
    assert main(["bench", "show", str(folder), "--scorer", "first"]) == 0
    said = capsys.readouterr().out
    assert "Toxicity (first, not independent) that it takes away" in said
    assert "toxicity (first, not independent)" in said
    told = (
        "first was asked for and is not independent, second is" if headline == "second" else "no scorer is independent"
    )
    assert told in said


def test_a_comparison_of_scorecards_is_told_by_its_user():
    from detox.data.fit_sources import FitSources

    cards = {name: synthetic.scorecard(number, effect=number) for number, name in enumerate(("base", "iti"))}
    judged = [{"name": name, "revision": "1", "trained_on": sets} for name, sets in OVERLAPPING.items()]
    told = {name: replace(card, protocol={**card.protocol, "scorer_cards": judged}) for name, card in cards.items()}
    sources = {"iti": FitSources(datasets=("paradetox",))}
    assert compare(told, sources=sources).headline == "second"
    forced = compare(told, sources=sources, scorer="first")
    assert forced.independence.independent is False
    assert "toxicity (first, not independent)" in str(forced)
